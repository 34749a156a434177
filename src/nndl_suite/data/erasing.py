"""Random erasing (arXiv 1708.04896) of batches: a rectangle of noise in place of a part of the image."""

import math

import torch
from jaxtyping import UInt8
from torch import Tensor

from nndl_suite.training.processes import Part, whole

_AREA = (0.02, 1 / 3)
_ASPECT = (0.3, 1 / 0.3)
"""Height over width."""


def erase(
    images: UInt8[Tensor, "b c h w"], generator: torch.Generator, *, probability: float, part: Part | None = None
) -> Tensor:
    """New images, of which each has by chance one rectangle of uniform noise.

    Its area is uniform in [0.02, 1/3] of the image, its aspect uniform in its logarithm in [0.3, 3.3]; a side that is
    longer than the image is cut to it, where the paper draws again.

    Args:
        images: On any device.
        generator: On the CPU.
        probability: That an image is erased from, in [0, 1].
        part: Which rows of a batch the images are; None: all. All of the batch's noise is drawn in any case.
    """
    b, c, h, w = images.shape
    part = part or whole(b)
    chance, area, aspect, y, x = torch.rand(5, part.total, generator=generator)[:, part.rows]
    area = (_AREA[0] + area * (_AREA[1] - _AREA[0])) * h * w
    aspect = torch.exp(math.log(_ASPECT[0]) + aspect * math.log(_ASPECT[1] / _ASPECT[0]))
    height = (area * aspect).sqrt().round().clamp(1, h)
    width = (area / aspect).sqrt().round().clamp(1, w)
    height = torch.where(chance < probability, height, 0)
    top, left = (y * (h - height + 1)).floor(), (x * (w - width + 1)).floor()
    rows = _between(torch.arange(h), top, height).to(images.device, non_blocking=True)
    columns = _between(torch.arange(w), left, width).to(images.device, non_blocking=True)
    noise = torch.randint(256, (part.total, c, h, w), dtype=torch.uint8, generator=generator)[part.rows]
    noise = noise.to(images.device, non_blocking=True)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], noise, images)


def _between(places: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (places >= start[:, None]) & (places < (start + length)[:, None])  # [b, places]
