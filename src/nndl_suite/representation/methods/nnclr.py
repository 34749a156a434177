"""NNCLR (arXiv 2104.14548): the positive of a view is the nearest past embedding of the other view."""

import torch
from jaxtyping import Float, Int64
from lightly.models.modules.heads import NNCLRPredictionHead, NNCLRProjectionHead
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.contrast import info_nce
from nndl_suite.representation.methods.gathering import gathered
from nndl_suite.representation.methods.method import ASYMMETRIC, Method, Recipe, SSLMethod
from nndl_suite.representation.methods.queue import EmbeddingQueue

EMBEDDING_DIM = 256
QUEUE = 16_384
"""A third of CIFAR's images; 98,304 in the paper, for ImageNet."""


class NNCLR(SSLMethod):
    """A backbone under a projector, a predictor, and a support set of past embeddings."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        assert recipe.temperature is not None
        width, self.temperature = recipe.width(backbone), recipe.temperature
        self.projector = NNCLRProjectionHead(backbone.feature_dim, width, EMBEDDING_DIM)
        self.predictor = NNCLRPredictionHead(EMBEDDING_DIM, 2 * width, EMBEDDING_DIM)
        self.queue = EmbeddingQueue(QUEUE, EMBEDDING_DIM)

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """Eq. 3, mean over both directions; log(b) is chance."""
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))
        predictions = self.predictor(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.detach().float(), dim=1)
            first, second = self._nearest(unit).chunk(2)
            p1, p2 = predictions.float().chunk(2)
            loss = (info_nce(first, p2, self.temperature) + info_nce(second, p1, self.temperature)) / 2
            if torch.is_grad_enabled():
                self.queue.push(gathered(unit.chunk(2)[0]))  # one view of each image, as in the paper
            return loss

    @torch.no_grad()
    def _nearest(self, unit: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return self.queue.rows[(unit @ self.queue.rows.T).argmax(dim=1)]


METHOD = Method(
    build=NNCLR,
    recipe=Recipe(
        optimiser="lars", learning_rate=0.4, weight_decay=1e-5, views=ASYMMETRIC, projector_dim=2048, temperature=0.2
    ),
)
