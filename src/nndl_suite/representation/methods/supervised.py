"""Not self-supervised: the labels themselves, as the line that methods without them are measured against."""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.method import Method, Recipe, SSLMethod
from nndl_suite.representation.views import ViewRecipe


class Supervised(SSLMethod):
    """A backbone under a linear classifier."""

    def __init__(self, backbone: Backbone, recipe: Recipe, num_classes: int) -> None:
        super().__init__(backbone)
        self.classifier = nn.Linear(backbone.feature_dim, num_classes)

    def forward(
        self, views: Float[Tensor, "v b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """Cross-entropy, mean over views; log(classes) is chance."""
        assert labels is not None
        return F.cross_entropy(self.classifier(self.backbone(views.flatten(0, 1))).float(), labels.repeat(len(views)))


METHOD = Method(
    build=Supervised,
    recipe=Recipe(
        optimiser="sgd",
        learning_rate=0.2,
        weight_decay=5e-4,
        views=(ViewRecipe(scale=(0.5, 1.0), jitter=0.0, grey=0.0),),  # crops and flips, no colours
        projector_dim=None,
    ),
    exact_views=None,
    labels=True,
)
