"""Parts of an image set, each within the next larger one."""

import torch
from jaxtyping import Int64
from torch import Tensor

from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import ConfigError
from nndl_suite.training.seeds import generator_for


def subset_size(total: int, fraction: float, *, least: int) -> int:
    """How many images a fraction of a set is.

    Raises:
        ConfigError: the fraction is not in (0, 1], or gives fewer than `least` images.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"a fraction must be in (0, 1], got {fraction}")
    size = round(fraction * total)
    if size < least:
        raise ConfigError(
            f"a fraction of {fraction:g} of {total} images is {size}, less than one batch of {least}; "
            "raise the fraction or lower the batch size"
        )
    return size


def nested_order(count: int, labels: Int64[Tensor, "n"] | None, *, seed: int) -> Int64[Tensor, "n"]:
    """An order of all images of which every beginning is a random subset: the smaller always within the larger.

    With labels every beginning is stratified too: of m images of a class among n, the first k hold m * k / n to within
    about one. Each image gets a place in (0, 1), those of a class evenly spaced after a random start, and all are
    sorted by it.

    Args:
        count: How many images.
        labels: Their classes, or None for a uniform draw.
        seed: Decides the order.
    """
    generator = generator_for(seed, "nested subsets")
    shuffled = torch.randperm(count, generator=generator)
    if labels is None:
        return shuffled
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # shuffled within each class, one class after the other
    sizes = torch.bincount(labels)
    starts = torch.rand(len(sizes), generator=generator, dtype=torch.float64)
    rank = torch.arange(count) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # within its class
    place = (rank + starts.repeat_interleave(sizes)) / sizes.repeat_interleave(sizes)
    return by_class[place.argsort(stable=True)]


def nested_subset(images: ImageSet, size: int, *, seed: int) -> ImageSet:
    """The first `size` images of `nested_order`, in the set's own order; the set itself where that is all of it."""
    if size == len(images):
        return images
    return images.subset(nested_order(len(images), images.labels, seed=seed)[:size].sort().values)
