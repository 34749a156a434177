"""The training recipe that both arms share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

from nndl_suite.comparison.mixing import UNCORRECTED, variants
from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.normalisation import Channels
from nndl_suite.training.schedules import ScheduleName

OptimiserName = Literal["adamw", "sgd", "muon", "adam"]
_LARGEST_MAGNITUDE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The two settings whose best values differ most between architectures."""

    rate: float = 1e-3
    """Peak learning rate, for the recipe's batch size as it is: nothing is rescaled."""
    decay: float = 0.05
    """Weight decay of matrices and kernels; biases, norms, tokens and positions are not decayed (by Adam they are)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"rate must be a number > 0, got {self.rate}")
        if not (math.isfinite(self.decay) and self.decay >= 0):
            raise ConfigError(f"decay must be a number >= 0, got {self.decay}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an arm is trained. Both arms get the same, but for `cnn` and `transformer` where they are stated."""

    optimiser: OptimiserName = "adamw"
    """"adamw"; "sgd" with Nesterov momentum 0.9; "muon" (AdamW where a parameter is no matrix or kernel); "adam"."""
    rates: Rates = field(default_factory=Rates)
    cnn: Rates | None = None
    """Rates of the CNN alone, chosen on a validation split; None takes the common ones."""
    transformer: Rates | None = None
    """Rates of the Transformer alone; None takes the common ones."""
    batch_size: int = 256
    schedule: ScheduleName = "cosine"
    """How the rate falls from its peak: "cosine" and "linear" to 0, "constant" not at all."""
    warmup: float = 0.05
    """Share of the run in which the rate rises from 0 to its peak."""
    clip_norm: float | None = None
    """The largest norm of all gradients together; None leaves them as they are."""
    ema_decay: float | None = None
    """Weights that are validated and tested are a running mean with this decay a step; None takes the last ones."""
    label_smoothing: float = 0.1
    crop_padding: int = 4
    """Black pixels on each side before a crop of the old size; 0 leaves crops out."""
    flip: bool = True
    """Mirror every other image, by chance."""
    randaugment_operations: int = 0
    """Of RandAugment (arXiv 1909.13719) an image; 0 leaves it out."""
    randaugment_magnitude: int = 9
    """Of 30."""
    erasing_probability: float = 0.0
    """Chance that a rectangle of an image becomes noise (arXiv 1708.04896)."""
    cutmix_alpha: float = 1.0
    cutmix_probability: float = 0.5
    """Chance that a batch is mixed by CutMix; 0 leaves it out."""
    cutmix_variant: str = "original"
    """Of `CutMix`, or "uncorrected": λ stays as drawn although the box was clipped, as in the course project."""
    mixup_alpha: float = 0.8
    mixup_probability: float = 0.0
    """Chance that a batch is mixed by MixUp; with CutMix's it must not be over 1, a batch is mixed by one of them."""
    resolutions: tuple[tuple[float, int], ...] = ()
    """(share of the run, pixels): from when on training images are resized to which size, as in
    `((0.0, 20), (0.4, 24), (0.7, 32))`; empty leaves them as they are. Scores are always of the full size."""
    test_mirrored: bool = False
    """What is tested is the mean of an image's logits and its mirror's. Validation, which takes training time, is of
    the image alone."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, a C++ compiler on the CPU."""
    mean: Channels | None = None
    """Per channel, of pixels in [0, 1]; None measures the training images."""
    std: Channels | None = None

    def __post_init__(self) -> None:
        _check_learning(self)
        _check_augmentation(self)
        _check_mixes(self)
        _check_resolutions(self.resolutions)
        if (self.mean is None) != (self.std is None):
            raise ConfigError("give mean and std together, or neither to measure the training images")
        if self.mean is not None and not all(map(math.isfinite, self.mean)):
            raise ConfigError(f"mean must be a number in each channel, got {self.mean}")
        if self.std is not None and not all(0 < value < math.inf for value in self.std):
            raise ConfigError(f"std must be > 0 in each channel, got {self.std}")

    def size_at(self, fraction: float) -> int | None:
        """Pixels of training images at this share of the run; None for their own size."""
        return next((size for start, size in reversed(self.resolutions) if fraction >= start), None)


