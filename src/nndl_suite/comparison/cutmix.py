"""CutMix (arXiv 1905.04899): paste a box of another image in, and mix the labels by the pixels that are left.

Libraries differ in the boxes they draw and in who is mixed with whom, so that a recipe moved from one to another
silently becomes another recipe. `variant=` names the convention; the share of a label is exact in each.

| variant | box of side √(1-λ) | partner | mean cut at 32 px | P(cut > ½) |
|---|---|---|---|---|
| "original" | half sides rounded down, clipped at the border | random permutation | 0.299 | 0.15 |
| "torchvision" | the same | the image before | 0.299 | 0.15 |
| "timm" | whole sides rounded down, clipped at the border | the batch from behind | 0.310 | 0.16 |
| "kornia" | whole sides rounded down, anywhere inside the image | random permutation | 0.479 | 0.48 |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nndl_suite.comparison.mixing import (
    CONVENTIONS,
    Convention,
    Pairs,
    check_batch,
    check_settings,
    draw_kept,
    stacked,
    to_device,
    weighted_labels,
)
from nndl_suite.errors import unknown_name

DrawBoxes = Callable[[Float[Tensor, "n"], tuple[int, int], torch.Generator | None], Int[Tensor, "n 4"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutMix:
    """Mixes a batch: `images, targets = mix(images, labels)`.

    The share of a label is the exact share of its pixels after the box was clipped at the border, in every variant.
    To move a recipe without changing it, name its library and give the probability that it had:

    - "original", the paper's code (clovaai/CutMix-PyTorch): `probability=0.5` for CIFAR, 1.0 for ImageNet. Early copies
      of that code leave λ as it was before clipping.
    - "torchvision", `torchvision.transforms.v2.CutMix`: it has no probability, so 1.0.
    - "timm", `timm.data.Mixup(cutmix_alpha=…)`: its `prob` is 1.0 unless set, `mode="elem"` is `per_sample=True`, and
      modes "pair" and "half" are not here. timm also smooths the targets by 0.1 unless told not to; here targets are as
      they are, and `cross_entropy(logits, targets, label_smoothing=0.1)` does the same.
    - "kornia", `kornia.augmentation.RandomCutMixV2`: its `p` is 1.0 unless set and is of the whole batch, though each
      image has its own box (`same_on_batch=True` is `per_sample=False`). Without `use_correct_lambda` its λ is the
      share that was cut, and losses must swap it; here it is what is kept.

    A random permutation may leave an image with itself, as does "timm" the middle one of an odd batch (timm itself
    refuses odd batches). The share is exact then too.

    In a DataLoader pass `collate_fn=mix.collate`. Leave `generator` out where the loader has workers: it seeds each
    worker's global generator, from which the mix then draws, by its own `generator=` (else by torch's global one),
    anew in each epoch. Batches repeat with the loader's seed and number of workers, and no two workers draw the same.

    Raises:
        ConfigError: a setting is out of range, or the variant is unknown.
    """

    alpha: float = 1.0
    """λ ~ Beta(alpha, alpha) is the share that is kept before clipping; 1 is the uniform distribution."""
    probability: float = 0.5
    """The chance that a batch is mixed at all; with `per_sample` an image, but for "kornia"."""
    num_classes: int = 100
    variant: str = "original"
    """"original", "torchvision", "timm" or "kornia"."""
    per_sample: bool | None = None
    """Draw a box and a λ for each image instead of one for the batch; None does as the variant's library does where
    nothing is said: each image in "kornia", the batch in the others."""
    generator: torch.Generator | None = None
    """The source of all draws, on the CPU so that a draw never waits for a GPU; None is torch's global one."""

    def __post_init__(self) -> None:
        if self.variant not in CONVENTIONS:
            raise unknown_name("CutMix variant", self.variant, CONVENTIONS)
        check_settings(
            alpha=self.alpha, probability=self.probability, num_classes=self.num_classes, generator=self.generator
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
        boxes, partner = self._draw(images, labels)
        targets = pixel_targets(
            labels.to(images.device),
            boxes=boxes,
            partner=partner,
            pixels=images.shape[-2] * images.shape[-1],
            num_classes=self.num_classes,
        )
        return fill_boxes(images, boxes=boxes, partner=partner), targets

    def pairs(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Shaped[Tensor, "b c h w"], Pairs]:
        """Mix as a call does, and return (labels, partners' labels, λ) in place of targets.

        Raises:
            ConfigError: as a call does.
        """
        boxes, partner = self._draw(images, labels)
        pixels = images.shape[-2] * images.shape[-1]
        kept = ((pixels - box_areas(boxes)).float() / pixels).expand(len(images))
        labels = labels.to(images.device)
        return fill_boxes(images, boxes=boxes, partner=partner), Pairs(labels, labels[partner], kept)

    def collate(
        self, samples: Sequence[tuple[Tensor, int | Tensor]]
    ) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Stack samples of (image [c, h, w], label) and mix them: `DataLoader(…, collate_fn=mix.collate)`.

        Raises:
            ConfigError: as a call does; or `generator` was given and a worker would draw from its copy of it.
        """
        images, labels = stacked(samples, self.generator)
        return self(images, labels)

    def draw_boxes(self, n: int, size: tuple[int, int]) -> Int[Tensor, "n 4"]:
        """Boxes for n images of (height, width): top, left, bottom, right, the last two exclusive.

        The box of an image that is not mixed is empty.
        """
        mixed, kept = draw_kept(
            n,
            alpha=self.alpha,
            probability=self.probability,
            convention=self._convention,
            generator=self.generator,
        )
        return torch.where(mixed[:, None], self.boxes_of(kept, size), 0)

    def boxes_of(self, kept: Float[Tensor, "n"], size: tuple[int, int]) -> Int[Tensor, "n 4"]:
        """Boxes that leave the shares `kept` of images of (height, width), before they are clipped, at random places.

        Rows are as those of `draw_boxes`.
        """
        return _BOXES[self.variant](kept, size, self.generator)

    @property
    def _convention(self) -> Convention:
        return CONVENTIONS[self.variant]

    def _draw(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Int[Tensor, "n 4"], Int[Tensor, "b"]]:
        """Boxes and partners for a batch, on its device."""
        check_batch(images, labels, self.num_classes)
        b, _, h, w = images.shape
        boxes = self.draw_boxes(self._convention.draws(b, per_sample=self.per_sample), (h, w))
        partner = self._convention.partners(b, self.generator)
        return to_device(boxes, images.device), to_device(partner, images.device)


def clipped_boxes(kept: Float[Tensor, "n"], centres: Int[Tensor, "n 2"], size: tuple[int, int]) -> Int[Tensor, "n 4"]:
    """Boxes of sides √(1-λ)·size round `centres` (y, x), cut off at the border of an image of (height, width).

    A side is rounded to half widths: the paper's code takes `int(side) // 2`, torchvision `int(side / 2)`, which is the
    same number, so that an unclipped side is even in both.

    Returns:
        Rows of top, left, bottom, right; the last two are exclusive.
    """
    half = (_sides(kept, size) / 2).long()
    return _cut_off(centres - half, centres + half, size)


def whole_clipped_boxes(
    kept: Float[Tensor, "n"], centres: Int[Tensor, "n 2"], size: tuple[int, int]
) -> Int[Tensor, "n 4"]:
    """As `clipped_boxes`, but of whole sides rounded down: an odd one has its larger half after the centre (timm)."""
    sides = _sides(kept, size).long()
    return _cut_off(centres - sides // 2, centres + (sides + 1) // 2, size)


def inner_boxes(kept: Float[Tensor, "n"], places: Float[Tensor, "n 2"], size: tuple[int, int]) -> Int[Tensor, "n 4"]:
    """Boxes of whole sides √(1-λ)·size, rounded down, that lie inside the image and are never clipped (kornia).

    Args:
        kept: λ.
        places: (y, x) in [0, 1) among the places that a box of its side can take.
        size: height and width.

    Returns:
        Rows of top, left, bottom, right; the last two are exclusive.
    """
    sides = _sides(kept, size).long()
    free = torch.tensor(size, device=kept.device) - sides
    start = torch.minimum((places.double() * (free + 1)).long(), free)
    return torch.cat([start, start + sides], dim=1)


def box_areas(boxes: Int[Tensor, "n 4"]) -> Int[Tensor, "n"]:
    """Pixels of each box."""
    top, left, bottom, right = boxes.unbind(dim=1)
    return (bottom - top) * (right - left)


def fill_boxes(
    images: Shaped[Tensor, "b c h w"], *, boxes: Int[Tensor, "n 4"], partner: Int[Tensor, "b"]
) -> Shaped[Tensor, "b c h w"]:
    """New images whose boxes are filled from their partners; n is b, or 1 for one box for all."""
    h, w = images.shape[-2:]
    top, left, bottom, right = boxes[:, :, None].unbind(dim=1)  # each [n, 1]
    y, x = torch.arange(h, device=images.device), torch.arange(w, device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)  # [n, h], [n, w]
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]  # [n, 1, h, w]
    return torch.where(inside, images[partner], images)


def pixel_targets(
    labels: Int[Tensor, "b"], *, boxes: Int[Tensor, "n 4"], partner: Int[Tensor, "b"], pixels: int, num_classes: int
) -> Float[Tensor, "b k"]:
    """Each class's share of an image's pixels, counted in whole numbers and divided once."""
    cut = box_areas(boxes)
    counted = weighted_labels(labels, partner=partner, kept=pixels - cut, cut=cut, num_classes=num_classes)
    return counted.float() / pixels


def _sides(kept: Float[Tensor, "n"], size: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """Sides of a box that leaves the share λ of an image of (height, width), in pixels, not yet rounded."""
    return (1 - kept.double()).sqrt()[:, None] * torch.tensor(size, device=kept.device)


def _cut_off(start: Int[Tensor, "n 2"], stop: Int[Tensor, "n 2"], size: tuple[int, int]) -> Int[Tensor, "n 4"]:
    return torch.cat([start.clamp(min=0), torch.minimum(stop, torch.tensor(size, device=stop.device))], dim=1)


def _centres(n: int, size: tuple[int, int], generator: torch.Generator | None) -> Int[Tensor, "n 2"]:
    return torch.stack([torch.randint(side, (n,), generator=generator) for side in size], dim=1)


def _draw_clipped(
    kept: Float[Tensor, "n"], size: tuple[int, int], generator: torch.Generator | None
) -> Int[Tensor, "n 4"]:
    return clipped_boxes(kept, _centres(len(kept), size, generator), size)


def _draw_whole_clipped(
    kept: Float[Tensor, "n"], size: tuple[int, int], generator: torch.Generator | None
) -> Int[Tensor, "n 4"]:
    return whole_clipped_boxes(kept, _centres(len(kept), size, generator), size)


def _draw_inner(
    kept: Float[Tensor, "n"], size: tuple[int, int], generator: torch.Generator | None
) -> Int[Tensor, "n 4"]:
    return inner_boxes(kept, torch.rand(len(kept), 2, dtype=torch.float64, generator=generator), size)


_BOXES: dict[str, DrawBoxes] = {
    "original": _draw_clipped,
    "torchvision": _draw_clipped,
    "timm": _draw_whole_clipped,
    "kornia": _draw_inner,
}
