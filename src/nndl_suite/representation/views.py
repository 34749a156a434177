"""SimCLR's random views (arXiv 2002.05709, appendix A) of a whole batch at once, on any device.

Every image draws its own crop, flip, colour strengths, order of colour operations, blur and solarisation. The images
stay uint8 tensors up to here, so there are no workers and no PIL: one resampling makes crop, resize and flip. On a CPU
a compiled kernel does one image after the other in the cache (`view_kernel`); elsewhere each operation is a few kernels
for the whole batch. Both do the same to the same draws.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from nndl_suite.errors import ConfigError, DataError
from nndl_suite.representation.blur import blur
from nndl_suite.representation.colour import blend, shift_hue, solarise, to_grey
from nndl_suite.representation.view_draws import ViewDraws, draw_view
from nndl_suite.representation.view_kernel import render_on_cpu
from nndl_suite.representation.view_recipe import ViewRecipe
from nndl_suite.training.processes import Part, whole


def random_views(
    images: UInt8[Tensor, "b 3 s s"], recipes: Sequence[ViewRecipe], *, generator: Generator
) -> Float[Tensor, "v b 3 s s"]:
    """Views of the images' own size, in [0, 1]; `views[i, j]` shows `images[j]` by `recipes[i]`.

    Their memory is channels-last, which convolutions like best.

    Args:
        images: Square images.
        recipes: What may happen to them, one for each view.
        generator: On the images' device; all randomness comes from it.

    Raises:
        DataError: the images are not as they must be.
        ConfigError: there is no recipe.
    """
    return views_of_part(images, recipes, whole(len(images)), generator=generator)


def views_of_part(
    images: UInt8[Tensor, "b 3 s s"], recipes: Sequence[ViewRecipe], part: Part, *, generator: Generator
) -> Float[Tensor, "v b 3 s s"]:
    """As `random_views`, of images that are a part of a batch: they look as they would among the others."""
    b, size = len(images), images.shape[-1]
    if images.dtype != torch.uint8 or images.shape != (b, 3, size, size) or not images.numel():
        raise DataError(
            f"views want uint8 images [b, 3, s, s] with b and s >= 1, got {images.dtype} {list(images.shape)}; "
            f"repeat a single channel three times, and cut images to squares"
        )
    if not recipes:
        raise ConfigError("views want at least one recipe, got none")
    views = images.new_empty((len(recipes), b, size, size, 3), dtype=torch.float32).permute(0, 1, 4, 2, 3)
    for view, recipe in zip(views, recipes, strict=True):
        draws = draw_view(part.total, size, recipe, generator).of(part)
        if images.device.type == "cpu":
            render_on_cpu(images, draws, view)
        else:
            view.copy_(render(images.to(torch.float32).div_(255), draws))
    return views


def render(pixels: Float[Tensor, "b 3 s s"], draws: ViewDraws) -> Float[Tensor, "b 3 s s"]:
    """One view of each image, pixels in [0, 1], as it was drawn.

    The hue shift costs more than all the rest, so it is done once, on those images at a time that have it in the same
    place among the other operations.
    """
    if not draws.of_whole_batch:
        return _render_part(pixels, draws)
    rendered: list[Tensor] = []
    for place, group in enumerate(draws.by_hue_place()):
        chosen = group.clamp(
            max=len(pixels) - 1
        )  # the indices past the last fill up the groups, and are left out below
        view = crop_and_flip(pixels[chosen], draws.boxes[chosen], draws.flips[chosen])
        view = to_grey(_colour(view, draws, chosen, hue_place=place), draws.grey[chosen])
        if draws.sigma is not None:
            view = blur(view, draws.sigma[chosen].to(pixels.dtype))
        rendered.append(solarise(view, draws.solar[chosen]))
    return torch.cat(rendered)[draws.ranks[: len(pixels)]]


def _render_part(pixels: Float[Tensor, "b 3 s s"], draws: ViewDraws) -> Float[Tensor, "b 3 s s"]:
    """As `render`, of a part of a batch, in which no place of the hue shift has a known number of images.

    All have their hue shifted at once; what comes before it and what comes after are rounds of their own, in which the
    other images' operations have a strength of 1 and change nothing.
    """
    view = crop_and_flip(pixels, draws.boxes, draws.flips)
    strengths, place = draws.strengths.to(view.dtype), draws.hue_places
    for after in (False, True):
        if after:
            view = shift_hue(view, draws.hue.to(view.dtype))
        for i in range(3):
            strength = torch.where((place <= i) == after, strengths[:, i], 1.0)
            kind = draws.kinds[:, i]
            view = blend(view, strength, contrast=kind == 1, saturation=kind == 2)
    view = to_grey(view, draws.grey)
    if draws.sigma is not None:
        view = blur(view, draws.sigma.to(pixels.dtype))
    return solarise(view, draws.solar)


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


def _colour(
    images: Float[Tensor, "q 3 s s"], draws: ViewDraws, chosen: Int64[Tensor, "q"], *, hue_place: int
) -> Float[Tensor, "q 3 s s"]:
    """Brightness, contrast and saturation in each image's order, with the hue shift before the `hue_place`-th."""
    kinds, strengths = draws.kinds[chosen], draws.strengths[chosen].to(images.dtype)
    for i in range(4):
        if i == hue_place:
            images = shift_hue(images, draws.hue[chosen].to(images.dtype))
        if i < 3:
            kind = kinds[:, i]
            images = blend(images, strengths[:, i], contrast=kind == 1, saturation=kind == 2)
    return images
