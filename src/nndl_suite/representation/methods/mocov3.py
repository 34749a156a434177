"""MoCo v3 (arXiv 2104.02057): a predictor on the queries, a momentum encoder for the keys, the batch as negatives."""

import torch
from jaxtyping import Float, Int64
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor, nn

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.contrast import info_nce
from nndl_suite.representation.methods.method import ASYMMETRIC, Method, Recipe, SSLMethod
from nndl_suite.representation.methods.teacher import follow, rising_momentum, teacher_of

EMBEDDING_DIM = 256
MOMENTUM = 0.99
"""Of the key encoder at the start, as in the paper; it rises to 1."""


class MoCoV3(SSLMethod):
    """A query encoder under a predictor, and a key encoder that follows it."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        assert recipe.temperature is not None
        width, self.temperature = recipe.width(backbone), recipe.temperature
        self.projector = MoCoProjectionHead(backbone.feature_dim, width, EMBEDDING_DIM, num_layers=2, batch_norm=True)
        self.predictor = MoCoProjectionHead(EMBEDDING_DIM, width, EMBEDDING_DIM, num_layers=2, batch_norm=True)
        self.teacher = teacher_of(nn.Sequential(backbone, self.projector))

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """ctr(q1, k2) + ctr(q2, k1) of the paper's algorithm 1, each 2 tau times InfoNCE; chance is 4 tau log(b)."""
        queries = self.predictor(self.projector(self.backbone(views.flatten(0, 1))))
        with torch.no_grad():
            keys = self.teacher(views.flatten(0, 1))
        with torch.autocast(queries.device.type, enabled=False):
            (q1, q2), (k1, k2) = queries.float().chunk(2), keys.float().chunk(2)
            both = info_nce(q1, k2, self.temperature) + info_nce(q2, k1, self.temperature)
            return 2 * self.temperature * both

    def after_step(self, fraction: float) -> None:
        """The key encoder follows."""
        student = nn.Sequential(self.backbone, self.projector)
        follow(self.teacher, student, rising_momentum(fraction, MOMENTUM))


METHOD = Method(
    build=MoCoV3,
    recipe=Recipe(
        optimiser="lars", learning_rate=0.3, weight_decay=1e-6, views=ASYMMETRIC, projector_dim=4096, temperature=0.2
    ),
)
