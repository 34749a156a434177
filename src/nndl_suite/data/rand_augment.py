"""RandAugment (arXiv 1909.13719) of batches: torchvision's operations, drawn anew for every few images."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms import v2

from nndl_suite.training.processes import Part, whole
from nndl_suite.training.seeds import isolated_rng

_GROUP = 16
"""Images that share their operations. torchvision draws once a call, and a call for each image is slow."""


def rand_augment(
    images: UInt8[Tensor, "b 3 h w"], seed: int, *, operations: int, magnitude: int, part: Part | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Each group of 16 images through operations of its own.

    Args:
        images: On any device; not written to. A batch is shuffled, so groups have nothing in common.
        seed: Decides all draws; torch's global generator is left as it was.
        operations: An image, >= 1.
        magnitude: In [0, 30].
        part: Which rows of a batch the images are; None: all. Of groups that lie elsewhere one image is worked on, for
            the draws that come after.
    """
    part = part or whole(len(images))
    transform = v2.RandAugment(num_ops=operations, magnitude=magnitude)
    done: list[Tensor] = []
    with isolated_rng(seed):
        for start in range(0, part.stop, _GROUP):
            first, last = max(start, part.start), min(start + _GROUP, part.stop)
            if first < last:
                done.append(transform(images[first - part.start : last - part.start]))
            else:
                transform(images[:1])
    return torch.cat(done)
