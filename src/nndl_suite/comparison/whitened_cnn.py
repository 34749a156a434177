"""A small CNN that learns CIFAR in minutes: its first layer whitens patches, its others begin as identities.

The ideas are those of speed runs on CIFAR (arXiv 2404.00498): a first layer made of the training patches' principal
components, so that learning starts from decorrelated inputs; kernels that at first pass their input on (dirac
initialisation, arXiv 1706.00388); and pooling right after the first convolution of a stage, where it saves most work.
"""

from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_PATCH = 2
_WIDTHS = (64, 256, 512)
WIDE = (128, 384, 512)
"""Stages of the wider network: 10.0 M parameters at 100 classes, and twice the work."""
_FLOOR = 5e-4
"""Added to the variances of patches, which are of normalised pixels: directions of less are noise."""
_LOGIT_SCALE = 1 / 8
"""At first 512 maxima of features of unit variance go into each logit; this keeps them of the order of one."""


@runtime_checkable
class FitsImages(Protocol):
    """A network with a layer that is made from training images, before it is trained."""

    def fit_images(self, images: Float[Tensor, "b 3 h w"]) -> None:
        """Make that layer from normalised, unaugmented training images."""
        ...


class WhitenedCNN(nn.Module):
    """Whitening, then three stages that halve the map: 7.4 M parameters at 100 classes, 0.44 GFLOP at 32 px.

    So it is with the widths that it has by itself.
    """

    def __init__(self, num_classes: int, widths: tuple[int, ...] = _WIDTHS) -> None:
        """Fresh weights from torch's global generator; the first layer is random until `fit_images` is called."""
        super().__init__()
        channels = 2 * 3 * _PATCH**2  # each component and its negative: an activation then loses neither side
        self.whiten = nn.Conv2d(3, channels, _PATCH)
        self.whiten.weight.requires_grad_(False)  # noqa: FBT003 - torch's signature
        self.stages = nn.Sequential(*(_Stage(a, b) for a, b in pairwise((channels, *widths))))
        self.head = nn.Linear(2 * widths[-1], num_classes, bias=False)

    @torch.no_grad()
    def fit_images(self, images: Float[Tensor, "b 3 h w"]) -> None:
        """Take the whitened principal components of the images' patches, and their negatives, as first layer."""
        self.whiten.weight.copy_(whitening_kernels(images, _PATCH))
        assert self.whiten.bias is not None
        nn.init.zeros_(self.whiten.bias)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of normalised images of any size from 16 px on."""
        maps = self.stages(F.silu(self.whiten(images)))  # [b, c, y, x]
        pooled = torch.cat([maps.amax(dim=(2, 3)), maps.mean(dim=(2, 3))], dim=1)
        return self.head(pooled) * _LOGIT_SCALE


def whitening_kernels(images: Float[Tensor, "b 3 h w"], patch: int) -> Float[Tensor, "k 3 p p"]:
    """Kernels whose responses to the images' patches are uncorrelated and of unit variance, each with its negative."""
    patches = F.unfold(images.double(), patch).transpose(0, 1).flatten(1)  # [3 p p, patches]
    variances, components = torch.linalg.eigh(torch.cov(patches))
    kernels = (components / (variances + _FLOOR).sqrt()).T.reshape(-1, 3, patch, patch)
    return torch.cat([kernels, -kernels]).to(images.dtype)


class _Stage(nn.Module):
    """Three convolutions, the first pooled, the last two with a shortcut."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(channels_in, channels)
        self.conv2, self.bn2 = _convolution(channels, channels)
        self.conv3, self.bn3 = _convolution(channels, channels)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d y x"]:
        maps = F.silu(self.bn1(F.max_pool2d(self.conv1(maps), 2)))
        inner = F.silu(self.bn2(self.conv2(maps)))
        return maps + F.silu(self.bn3(self.conv3(inner)))


def _convolution(channels_in: int, channels: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[: min(channels_in, channels)])  # the rest keeps its random kernels
    return conv, nn.BatchNorm2d(channels)
