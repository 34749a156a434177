"""Bringing pixels to the scale that a network was trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import ConfigError

Channels = tuple[float, float, float]
"""One number for red, green and blue."""

_SAMPLE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""

    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        if not min(self.std) > 0:
            raise ConfigError(f"the standard deviations must be > 0, got {self.std}")

    def __call__(self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Normalised images, from bytes or from [0, 1]."""
        full = 1.0 if images.is_floating_point() else 255.0
        mean, std = (_channels(values, images.device) * full for values in (self.mean, self.std))
        return (images - mean).div_(std)


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""What ImageNet weights expect."""


def measure_normalisation(images: ImageSet) -> Normalisation:
    """The normalisation of an image set, from up to 10,000 of its images evenly spaced, rounded to 4 digits."""
    count = min(len(images), _SAMPLE)
    picks = torch.arange(count) * len(images) // count
    histogram = torch.zeros(3, 256, dtype=torch.float64)
    for chunk in picks.split(512):
        for channel, pixels in enumerate(images.store.read(chunk).transpose(0, 1)):
            histogram[channel] += torch.bincount(pixels.flatten(), minlength=256)
    shares = histogram / histogram.sum(dim=1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ levels  # [3]
    std = (shares @ levels.square() - mean.square()).clamp_min(0).sqrt().clamp_min(1 / 255)  # one colour: no 0 / 0
    return Normalisation(mean=_rounded(mean), std=_rounded(std))


def _channels(values: Channels, device: torch.device) -> Float[Tensor, "3 1 1"]:
    # not `device=`: that copy waits until the device has done all that it was told before
    return torch.tensor(values)[:, None, None].to(device, non_blocking=True)


def _rounded(channels: Float[Tensor, "3"]) -> Channels:
    red, green, blue = (round(value, 4) for value in channels.tolist())
    return red, green, blue
