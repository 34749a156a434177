"""SimCLR (arXiv 2002.05709): two views of an image are to be more alike than views of different images."""

import torch
from jaxtyping import Float, Int64
from lightly.models.modules.heads import SimCLRProjectionHead
from lightly.utils import dist
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.gathering import gathered
from nndl_suite.representation.methods.method import SYMMETRIC, Method, Recipe, SSLMethod

EMBEDDING_DIM = 128
"""Of the projector's output, as in the paper."""


class SimCLR(SSLMethod):
    """A backbone under SimCLR's projector and loss."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        assert recipe.temperature is not None
        self.projector = SimCLRProjectionHead(backbone.feature_dim, recipe.width(backbone), EMBEDDING_DIM)
        self._temperature = recipe.temperature

    def forward(
        self, views: Float[Tensor, "2 b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """The NT-Xent loss (eq. 1), over all 2b anchors; log(2b - 1) is chance.

        Both views go through the backbone as one batch, so they share its batch statistics.
        """
        embeddings = self.projector(self.backbone(views.flatten(0, 1)))  # [2b, d]
        with torch.autocast(embeddings.device.type, enabled=False):  # similarities / 0.1 need float32's digits
            first, second = embeddings.float().chunk(2)
            return nt_xent(first, second, self._temperature)


def nt_xent(first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], temperature: float) -> Float[Tensor, ""]:
    """The loss of two views' embeddings (eq. 1), with negatives from every process there is.

    An anchor's likeness to itself is filled with -inf, not left out: to pick the others by a mask, one has to wait for
    the device.
    """
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    everyone = torch.cat([gathered(first), gathered(second)])  # [2B, d]
    b, half = len(first), len(everyone) // 2
    mine = torch.arange(b, device=first.device) + b * dist.rank()
    own, partner = torch.cat([mine, mine + half]), torch.cat([mine + half, mine])
    logits = torch.cat([first, second]) @ everyone.T / temperature
    return F.cross_entropy(logits.scatter(1, own[:, None], -torch.inf), partner)


METHOD = Method(
    build=SimCLR,
    # the paper's temperature for CIFAR; SGD in the place of its LARS, which batches of 512 do not need
    recipe=Recipe(
        optimiser="sgd", learning_rate=0.25, weight_decay=5e-4, views=SYMMETRIC, projector_dim=None, temperature=0.5
    ),
)
