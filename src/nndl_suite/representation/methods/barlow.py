"""Barlow Twins (arXiv 2103.03230): the cross-correlation of two views' embeddings is to be the identity."""

import torch
from jaxtyping import Float, Int64
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from torch import Tensor

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.gathering import gathered
from nndl_suite.representation.methods.method import ASYMMETRIC, Method, Recipe, SSLMethod

REDUNDANCY = 5e-3
"""lambda; the paper's."""
SCALE = 0.1
"""Of the loss: keeps its gradients in the reach of LARS and mixed precision. It is a factor on the rate, no more."""


class BarlowTwins(SSLMethod):
    """A backbone under a projector whose outputs are to be decorrelated."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        width = recipe.width(backbone)
        self.projector = BarlowTwinsProjectionHead(backbone.feature_dim, width, width)
        self.loss = BarlowTwinsLoss(REDUNDANCY)

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """SCALE times eq. 1, over the statistics of the whole batch."""
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))
        with torch.autocast(embeddings.device.type, enabled=False):
            first, second = (gathered(half) for half in embeddings.float().chunk(2))
            return SCALE * self.loss(first, second)


METHOD = Method(
    build=BarlowTwins,
    recipe=Recipe(optimiser="lars", learning_rate=0.3, weight_decay=1e-4, views=ASYMMETRIC, projector_dim=2048),
)
