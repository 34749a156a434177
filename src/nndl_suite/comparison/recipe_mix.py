"""The mix of images that a recipe asks for."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from nndl_suite.comparison.cutmix import CutMix, fill_boxes
from nndl_suite.comparison.cutmix_or_mixup import CutMixOrMixUp
from nndl_suite.comparison.mixing import CONVENTIONS, UNCORRECTED, draw_kept, to_device, weighted_labels
from nndl_suite.comparison.mixup import MixUp
from nndl_suite.comparison.recipe import Recipe

Mix = Callable[[UInt8[Tensor, "b 3 h w"], Int[Tensor, "b"]], tuple[Shaped[Tensor, "b 3 h w"], Float[Tensor, "b k"]]]


def mix_of(recipe: Recipe, num_classes: int, generator: torch.Generator) -> Mix:
    """CutMix, MixUp, or one of the two by chance; all draws come from the generator."""
    if recipe.cutmix_variant == UNCORRECTED:
        return lambda images, labels: uncorrected_cutmix(images, labels, recipe, num_classes, generator)
    either = recipe.cutmix_probability + recipe.mixup_probability
    cutmix = CutMix(
        alpha=recipe.cutmix_alpha,
        probability=either,
        num_classes=num_classes,
        variant=recipe.cutmix_variant,
        generator=generator,
    )
    if not recipe.mixup_probability:
        return cutmix
    mixup = MixUp(
        alpha=recipe.mixup_alpha,
        probability=either,
        num_classes=num_classes,
        variant=recipe.cutmix_variant,
        generator=generator,
    )
    by_chance = CutMixOrMixUp(cutmix=cutmix, mixup=mixup, cutmix_share=recipe.cutmix_probability / either)
    return lambda images, labels: by_chance(images / 255, labels)  # floats are in [0, 1] everywhere


def uncorrected_cutmix(
    images: UInt8[Tensor, "b 3 h w"],
    labels: Int[Tensor, "b"],
    recipe: Recipe,
    num_classes: int,
    generator: torch.Generator,
) -> tuple[UInt8[Tensor, "b 3 h w"], Float[Tensor, "b k"]]:
    """The course project's CutMix: the paper's boxes, but λ stays as drawn where a box was clipped at the border.

    On average its labels say that half of an image is its partner's, while 30 % of the pixels are.
    """
    convention = CONVENTIONS["original"]
    mixed, kept = draw_kept(
        1,
        alpha=recipe.cutmix_alpha,
        probability=recipe.cutmix_probability,
        convention=convention,
        generator=generator,
    )
    kept = torch.where(mixed, kept, 1.0)  # a λ of 1 has an empty box
    whole = CutMix(num_classes=num_classes, generator=generator)
    boxes = whole.boxes_of(kept, (images.shape[2], images.shape[3]))
    partner = convention.partners(len(images), generator)
    boxes, partner, share = (to_device(drawn, images.device) for drawn in (boxes, partner, kept.float()))
    targets = weighted_labels(labels, partner=partner, kept=share, cut=1 - share, num_classes=num_classes)
    return fill_boxes(images, boxes=boxes, partner=partner), targets