def _check_learning(recipe: Recipe) -> None:
    if recipe.optimiser not in get_args(OptimiserName):
        raise unknown_name("optimiser", recipe.optimiser, get_args(OptimiserName))
    if recipe.schedule not in get_args(ScheduleName):
        raise unknown_name("schedule", recipe.schedule, get_args(ScheduleName))
    if recipe.batch_size < 1:
        raise ConfigError(f"batch_size must be >= 1, got {recipe.batch_size}")
    if not 0 <= recipe.warmup < 1:
        raise ConfigError(f"warmup is a share of the run in [0, 1), got {recipe.warmup}")
    if recipe.clip_norm is not None and not recipe.clip_norm > 0:
        raise ConfigError(f"clip_norm must be > 0, got {recipe.clip_norm}; None clips nothing")
    if recipe.ema_decay is not None and not 0 < recipe.ema_decay < 1:
        raise ConfigError(f"ema_decay must be in (0, 1), got {recipe.ema_decay}; None averages nothing")
    if not 0 <= recipe.label_smoothing < 1:
        raise ConfigError(f"label_smoothing must be in [0, 1), got {recipe.label_smoothing}")


def _check_augmentation(recipe: Recipe) -> None:
    if recipe.crop_padding < 0:
        raise ConfigError(f"crop_padding must be >= 0 pixels, got {recipe.crop_padding}")
    if recipe.randaugment_operations < 0:
        raise ConfigError(f"randaugment_operations must be >= 0, got {recipe.randaugment_operations}")
    if not 0 <= recipe.randaugment_magnitude <= _LARGEST_MAGNITUDE:
        raise ConfigError(
            f"randaugment_magnitude must be in [0, {_LARGEST_MAGNITUDE}], got {recipe.randaugment_magnitude}"
        )
    if not 0 <= recipe.erasing_probability <= 1:
        raise ConfigError(f"erasing_probability must be in [0, 1], got {recipe.erasing_probability}")


def _check_mixes(recipe: Recipe) -> None:
    if recipe.cutmix_variant not in variants():
        raise unknown_name("CutMix variant", recipe.cutmix_variant, variants())
    for mix in ("cutmix", "mixup"):
        alpha, probability = getattr(recipe, f"{mix}_alpha"), getattr(recipe, f"{mix}_probability")
        if not (math.isfinite(alpha) and alpha > 0):
            raise ConfigError(f"{mix}_alpha must be a number > 0, got {alpha}; for none set probability 0")
        if not 0 <= probability <= 1:
            raise ConfigError(f"{mix}_probability must be in [0, 1], got {probability}")
    if recipe.cutmix_probability + recipe.mixup_probability > 1:
        raise ConfigError(
            "cutmix_probability and mixup_probability must not be over 1 together, got "
            f"{recipe.cutmix_probability} and {recipe.mixup_probability}; a batch is mixed by one of them"
        )
    if recipe.mixup_probability and recipe.cutmix_variant == UNCORRECTED:
        raise ConfigError(f"cutmix_variant {UNCORRECTED!r} has no MixUp; set mixup_probability to 0")


def _check_resolutions(resolutions: Sequence[tuple[float, int]]) -> None:
    for start, size in resolutions:
        if not 0 <= start < 1:
            raise ConfigError(f"a resolution begins at a share of the run in [0, 1), got {start} for {size} px")
        if size < 1:
            raise ConfigError(f"a resolution must be >= 1 px, got {size}")
    if any(after[0] <= before[0] for before, after in pairwise(resolutions)):
        raise ConfigError(f"resolutions must begin one after the other, got {resolutions}")


DEFAULT_RECIPE = Recipe()
"""AdamW, crops, flips, CutMix on half of the batches: what ViTs on small images need and CNNs do not mind."""
