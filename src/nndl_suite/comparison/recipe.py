"""The training recipe that both arms share."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.optim import Optimizer

from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.normalisation import Channels

OptimiserName = Literal["adamw", "sgd"]
_MOMENTUM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The two settings whose best values differ most between architectures."""

    rate: float = 1e-3
    """Peak learning rate, for the recipe's batch size as it is: nothing is rescaled."""
    decay: float = 0.05
    """Weight decay of matrices and kernels; biases, norms, tokens and positions are not decayed."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"rate must be a number > 0, got {self.rate}")
        if not (math.isfinite(self.decay) and self.decay >= 0):
            raise ConfigError(f"decay must be a number >= 0, got {self.decay}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an arm is trained. Both arms get the same, but for `cnn` and `transformer` where they are stated."""

    optimiser: OptimiserName = "adamw"
    """"adamw", or "sgd" with Nesterov momentum 0.9."""
    rates: Rates = field(default_factory=Rates)
    cnn: Rates | None = None
    """Rates of the CNN alone, chosen on a validation split; None takes the common ones."""
    transformer: Rates | None = None
    """Rates of the Transformer alone; None takes the common ones."""
    batch_size: int = 256
    warmup: float = 0.05
    """Share of the run in which the rate rises from 0; then it falls to 0 on half a cosine."""
    label_smoothing: float = 0.1
    crop_padding: int = 4
    """Black pixels on each side before a crop of the old size; 0 leaves crops out."""
    flip: bool = True
    """Mirror every other image, by chance."""
    cutmix_alpha: float = 1.0
    cutmix_probability: float = 0.5
    """Chance that a batch is mixed; 0 leaves CutMix out."""
    mean: Channels | None = None
    """Per channel, of pixels in [0, 1]; None measures the training images."""
    std: Channels | None = None

    def __post_init__(self) -> None:
        if self.optimiser not in get_args(OptimiserName):
            raise unknown_name("optimiser", self.optimiser, get_args(OptimiserName))
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be >= 1, got {self.batch_size}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup is a share of the run in [0, 1), got {self.warmup}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.crop_padding < 0:
            raise ConfigError(f"crop_padding must be >= 0 pixels, got {self.crop_padding}")
        if not (math.isfinite(self.cutmix_alpha) and self.cutmix_alpha > 0):
            raise ConfigError(f"cutmix_alpha must be a number > 0, got {self.cutmix_alpha}; for none set probability 0")
        if not 0 <= self.cutmix_probability <= 1:
            raise ConfigError(f"cutmix_probability must be in [0, 1], got {self.cutmix_probability}")
        if (self.mean is None) != (self.std is None):
            raise ConfigError("give mean and std together, or neither to measure the training images")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ConfigError(f"std must be > 0 in each channel, got {self.std}")


DEFAULT_RECIPE = Recipe()
"""AdamW, crops, flips, CutMix on half of the batches: what ViTs on small images need and CNNs do not mind."""


def make_optimiser(network: nn.Module, name: OptimiserName, rates: Rates) -> Optimizer:
    """timm's optimiser: one-dimensional parameters, and those that a network names, are not decayed."""
    if name == "sgd":
        return create_optimizer_v2(network, "nesterov", lr=rates.rate, weight_decay=rates.decay, momentum=_MOMENTUM)
    return create_optimizer_v2(network, "adamw", lr=rates.rate, weight_decay=rates.decay)
