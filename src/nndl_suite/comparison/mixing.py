"""What CutMix and MixUp share: who is mixed with whom, how the share that is kept is drawn, what becomes of labels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import betaincinv  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from nndl_suite.errors import ConfigError

Partners = Callable[[int, torch.Generator | None], Int[Tensor, "b"]]


class Pairs(NamedTuple):
    """Labels of a mixed batch for losses that want two of them.

    `kept * loss(logits, labels) + (1 - kept) * loss(logits, partner_labels)`, each loss with `reduction="none"`.
    """

    labels: Int[Tensor, "b"]
    partner_labels: Int[Tensor, "b"]
    kept: Float[Tensor, "b"]
    """λ, the share of the image's own label, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """Who meets whom in a batch, and what is drawn once for all of it unless the user says otherwise."""

    partners: Partners
    per_sample: bool = False
    """Whether each image has a box or a λ of its own."""
    whole_batch: bool = False
    """Whether all images are mixed or none, even where each has its own box or λ."""

    def draws(self, b: int, *, per_sample: bool | None) -> int:
        """How many boxes or λ a batch of b images draws, unless the user said which."""
        return b if (self.per_sample if per_sample is None else per_sample) else 1


def _shuffled(b: int, generator: torch.Generator | None) -> Int[Tensor, "b"]:
    return torch.randperm(b, generator=generator)


def _previous(b: int, _: torch.Generator | None) -> Int[Tensor, "b"]:
    return torch.arange(b).roll(1)


def _mirrored(b: int, _: torch.Generator | None) -> Int[Tensor, "b"]:
    return torch.arange(b).flip(0)


CONVENTIONS: dict[str, Convention] = {
    "original": Convention(partners=_shuffled),
    "torchvision": Convention(partners=_previous),
    "timm": Convention(partners=_mirrored),
    "kornia": Convention(partners=_shuffled, per_sample=True, whole_batch=True),
}
"""By variant; both CutMix and MixUp of a library keep to the same one."""

UNCORRECTED = "uncorrected"
"""What a recipe may name besides: the course project's CutMix, which is no convention to recommend."""


def variants() -> tuple[str, ...]:
    """What a recipe may name."""
    return (*CONVENTIONS, UNCORRECTED)


def check_settings(*, alpha: float, probability: float, num_classes: int, generator: torch.Generator | None) -> None:
    """Refuse settings that no mix can have.

    Raises:
        ConfigError: a setting is out of range, or the generator is not on the CPU.
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"alpha must be a number > 0, got {alpha}; for no mixing set probability=0")
    if not 0 <= probability <= 1:
        raise ConfigError(f"probability must be in [0, 1], got {probability}")
    if num_classes < 1:
        raise ConfigError(f"num_classes must be >= 1, got {num_classes}")
    if generator is not None and generator.device.type != "cpu":
        raise ConfigError(
            f"generator must be on the CPU, got {generator.device}; images may be on any device all the same"
        )


def check_batch(images: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."], num_classes: int) -> None:
    """Refuse a batch that cannot be mixed.

    Raises:
        ConfigError: shapes do not fit, or a label is out of range (seen on the CPU only: asking would stall a GPU).
    """
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise ConfigError(
            "a mix wants images [b, c, h, w] and labels [b] with b >= 1, "
            f"got {list(images.shape)} and {list(labels.shape)}"
        )
    if labels.is_floating_point():
        raise ConfigError(f"labels must be class numbers, got {labels.dtype}; mix before labels are smoothed")
    if labels.device.type != "cpu":
        return
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise ConfigError(
            f"labels must be in [0, {num_classes}), got {int(labels[row])} in row {row}; set num_classes, or mend it"
        )


def draw_kept(
    n: int, *, alpha: float, probability: float, convention: Convention, generator: torch.Generator | None
) -> tuple[Bool[Tensor, "n"], Float[Tensor, "n"]]:
    """Whether each of n images is mixed, and its λ ~ Beta(alpha, alpha), float64.

    Two uniform numbers an image whatever the settings are: Beta comes by the inverse of its distribution function.
    """
    chance, u = torch.rand(2, n, dtype=torch.float64, generator=generator)
    if convention.whole_batch:
        chance = chance[:1].expand(n)
    kept = u if alpha == 1 else torch.as_tensor(betaincinv(alpha, alpha, u.numpy()))
    return chance < probability, kept


def to_device(drawn: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """What was drawn on the CPU, where the images are, without waiting for all that the device has yet to do."""
    return drawn.to(device, non_blocking=True)


def weighted_labels(
    labels: Int[Tensor, "b"],
    *,
    partner: Int[Tensor, "b"],
    kept: Shaped[Tensor, "n"],
    cut: Shaped[Tensor, "n"],
    num_classes: int,
) -> Shaped[Tensor, "b k"]:
    """`kept` at an image's own class plus `cut` at its partner's, of their type; n is b, or 1 for all images alike."""
    one_hot = labels[:, None] == torch.arange(num_classes, device=labels.device)  # [b, k]
    return kept[:, None] * one_hot + cut[:, None] * one_hot[partner]


def stacked(
    samples: Sequence[tuple[Tensor, int | Tensor]], generator: torch.Generator | None
) -> tuple[Shaped[Tensor, "b c h w"], Int[Tensor, "b"]]:
    """One batch of (image, label) samples, as a DataLoader's `collate_fn` gets them.

    Raises:
        ConfigError: a sample is no pair, or a DataLoader's worker would draw from its copy of a generator.
    """
    if generator is not None and get_worker_info() is not None:
        raise ConfigError(
            "a mix with its own generator cannot collate in a DataLoader's worker: each has a copy, and all copies "
            "draw the same; leave generator out and give one to the DataLoader, which seeds its workers from it"
        )
    if not samples or any(len(sample) != 2 for sample in samples):
        raise ConfigError(
            f"collate wants samples of (image, label), got {len(samples)} of "
            f"{sorted({len(sample) for sample in samples})} parts; write a collate_fn that calls the mix on a batch"
        )
    images, labels = default_collate(list(samples))
    return images, labels
