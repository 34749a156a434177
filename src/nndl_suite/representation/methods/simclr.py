"""SimCLR (arXiv 2002.05709): two views of an image are to be more alike than views of different images."""

import torch
from jaxtyping import Float
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn

from nndl_suite.models.backbones import Backbone

EMBEDDING_DIM = 128
"""Of the projector's output, as in the paper."""


class SimCLR(nn.Module):
    """A backbone under SimCLR's projector and loss."""

    num_views = 2

    def __init__(self, backbone: Backbone, temperature: float) -> None:
        """Put a fresh projector on a backbone; its hidden layer is as wide as the features."""
        super().__init__()
        self.backbone = backbone
        self.projector = SimCLRProjectionHead(backbone.feature_dim, backbone.feature_dim, EMBEDDING_DIM)
        self.loss = NTXentLoss(temperature, gather_distributed=True)  # negatives from every device there is

    def forward(self, views: Float[Tensor, "2 b 3 h w"]) -> Float[Tensor, ""]:
        """The NT-Xent loss (eq. 1), over all 2b anchors; log(2b - 1) is chance.

        Both views go through the backbone as one batch, so they share its batch statistics.
        """
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))  # [2b, d]
        with torch.autocast(embeddings.device.type, enabled=False):  # similarities / 0.1 need float32's digits
            first, second = embeddings.float().chunk(2)
            return self.loss(first, second)
