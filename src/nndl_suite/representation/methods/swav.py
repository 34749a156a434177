"""SwAV (arXiv 2006.09882): predict which prototypes the other view was assigned to, all being used alike."""

import torch
from jaxtyping import Float, Int64
from lightly.loss import SwaVLoss
from lightly.models.modules.heads import SwaVProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.method import SYMMETRIC, Method, Recipe, SSLMethod

EMBEDDING_DIM = 128
PROTOTYPES = 1000
"""Ten for each class of CIFAR-100; ImageNet's 3,000 are three for each of its."""
FROZEN = 0.01
"""Share of the run in which the prototypes stand still: the paper's one epoch of a hundred."""


class SwAV(SSLMethod):
    """A backbone under a projector and unit prototypes."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        assert recipe.temperature is not None
        self.projector = SwaVProjectionHead(backbone.feature_dim, recipe.width(backbone), EMBEDDING_DIM)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(PROTOTYPES, EMBEDDING_DIM), dim=1))
        self.loss = SwaVLoss(recipe.temperature, sinkhorn_gather_distributed=True)

    def forward(
        self, views: Float[Tensor, "v b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """The swapped prediction of eq. 2, mean over views; log(PROTOTYPES) is chance."""
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.float(), dim=1)
            prototypes = F.normalize(self.prototypes, dim=1)  # on the sphere at every step, not only after it
            scores = unit @ (prototypes.detach() if fraction < FROZEN else prototypes).T
            return self.loss(list(scores.chunk(len(views))), []).squeeze()


METHOD = Method(
    build=SwAV,
    recipe=Recipe(
        optimiser="lars", learning_rate=0.6, weight_decay=1e-6, views=SYMMETRIC, projector_dim=2048, temperature=0.1
    ),
    exact_views=None,
    rests=True,
)
