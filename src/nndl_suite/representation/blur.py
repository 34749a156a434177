"""Gaussian blur with one width per image, equal to torchvision's `gaussian_blur`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def blur_radius(size: int) -> int:
    """Pixels that a blur reaches to either side: SimCLR's kernel, a tenth of the image wide (23 at 224, 3 at 32).

    As its code rounds it, `size // 10 // 2`; at least 1, where there are neighbours.
    """
    return min(max(size // 20, 1), size - 1)


def gaussian_taps(sigma: Float[Tensor, "b"], radius: int) -> Float[Tensor, "b taps"]:
    """The weights of the `2 * radius + 1` nearest pixels, which sum to 1; sigma 0 leaves a pixel alone."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype)
    narrow = sigma.clamp_min(1e-3)[:, None]  # so narrow that the neighbours' weights are 0
    weights = torch.exp(-0.5 * (distance / narrow).square())
    return weights / weights.sum(dim=1, keepdim=True)


def blur(images: Float[Tensor, "b c s s"], sigma: Float[Tensor, "b"]) -> Float[Tensor, "b c s s"]:
    """Each image blurred by its own sigma (pixels; 0: not at all), borders reflected."""
    b, c, size, _ = images.shape
    radius = blur_radius(size)
    taps = gaussian_taps(sigma, radius).repeat_interleave(c, dim=0)[:, None]  # [b * c, 1, taps]
    planes = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]  # each plane is a channel of one image
    planes = F.conv2d(planes, taps[:, :, None, :], groups=b * c)
    return F.conv2d(planes, taps[:, :, :, None], groups=b * c).view(b, c, size, size)
