"""LeJEPA (arXiv 2511.08544): views that agree, embeddings distributed as an isotropic Gaussian; nothing else."""

import torch
from jaxtyping import Float, Int64
from lightly.loss.lejepa_loss import SIGReg, lejepa_invariance_loss
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.method import Method, Recipe, SSLMethod
from nndl_suite.representation.views import ViewRecipe

EMBEDDING_DIM = 64
SIGREG = 0.05
"""lambda, the weight of the Gaussian term; the authors' default."""
DIRECTIONS = 1024
"""Random directions in which a batch is compared with the Gaussian, drawn anew for each step."""
VIEWS = 4


class LeJEPA(SSLMethod):
    """A backbone under a projector, and the two terms of the loss."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        width = recipe.width(backbone)
        self.projector = ProjectionHead(
            [
                (backbone.feature_dim, width, nn.BatchNorm1d(width), nn.ReLU()),
                (width, width, nn.BatchNorm1d(width), nn.ReLU()),
                (width, EMBEDDING_DIM, None, None),
            ]
        )
        self.sigreg = SIGReg(num_vectors=DIRECTIONS, gather_distributed=True)

    def forward(
        self, views: Float[Tensor, "v b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """lambda * SIGReg + (1 - lambda) * distance of the views from their mean (section 5.1), all views alike."""
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))
        with torch.autocast(embeddings.device.type, enabled=False):
            each = embeddings.float().unflatten(0, views.shape[:2])  # [v, b, d]
            agreement = lejepa_invariance_loss(all_proj=each, global_proj=each)
            return SIGREG * self.sigreg(each) + (1 - SIGREG) * agreement


METHOD = Method(
    build=LeJEPA,
    recipe=Recipe(
        optimiser="adamw", learning_rate=1e-3, weight_decay=5e-2, views=(ViewRecipe(),) * VIEWS, projector_dim=2048
    ),
    exact_views=None,
)
