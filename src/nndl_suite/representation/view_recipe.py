"""What may happen to an image on its way to a view."""

import math
from dataclasses import dataclass, replace

from nndl_suite.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRecipe:
    """What may happen to an image on its way to a view; the defaults are SimCLR's for CIFAR.

    They have no blur: at 32 px it removes what little there is (SimCLR appendix B.9 leaves it out too).
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
    blur: float = 0.0
    """Probability of a Gaussian blur, with a kernel a tenth of the image wide (`blur_radius`): at 32 px three pixels,
    so that a large sigma is the mean of these and no more."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Least and greatest width of that blur, drawn uniformly; in pixels of the image, SimCLR's at 224."""
    solarise: float = 0.0
    """Probability that what is brighter than half is inverted."""

    def strengthened(self, factor: float) -> "ViewRecipe":
        """The same with colour changes so many times as strong, as far as they go."""
        return replace(
            self,
            brightness=min(1.0, self.brightness * factor),
            contrast=min(1.0, self.contrast * factor),
            saturation=min(1.0, self.saturation * factor),
            hue=min(0.5, self.hue * factor),
        )

    def __post_init__(self) -> None:
        for name, (low, high), most in (("scale", self.scale, 1.0), ("ratio", self.ratio, math.inf)):
            if not 0 < low <= high <= most:
                raise ConfigError(f"{name} must be 0 < low <= high <= {most}, got ({low}, {high})")
        low, high = self.blur_sigma
        if not 0 < low <= high < math.inf:
            raise ConfigError(f"blur_sigma must be 0 < low <= high, got ({low}, {high})")
        if not self.ratio[0] <= 1 <= self.ratio[1]:
            raise ConfigError(f"ratio must include 1, the whole image, got {self.ratio}")
        for name, value in (
            ("flip", self.flip),
            ("jitter", self.jitter),
            ("grey", self.grey),
            ("blur", self.blur),
            ("solarise", self.solarise),
        ):
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
