"""SimCLR's random views (arXiv 2002.05709, appendix A) of a whole batch at once, on any device.

Every image draws its own crop, flip, colour strengths and order of colour operations. The images stay uint8 tensors up
to here, so there are no workers and no PIL: one resampling makes crop, resize and flip.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from nndl_suite.errors import ConfigError
from nndl_suite.representation.colour import blend, shift_hue, to_grey

_CROP_TRIES = 10
_CPU_CHUNK = 64
"""Views adjusted together on a CPU: at 32 px their intermediate results fit its cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRecipe:
    """What may happen to an image on its way to a view; the defaults are SimCLR's for CIFAR.

    There is no blur: at 32 px it removes what little there is (SimCLR appendix B.9 leaves it out too).
    """

    scale: tuple[float, float] = (0.2, 1.0)
    """Least and greatest share of the image's area that a crop keeps."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and greatest width / height of a crop, drawn log-uniformly."""
    flip: float = 0.5
    """Probability of a mirror image."""
    jitter: float = 0.8
    """Probability of colour jitter; the next four are its strengths, torchvision's `ColorJitter` arguments."""
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    """Share of the colour circle, in [0, 0.5]."""
    grey: float = 0.2
    """Probability of losing all colour."""

    def __post_init__(self) -> None:
        for name, (low, high), most in (("scale", self.scale, 1.0), ("ratio", self.ratio, math.inf)):
            if not 0 < low <= high <= most:
                raise ConfigError(f"{name} must be 0 < low <= high <= {most}, got ({low}, {high})")
        if not self.ratio[0] <= 1 <= self.ratio[1]:
            raise ConfigError(f"ratio must include 1, the whole image, got {self.ratio}")
        for name, value in (("flip", self.flip), ("jitter", self.jitter), ("grey", self.grey)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is a probability in [0, 1], got {value}")
        for name, value, most in (
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("saturation", self.saturation, 1.0),
            ("hue", self.hue, 0.5),
        ):
            if not 0 <= value <= most:
                raise ConfigError(f"{name} must be in [0, {most}], got {value}")


def random_views(
    images: UInt8[Tensor, "b 3 s s"], recipe: ViewRecipe, *, generator: Generator, num_views: int = 2
) -> Float[Tensor, "v b 3 s s"]:
    """Views of the images' own size, in [0, 1]; `views[i, j]` shows `images[j]`.

    Args:
        images: Square images.
        recipe: What may happen to them.
        generator: On the images' device; all randomness comes from it.
        num_views: How many views of each image.
    """
    b, total = len(images), num_views * len(images)
    # The views are worked on in random order, so that a chunk of them is a random sample and may share
    # the one thing that is not drawn per image: the position of the hue shift among the colour operations.
    order = torch.randperm(total, generator=generator, device=images.device)
    boxes = random_boxes(total, images.shape[-1], recipe, generator)
    flips = torch.rand(total, generator=generator, device=images.device) < recipe.flip
    jitter = _draw_jitter(total, recipe, generator)
    grey = torch.rand(total, generator=generator, device=images.device) < recipe.grey
    pixels = images.to(torch.float32).div_(255)

    views = torch.empty(total, *images.shape[1:], device=images.device)
    chunks = 4 * math.ceil(total / (4 * _CPU_CHUNK)) if images.device.type == "cpu" else 4
    for position, chosen in enumerate(order.tensor_split(chunks)):
        cropped = crop_and_flip(pixels[chosen % b], boxes[chosen], flips[chosen])
        coloured = _colour(cropped, jitter.select(chosen), hue_position=position % 4)
        views[chosen] = to_grey(coloured, grey[chosen])
    return views.view(num_views, *images.shape)


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


def crop_and_flip(
    images: Float[Tensor, "b 3 s s"], boxes: Int64[Tensor, "b 4"], flips: Bool[Tensor, "b"]
) -> Float[Tensor, "b 3 s s"]:
    """Each image's box resized to the full size, bilinear, mirrored where `flips` says so.

    A box is never larger than the image, so nothing is shrunk and antialiasing has nothing to do. Like torchvision,
    which resizes the cut-out box, no pixel outside the box is blended in.
    """
    size = images.shape[-1]
    centres = torch.arange(size, device=images.device) + 0.5
    corner, sides = boxes[:, :2].to(images.dtype), boxes[:, 2:].to(images.dtype)
    at = corner[..., None] + sides[..., None] * centres / size  # [b, 2, s], pixels, centres at +0.5
    at = torch.minimum(torch.maximum(at, corner[..., None] + 0.5), (corner + sides)[..., None] - 0.5)
    y, x = (at * (2 / size) - 1).unbind(dim=1)  # [b, s] each, -1 and 1 at the image's edges
    x = torch.where(flips[:, None], x.flip(1), x)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True, slots=True)
class _Jitter:
    """Colour strengths in the order in which they are applied."""

    strengths: Float[Tensor, "b 3"]
    """Of brightness, contrast and saturation, in each image's own order."""
    kinds: Int64[Tensor, "b 3"]
    """0 brightness, 1 contrast, 2 saturation."""
    hue: Float[Tensor, "b"]

    def select(self, chosen: Int64[Tensor, "b"]) -> "_Jitter":
        return _Jitter(self.strengths[chosen], self.kinds[chosen], self.hue[chosen])


def _draw_jitter(count: int, recipe: ViewRecipe, generator: Generator) -> _Jitter:
    """Strengths as torchvision's ColorJitter draws them; 1, and 0 for the hue, leave an image alone."""
    device = generator.device
    on = torch.rand(count, 1, generator=generator, device=device) < recipe.jitter
    draws = 2 * torch.rand(count, 4, generator=generator, device=device) - 1
    reach = torch.tensor([recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue], device=device)
    swings = torch.where(on, draws * reach, 0.0)
    kinds = torch.rand(count, 3, generator=generator, device=device).argsort(dim=1)  # a random order for each image
    return _Jitter(strengths=1 + swings[:, :3].gather(1, kinds), kinds=kinds, hue=swings[:, 3])


def _colour(images: Float[Tensor, "b 3 s s"], jitter: _Jitter, *, hue_position: int) -> Float[Tensor, "b 3 s s"]:
    """Brightness, contrast and saturation in each image's order, with the hue shift before the `hue_position`-th."""
    for i in range(4):
        if i == hue_position:
            images = shift_hue(images, jitter.hue)
        if i < 3:
            kind = jitter.kinds[:, i]
            images = blend(images, jitter.strengths[:, i], contrast=kind == 1, saturation=kind == 2)
    return images
