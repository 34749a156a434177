"""CutMix (arXiv 1905.04899): paste a box of another image in, and mix the labels by the pixels that are left."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from scipy.special import betaincinv  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from nndl_suite.errors import ConfigError, unknown_name

Partners = Callable[[int, torch.Generator | None], Int[Tensor, "b"]]


def _shuffled(b: int, generator: torch.Generator | None) -> Int[Tensor, "b"]:
    return torch.randperm(b, generator=generator)


def _previous(b: int, _: torch.Generator | None) -> Int[Tensor, "b"]:
    return torch.arange(b).roll(1)


_PARTNERS: dict[str, Partners] = {"original": _shuffled, "torchvision": _previous}
"""Which image each image takes its box from, by variant. The boxes of these two are the same (see `clipped_boxes`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutMix:
    """Mixes a batch: `images, targets = mix(images, labels)`.

    The share of a label is the exact share of its pixels after the box was clipped at the border, in every variant.
    The variants differ in who is mixed with whom: "original" takes partners by a random permutation, as the paper's
    code does (an image may meet itself); "torchvision" takes the image before it, as
    `torchvision.transforms.v2.CutMix` does, which has no `probability`: give 1.0 to repeat it.

    Raises:
        ConfigError: a setting is out of range, or the variant is unknown.
    """

    alpha: float = 1.0
    """λ ~ Beta(alpha, alpha) is the share that is kept before clipping; 1 is the uniform distribution."""
    probability: float = 0.5
    """The chance that a batch (`per_sample`: an image) is mixed at all."""
    num_classes: int = 100
    variant: str = "original"
    """"original" or "torchvision"."""
    per_sample: bool = False
    """Draw a box and a λ for each image instead of one for the batch."""
    generator: torch.Generator | None = None
    """The source of all draws, on the CPU so that a draw never waits for a GPU; None is torch's global one."""

    def __post_init__(self) -> None:
        if self.variant not in _PARTNERS:
            raise unknown_name("CutMix variant", self.variant, _PARTNERS)
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"alpha must be a number > 0, got {self.alpha}; for no mixing set probability=0")
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"probability must be in [0, 1], got {self.probability}")
        if self.num_classes < 1:
            raise ConfigError(f"num_classes must be >= 1, got {self.num_classes}")
        if self.generator is not None and self.generator.device.type != "cpu":
            raise ConfigError(
                f"generator must be on the CPU, got {self.generator.device}; images may be on any device all the same"
            )

    def __call__(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Mix a batch of images, of any type and on any device, with itself.

        Returns:
            New images (the input is not written to), and float32 targets whose rows sum to 1.

        Raises:
            ConfigError: shapes do not fit, or a label is out of range (seen on the CPU only: asking would stall a GPU).
        """
        if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
            raise ConfigError(
                "CutMix wants images [b, c, h, w] and labels [b] with b >= 1, "
                f"got {list(images.shape)} and {list(labels.shape)}"
            )
        if labels.is_floating_point():
            raise ConfigError(f"labels must be class numbers, got {labels.dtype}; mix before labels are smoothed")
        if labels.device.type == "cpu" and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ConfigError(
                f"labels must be in [0, {self.num_classes}), got {int(labels.min())} to {int(labels.max())}; "
                "set num_classes"
            )
        b, _, h, w = images.shape
        boxes = self.draw_boxes(b if self.per_sample else 1, (h, w))
        partner = _PARTNERS[self.variant](b, self.generator)
        return mix_boxes(images, labels, boxes=boxes, partner=partner, num_classes=self.num_classes)

    def draw_boxes(self, n: int, size: tuple[int, int]) -> Int[Tensor, "n 4"]:
        """Boxes for n images of (height, width): top, left, bottom, right, the last two exclusive.

        The box of an image that is not mixed is empty.
        """
        h, w = size
        applied, u = torch.rand(2, n, dtype=torch.float64, generator=self.generator)
        centre_y = torch.randint(h, (n,), generator=self.generator)
        centre_x = torch.randint(w, (n,), generator=self.generator)
        # One uniform number a λ, whatever alpha is: Beta by the inverse of its distribution function.
        kept = u if self.alpha == 1 else torch.as_tensor(betaincinv(self.alpha, self.alpha, u.numpy()))
        boxes = clipped_boxes(kept, torch.stack([centre_y, centre_x], dim=1), size)
        return torch.where((applied < self.probability)[:, None], boxes, 0)


def clipped_boxes(kept: Float[Tensor, "n"], centres: Int[Tensor, "n 2"], size: tuple[int, int]) -> Int[Tensor, "n 4"]:
    """Boxes of sides √(1-λ)·size round `centres` (y, x), cut off at the border of an image of (height, width).

    A side is rounded to half widths: the paper's code takes `int(side) // 2`, torchvision `int(side / 2)`, which is the
    same number, so that an unclipped side is even in both.

    Returns:
        Rows of top, left, bottom, right; the last two are exclusive.
    """
    sides = torch.tensor(size, device=kept.device)  # [2]
    half = ((1 - kept.double()).sqrt()[:, None] * sides / 2).long()  # [n, 2]
    start = (centres - half).clamp(min=0)
    stop = torch.minimum(centres + half, sides)
    return torch.cat([start, stop], dim=1)


def mix_boxes(
    images: Shaped[Tensor, "b c h w"],
    labels: Int[Tensor, "b"],
    *,
    boxes: Int[Tensor, "n 4"],
    partner: Int[Tensor, "b"],
    num_classes: int,
) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, "b k"]]:
    """Fill each image's box from its partner and share out its target by pixels; n is b, or 1 for one box for all."""
    h, w = images.shape[-2:]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # Both shares come from whole numbers of pixels: 1 - share would round once more.
    cut, kept = (
        share.to(images.device)[:, None] for share in ((area / (h * w)).float(), ((h * w - area) / (h * w)).float())
    )
    boxes, partner = boxes.to(images.device), partner.to(images.device)
    top, left, bottom, right = boxes[:, :, None].unbind(dim=1)  # each [n, 1]
    y, x = torch.arange(h, device=images.device), torch.arange(w, device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)  # [n, h], [n, w]
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]  # [n, 1, h, w]
    classes = torch.arange(num_classes, device=images.device)
    one_hot = (labels.to(images.device)[:, None] == classes).float()  # [b, k]
    return torch.where(inside, images[partner], images), kept * one_hot + cut * one_hot[partner]
