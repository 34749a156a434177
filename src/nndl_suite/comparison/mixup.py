"""MixUp (arXiv 1710.09412): each image becomes λ of itself and 1-λ of another, and so does its label."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nndl_suite.comparison.mixing import (
    CONVENTIONS,
    Pairs,
    check_batch,
    check_settings,
    draw_kept,
    stacked,
    to_device,
    weighted_labels,
)
from nndl_suite.errors import ConfigError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class MixUp:
    """Mixes a batch: `images, targets = mix(images, labels)`.

    Variants differ in who is mixed with whom, as those of `CutMix` do:

    - "original", the authors' code (facebookresearch/mixup-cifar10): a random permutation.
    - "torchvision", `torchvision.transforms.v2.MixUp`: the image before.
    - "timm", `timm.data.Mixup(mixup_alpha=…)`: the batch from behind. timm also smooths the targets by 0.1 unless told
      not to; here they are as they are.
    - "kornia", `kornia.augmentation.RandomMixUpV2`: a random permutation and a λ for each image. Its λ is uniform and
      the share of the partner; here λ is what is kept. Its `p` is of the whole batch.

    Float images keep their type; half precision is mixed in float32 and rounded once. All other types, uint8 among
    them, become float32 of the same range: uint8 gives 0 to 255, not rounded.

    In a DataLoader the same holds as for `CutMix`.

    Raises:
        ConfigError: a setting is out of range, or the variant is unknown.
    """

    alpha: float = 1.0
    """λ ~ Beta(alpha, alpha) is the share that is kept; 1 is the uniform distribution, and all that "kornia" has."""
    probability: float = 1.0
    """The chance that a batch is mixed at all; with `per_sample` an image, but for "kornia"."""
    num_classes: int = 100
    variant: str = "original"
    """"original", "torchvision", "timm" or "kornia"."""
    per_sample: bool | None = None
    """Draw a λ for each image instead of one for the batch; None does as the variant's library does where nothing is
    said: each image in "kornia", the batch in the others."""
    generator: torch.Generator | None = None
    """The source of all draws, on the CPU so that a draw never waits for a GPU; None is torch's global one."""

    def __post_init__(self) -> None:
        if self.variant not in CONVENTIONS:
            raise unknown_name("MixUp variant", self.variant, CONVENTIONS)
        check_settings(
            alpha=self.alpha, probability=self.probability, num_classes=self.num_classes, generator=self.generator
        )
        if self.variant == "kornia" and self.alpha != 1:
            raise ConfigError(
                f"alpha must be 1 in variant 'kornia', whose λ is uniform, got {self.alpha}; "
                "for another take variant='original' with per_sample=True"
            )

    def __call__(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Mix a batch of images, on any device, with itself.

        Returns:
            New float images (the input is not written to), and float32 targets whose rows sum to 1.

        Raises:
            ConfigError: shapes do not fit, or a label is out of range (seen on the CPU only: asking would stall a GPU).
        """
        kept, partner = self._draw(images, labels)
        targets = weighted_labels(
            labels.to(images.device),
            partner=partner,
            kept=kept.float(),
            cut=(1 - kept).float(),
            num_classes=self.num_classes,
        )
        return blend(images, kept=kept, partner=partner), targets

    def pairs(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Pairs]:
        """Mix as a call does, and return (labels, partners' labels, λ) in place of targets.

        Raises:
            ConfigError: as a call does.
        """
        kept, partner = self._draw(images, labels)
        labels = labels.to(images.device)
        return blend(images, kept=kept, partner=partner), Pairs(
            labels, labels[partner], kept.float().expand(len(images))
        )

    def collate(
        self, samples: Sequence[tuple[Tensor, int | Tensor]]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Stack samples of (image [c, h, w], label) and mix them: `DataLoader(…, collate_fn=mix.collate)`.

        Raises:
            ConfigError: as a call does; or `generator` was given and a worker would draw from its copy of it.
        """
        images, labels = stacked(samples, self.generator)
        return self(images, labels)

    def _draw(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "n"], Int[Tensor, "b"]]:
        """The λ of each image (1 where it is not mixed) or one for all, float64, and partners; on its device."""
        check_batch(images, labels, self.num_classes)
        convention = CONVENTIONS[self.variant]
        mixed, kept = draw_kept(
            convention.draws(len(images), per_sample=self.per_sample),
            alpha=self.alpha,
            probability=self.probability,
            convention=convention,
            generator=self.generator,
        )
        partner = convention.partners(len(images), self.generator)
        return to_device(torch.where(mixed, kept, 1), images.device), to_device(partner, images.device)


def blend(
    images: Shaped[Tensor, "b c h w"], *, kept: Float[Tensor, "n"], partner: Int[Tensor, "b"]
) -> Float[Tensor, "b c h w"]:
    """λ of each image and 1-λ of its partner, in float32 at least; n is b, or 1 for one λ for all.

    Float images keep their type, all others become float32 of the same range.
    """
    computed = torch.promote_types(images.dtype, torch.float32)
    own, other = kept.to(computed)[:, None, None, None], (1 - kept).to(computed)[:, None, None, None]
    mixed = own * images + other * images[partner]
    return mixed.to(images.dtype) if images.is_floating_point() else mixed
