"""VICReg (arXiv 2105.04906): embeddings that agree, vary in every dimension, and do not repeat one another."""

import torch
from jaxtyping import Float, Int64
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from torch import Tensor

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.gathering import gathered
from nndl_suite.representation.methods.method import ASYMMETRIC, Method, Recipe, SSLMethod


class VICReg(SSLMethod):
    """A backbone under a three-layer projector (the paper's expander, built as Barlow Twins' is)."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        width = recipe.width(backbone)
        self.projector = BarlowTwinsProjectionHead(backbone.feature_dim, width, width)
        self.loss = VICRegLoss()  # 25, 25 and 1, the paper's

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """Eq. 6, over the statistics of the whole batch."""
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))
        with torch.autocast(embeddings.device.type, enabled=False):
            first, second = (gathered(half) for half in embeddings.float().chunk(2))
            return self.loss(first, second)


METHOD = Method(
    build=VICReg,
    recipe=Recipe(optimiser="lars", learning_rate=0.3, weight_decay=1e-4, views=ASYMMETRIC, projector_dim=2048),
)
