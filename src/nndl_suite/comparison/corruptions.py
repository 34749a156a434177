"""Five simple corruptions of uint8 images, each at one middling severity.

After Hendrycks and Dietterich (https://arxiv.org/abs/1903.12261), with the third of the five severities that they chose
for images of 32 pixels (CIFAR-10-C). Accuracies are not comparable with published ones on CIFAR-10-C: that set has 15
corruptions at all five severities, and other random draws. JPEG is not among these: it is encoded image by image.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

Draw = Callable[[torch.Size], Float[Tensor, "b 3 h w"]]
"""Standard normal numbers, on the CPU, of this shape."""
Corruption = Callable[[UInt8[Tensor, "b 3 h w"], Draw], UInt8[Tensor, "b 3 h w"]]
"""Images on any device, and what draws for them; the images are not written to."""

_NOISE, _BLUR, _CONTRAST, _BRIGHTNESS, _PIXELS = 0.08, 0.7, 0.4, 0.15, 0.85


def noise(images: UInt8[Tensor, "b 3 h w"], draw: Draw) -> UInt8[Tensor, "b 3 h w"]:
    """Gaussian noise of standard deviation 0.08 (of 1) on every value."""
    return _bytes(images / 255 + _NOISE * draw(images.shape).to(images.device))


def blur(images: UInt8[Tensor, "b 3 h w"], _: Draw) -> UInt8[Tensor, "b 3 h w"]:
    """A Gaussian of standard deviation 0.7 pixels for every 32 pixels of the side."""
    sigma = _BLUR * images.shape[-1] / 32
    reach = 2 * round(4 * sigma + 0.5) + 1  # four deviations on both sides, an odd number of pixels
    size = min(reach, 2 * images.shape[-1] - 1)  # what reflection at the border can fill
    return _bytes(gaussian_blur(images / 255, [size, size], [sigma, sigma]))


def contrast(images: UInt8[Tensor, "b 3 h w"], _: Draw) -> UInt8[Tensor, "b 3 h w"]:
    """Four tenths of the distance to the mean that each image has in each channel."""
    values = images / 255
    mean = values.mean(dim=(2, 3), keepdim=True)
    return _bytes(mean + _CONTRAST * (values - mean))


def brightness(images: UInt8[Tensor, "b 3 h w"], _: Draw) -> UInt8[Tensor, "b 3 h w"]:
    """0.15 more of V in HSV, at most 1, with hue and saturation kept; black becomes grey."""
    values = images / 255
    v = values.amax(dim=1, keepdim=True)  # [b, 1, h, w]
    brighter = (v + _BRIGHTNESS).clamp(max=1)
    return _bytes(torch.where(v > 0, values * (brighter / v.clamp(min=1 / 255)), brighter))


def pixelation(images: UInt8[Tensor, "b 3 h w"], _: Draw) -> UInt8[Tensor, "b 3 h w"]:
    """Shrunk to 0.85 of the side by averages over areas, and enlarged again by repeating pixels."""
    height, width = images.shape[-2:]
    small = F.interpolate(images / 255, (int(_PIXELS * height), int(_PIXELS * width)), mode="area")
    return _bytes(F.interpolate(small, (height, width), mode="nearest-exact"))


CORRUPTIONS: dict[str, Corruption] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "brightness": brightness,
    "pixelation": pixelation,
}


def _bytes(values: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    return values.mul(255).round_().clamp_(0, 255).to(torch.uint8)
