"""SimSiam (arXiv 2011.10566): predict the embedding of the other view, which takes no gradient."""

import torch
from jaxtyping import Float, Int64
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.method import SYMMETRIC, Method, Recipe, SSLMethod


class SimSiam(SSLMethod):
    """A backbone under a projector and a predictor whose hidden layer is a quarter as wide."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        width = recipe.width(backbone)
        self.projector = SimSiamProjectionHead(backbone.feature_dim, width, width)
        self.predictor = SimSiamPredictionHead(width, max(1, width // 4), width)

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """The negative cosine of prediction and the other view's embedding (eq. 2), the mean over both: in [-1, 1]."""
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))
        predictions = self.predictor(embeddings)
        first, second = embeddings.detach().chunk(2)
        targets = torch.cat([second, first])
        return -F.cosine_similarity(predictions.float(), targets.float(), dim=1).mean()


METHOD = Method(
    build=SimSiam,
    # the paper's for CIFAR (appendix D): SGD, rate 0.03, decay 5e-4; its projector has two layers there, ours three
    recipe=Recipe(optimiser="sgd", learning_rate=0.03, weight_decay=5e-4, views=SYMMETRIC, projector_dim=2048),
)
