"""Colour adjustments with one strength per image, equal to torchvision's `adjust_*` on float images.

torchvision and its v2 draw one strength for a whole batch; these take a tensor of them.
Images are [b, 3, h, w] in [0, 1], strengths [b].
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue: ITU-R 601-2, rounded as torchvision rounds it."""


def luma(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """The brightness that the eye sees."""
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def blend(
    images: Float[Tensor, "b 3 h w"],
    strength: Float[Tensor, "b"],
    *,
    contrast: Bool[Tensor, "b"],
    saturation: Bool[Tensor, "b"],
) -> Float[Tensor, "b 3 h w"]:
    """Adjust brightness, or where a mask says so contrast or saturation.

    All three are `strength * image + (1 - strength) * other`, clamped: other is black for brightness, the mean luma
    for contrast and the pixel's own luma for saturation. So each image of a batch may take another of the three.
    """
    grey = luma(images)
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    other = torch.addcmul(mean * _per_image(contrast), grey, _per_image(saturation.to(images.dtype)))
    return torch.lerp(other, images, _per_image(strength)).clamp_(0, 1)


def shift_hue(images: Float[Tensor, "b 3 h w"], shift: Float[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
    """Turn the hue by `shift` of the colour circle, each in [-0.5, 0.5]; HSV's value and saturation stay.

    A channel is value - chroma * clamp(2 - |t|, 0, 1), with t the hue's distance in sixths of the circle from the
    channel's opposite colour: the closed form of the way to HSV and back.
    """
    red, green, blue = images.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sixths = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, (blue - red).add_(chroma, alpha=2), (red - green).add_(chroma, alpha=4)),
    )
    sixths = sixths.div_(chroma.clamp_min(1e-12)).add_(_per_image(shift), alpha=6)  # grey has no hue; chroma 0 hides it
    # cyan, magenta, yellow; not `device=`: that copy waits until the device has done all that it was told before
    opposite = torch.tensor([3.0, 5.0, 1.0], dtype=images.dtype).to(images.device, non_blocking=True)
    t = sixths - opposite[:, None, None]  # [b, 3, h, w]
    t = t.sub_(torch.round(t / 6), alpha=6).abs_()  # distance round the circle, in [0, 3]
    return torch.addcmul(value, chroma, t.neg_().add_(2).clamp_(0, 1), value=-1)


def to_grey(images: Float[Tensor, "b 3 h w"], chosen: Bool[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
    """Only the luma, in all three channels, for the chosen images."""
    return torch.where(_per_image(chosen), luma(images), images)


def solarise(images: Float[Tensor, "b 3 h w"], chosen: Bool[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
    """Invert what is brighter than half, for the chosen images (BYOL, arXiv 2006.07733, appendix B)."""
    return torch.where(_per_image(chosen) & (images >= 0.5), 1 - images, images)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
