"""Crops and mirror images of batches of uint8 images, as supervised training on small images has them."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.training.processes import Part, whole


def crop_and_flip(
    images: UInt8[Tensor, "b c h w"],
    generator: torch.Generator,
    *,
    padding: int,
    flip: bool,
    part: Part | None = None,
) -> UInt8[Tensor, "b c h w"]:
    """A random crop of each image padded with black, mirrored by chance; one gather for the batch.

    Args:
        images: On any device; not written to.
        generator: On the CPU; draws one offset and one coin for each image of the batch.
        padding: Pixels on each side.
        flip: Whether to mirror at all.
        part: Which rows of a batch the images are; None: all.
    """
    b, _, h, w = images.shape
    part = part or whole(b)
    shift = torch.randint(2 * padding + 1, (2, part.total, 1), generator=generator)[:, part.rows]
    mirrored = (torch.rand(part.total, 1, generator=generator)[part.rows] < 0.5) & flip
    rows = shift[0] + torch.arange(h)  # [b, h]
    columns = torch.where(mirrored, torch.arange(w).flip(0), torch.arange(w)) + shift[1]  # [b, w]
    # A blocking copy would wait for everything that the device has yet to do.
    rows, columns = (places.to(images.device, non_blocking=True) for places in (rows, columns))
    padded = F.pad(images, (padding,) * 4)
    image = torch.arange(b, device=images.device)[:, None, None]
    # Indexing around the channels puts them last in memory, which is what convolutions want.
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
