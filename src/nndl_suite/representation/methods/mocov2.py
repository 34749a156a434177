"""MoCo v2 with both views as queries (arXiv 2003.04297): keys of past batches, kept in a queue, are the negatives."""

import torch
from jaxtyping import Float, Int64
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.gathering import gathered
from nndl_suite.representation.methods.method import SYMMETRIC, Method, Recipe, SSLMethod
from nndl_suite.representation.methods.queue import EmbeddingQueue
from nndl_suite.representation.methods.teacher import follow, teacher_of

EMBEDDING_DIM = 128
QUEUE = 4096
"""Keys kept: as many as the authors' own CIFAR example keeps; ImageNet's 65,536 are more than CIFAR has images."""
MOMENTUM = 0.99
"""Of the key encoder, as in that example."""


class MoCoV2(SSLMethod):
    """A query encoder that learns, and a key encoder that follows it."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        assert recipe.temperature is not None
        self.temperature = recipe.temperature
        self.projector = MoCoProjectionHead(backbone.feature_dim, recipe.width(backbone), EMBEDDING_DIM)
        self.teacher = teacher_of(nn.Sequential(backbone, self.projector))
        self.queue = EmbeddingQueue(QUEUE, EMBEDDING_DIM)

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """The mean over both directions of eq. 1 of MoCo (arXiv 1911.05722); log(1 + QUEUE) is chance."""
        queries = self.projector(self.backbone(views.flatten(0, 1)))
        with torch.no_grad():
            keys = self.teacher(views.flatten(0, 1))
        with torch.autocast(queries.device.type, enabled=False):
            q, k = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
            first, second = k.chunk(2)
            positives = (q * torch.cat([second, first])).sum(dim=1, keepdim=True)  # each query's other view
            negatives = q @ self.queue.rows.clone().T  # backward wants them as they were before the push
            logits = torch.cat([positives, negatives], dim=1) / self.temperature
            loss = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))
            if torch.is_grad_enabled():
                self.queue.push(torch.cat([gathered(first), gathered(second)]))
            return loss

    def after_step(self, fraction: float) -> None:
        """The key encoder follows."""
        follow(self.teacher, nn.Sequential(self.backbone, self.projector), MOMENTUM)


METHOD = Method(
    build=MoCoV2,
    recipe=Recipe(
        optimiser="sgd", learning_rate=0.3, weight_decay=1e-4, views=SYMMETRIC, projector_dim=2048, temperature=0.2
    ),
)
