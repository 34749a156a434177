"""What chance decides about one view of every image in a batch, drawn at once from one generator."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from nndl_suite.representation.view_recipe import ViewRecipe
from nndl_suite.training.processes import Part

_CROP_TRIES = 10
_PLACES = 4
"""Of the hue shift: before, between and after the other three colour operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewDraws:
    """Everything random about one view of each of b images, in the order in which it happens to them."""

    boxes: Int64[Tensor, "b 4"]
    """Crops: top, left, height, width in pixels."""
    flips: Bool[Tensor, "b"]
    strengths: Float[Tensor, "b 3"]
    """Of brightness, contrast and saturation, in each image's own order; 1 changes nothing."""
    kinds: Int64[Tensor, "b 3"]
    """That order: 0 brightness, 1 contrast, 2 saturation."""
    hue: Float[Tensor, "b"]
    """Shift as a share of the colour circle; 0 changes nothing."""
    ranks: Int64[Tensor, "m"]
    """A random order of m places, b rounded up to a multiple of four. Whose rank is in the first quarter has its hue
    shifted before the other three operations, in the second quarter after the first of them, and so on."""
    grey: Bool[Tensor, "b"]
    sigma: Float[Tensor, "b"] | None
    """Of the blur in pixels, 0 for images that stay sharp; None where none of them is blurred."""
    solar: Bool[Tensor, "b"]
    """Which are solarised."""
    places: int
    """m, also where only some of the images are here, and of the ranks only theirs."""

    @property
    def hue_places(self) -> Int64[Tensor, "b"]:
        """How many of an image's other three colour operations come before its hue shift."""
        return self.ranks[: len(self.hue)] * _PLACES // self.places

    @property
    def of_whole_batch(self) -> bool:
        """Whether all images are here that were drawn for."""
        return len(self.ranks) == self.places

    def of(self, part: Part) -> "ViewDraws":
        """Those of some of the images."""
        if part.is_whole:
            return self
        rows = part.rows
        return ViewDraws(
            boxes=self.boxes[rows],
            flips=self.flips[rows],
            strengths=self.strengths[rows],
            kinds=self.kinds[rows],
            hue=self.hue[rows],
            ranks=self.ranks[rows],
            grey=self.grey[rows],
            sigma=None if self.sigma is None else self.sigma[rows],
            solar=self.solar[rows],
            places=self.places,
        )

    def by_hue_place(self) -> list[Int64[Tensor, "q"]]:
        """The images by where their hue is shifted: four groups of one size, filled up with indices past the last."""
        return list(self.ranks.argsort().split(len(self.ranks) // _PLACES))


def draw_view(count: int, size: int, recipe: ViewRecipe, generator: Generator) -> ViewDraws:
    """Draw one view of each of `count` >= 1 images of `size` pixels square, on the generator's device."""
    jitter = _happens(count, recipe.jitter, generator)[:, None]
    swings = 2 * torch.rand(count, 4, generator=generator, device=generator.device) - 1
    reach = torch.tensor([recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue])  # as torchvision's
    reach = reach.to(generator.device, non_blocking=True)  # not `device=`: that copy waits for the device
    swings = torch.where(jitter, swings * reach, 0.0)
    kinds = torch.rand(count, 3, generator=generator, device=generator.device).argsort(dim=1)
    places = _PLACES * math.ceil(count / _PLACES)
    return ViewDraws(
        boxes=random_boxes(count, size, recipe, generator),
        flips=_happens(count, recipe.flip, generator),
        strengths=1 + swings[:, :3].gather(1, kinds),
        kinds=kinds,
        hue=swings[:, 3].contiguous(),
        ranks=torch.randperm(places, generator=generator, device=generator.device),
        grey=_happens(count, recipe.grey, generator),
        sigma=_random_sigma(count, recipe, generator),
        solar=_happens(count, recipe.solarise, generator),
        places=places,
    )


def random_boxes(count: int, size: int, recipe: ViewRecipe, generator: Generator) -> Int64[Tensor, "count 4"]:
    """Crop boxes (top, left, height, width) in pixels of square images, distributed as torchvision's RandomResizedCrop.

    It draws area and ratio up to ten times until the box fits, and else keeps the whole image.
    """
    draws = torch.rand(count, _CROP_TRIES, 2, generator=generator, device=generator.device)
    low, high = recipe.scale
    area = (low + (high - low) * draws[..., 0]) * size**2
    shortest, widest = math.log(recipe.ratio[0]), math.log(recipe.ratio[1])
    ratio = torch.exp(shortest + (widest - shortest) * draws[..., 1])
    sides = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()], dim=-1)  # [n, tries, 2]
    fits = ((sides > 0) & (sides <= size)).all(dim=-1)
    first = fits.to(torch.uint8).argmax(dim=1)  # the first that fits; 0 where none does
    chosen = sides[torch.arange(count, device=sides.device), first]
    chosen = torch.where(fits.any(dim=1, keepdim=True), chosen, float(size))  # [n, 2]
    room = size - chosen + 1
    corner = (torch.rand(count, 2, generator=generator, device=generator.device) * room).floor()
    return torch.cat([torch.minimum(corner, room - 1), chosen], dim=1).to(torch.int64)


def _random_sigma(count: int, recipe: ViewRecipe, generator: Generator) -> Float[Tensor, "count"] | None:
    if not recipe.blur:
        return None
    low, high = recipe.blur_sigma
    sigma = low + (high - low) * torch.rand(count, generator=generator, device=generator.device)
    return torch.where(_happens(count, recipe.blur, generator), sigma, 0.0)


def _happens(count: int, probability: float, generator: Generator) -> Bool[Tensor, "count"]:
    return torch.rand(count, generator=generator, device=generator.device) < probability
