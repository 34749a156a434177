"""BYOL (arXiv 2006.07733): predict a momentum teacher's embedding of the other view; there are no negatives."""

import torch
from jaxtyping import Float, Int64
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.method import ASYMMETRIC, Method, Recipe, SSLMethod
from nndl_suite.representation.methods.teacher import follow, rising_momentum, teacher_of

EMBEDDING_DIM = 256
MOMENTUM = 0.99
"""Of the teacher at the start (0.996 in the paper, whose runs take ten times the steps of CIFAR's); it rises to 1."""


class BYOL(SSLMethod):
    """A student under a predictor, and a teacher that follows it."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        width = recipe.width(backbone)
        self.projector = BYOLProjectionHead(backbone.feature_dim, width, EMBEDDING_DIM)
        self.predictor = BYOLPredictionHead(EMBEDDING_DIM, width, EMBEDDING_DIM)
        self.teacher = teacher_of(nn.Sequential(backbone, self.projector))

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """2 - 2 cos(prediction, target) of eq. 2, summed over both directions: in [0, 8], 4 for unrelated ones."""
        predictions = self.predictor(self.projector(self.backbone(views.flatten(0, 1))))
        with torch.no_grad():
            first, second = self.teacher(views.flatten(0, 1)).chunk(2)
        targets = torch.cat([second, first])
        return 4 - 4 * F.cosine_similarity(predictions.float(), targets.float(), dim=1).mean()

    def after_step(self, fraction: float) -> None:
        """The teacher follows."""
        follow(self.teacher, nn.Sequential(self.backbone, self.projector), rising_momentum(fraction, MOMENTUM))


METHOD = Method(
    build=BYOL,
    recipe=Recipe(optimiser="lars", learning_rate=1.0, weight_decay=1e-5, views=ASYMMETRIC, projector_dim=4096),
)
