"""What a recipe does to training images, one after the other: crop, flip, RandAugment, erasing, size."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.comparison.recipe import Recipe
from nndl_suite.data.augmentation import crop_and_flip
from nndl_suite.data.erasing import erase
from nndl_suite.data.rand_augment import rand_augment
from nndl_suite.training.processes import Part


def augment(
    images: UInt8[Tensor, "b 3 h w"],
    recipe: Recipe,
    generator: torch.Generator,
    *,
    seed: int,
    part: Part | None = None,
) -> UInt8[Tensor, "b 3 h w"]:
    """Everything that the recipe does to single images; they keep their size.

    Args:
        images: On any device; not written to.
        recipe: Says what.
        generator: On the CPU; for crops, flips and erasing.
        seed: For RandAugment, which draws from torch's global generator; that is left as it was.
        part: Which rows of a batch the images are; None: all.
    """
    images = crop_and_flip(images, generator, padding=recipe.crop_padding, flip=recipe.flip, part=part)
    if recipe.randaugment_operations:
        images = rand_augment(
            images,
            seed,
            operations=recipe.randaugment_operations,
            magnitude=recipe.randaugment_magnitude,
            part=part,
        )
    if recipe.erasing_probability:
        images = erase(images, generator, probability=recipe.erasing_probability, part=part)
    return images


def resized(images: Float[Tensor, "b 3 h w"], size: int | None) -> Float[Tensor, "b 3 s s"]:
    """Images of this size, smoothed before they shrink; None and their own size leave them as they are."""
    if size is None or size == images.shape[-1]:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
