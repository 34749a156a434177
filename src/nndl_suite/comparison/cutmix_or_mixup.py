"""CutMix or MixUp, by chance one of them for each batch: what most recipes of Vision Transformers mean by "both"."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nndl_suite.comparison.cutmix import CutMix
from nndl_suite.comparison.mixing import Pairs, stacked
from nndl_suite.comparison.mixup import MixUp
from nndl_suite.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class CutMixOrMixUp:
    """Mixes a batch by one of two, with the manners of both: `images, targets = mix(images, labels)`.

    `timm.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0)` is

        CutMixOrMixUp(
            cutmix=CutMix(alpha=1.0, probability=1.0, variant="timm", num_classes=k),
            mixup=MixUp(alpha=0.8, probability=1.0, variant="timm", num_classes=k),
        )

    but for its label smoothing. The choice is of a whole batch, also where boxes and λ are drawn for each image.
    Whichever it is, images of a type that is not float become float32 of the same range: a training sees one type.

    Raises:
        ConfigError: the chance is no probability, the two differ in `num_classes`, or one alone has a generator.
    """

    cutmix: CutMix
    mixup: MixUp
    cutmix_share: float = 0.5
    """The chance that a batch goes to `cutmix` (timm's `switch_prob`), drawn from the generator of `cutmix`."""

    def __post_init__(self) -> None:
        if not 0 <= self.cutmix_share <= 1:
            raise ConfigError(f"cutmix_share must be in [0, 1], got {self.cutmix_share}")
        if self.cutmix.num_classes != self.mixup.num_classes:
            raise ConfigError(
                f"both must have the same num_classes, got {self.cutmix.num_classes} and {self.mixup.num_classes}"
            )
        if (self.cutmix.generator is None) != (self.mixup.generator is None):
            raise ConfigError(
                "one of the two has no generator and would draw from torch's global one; give it the same"
            )

    def __call__(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Mix a batch by one of the two.

        Returns:
            New float images, and float32 targets whose rows sum to 1.

        Raises:
            ConfigError: as a call of `CutMix` does.
        """
        mixed, targets = self._chosen()(images, labels)
        return _as_float(mixed), targets

    def pairs(
        self, images: Shaped[Tensor, "b c h w"], labels: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c h w"], Pairs]:
        """Mix as a call does, and return (labels, partners' labels, λ) in place of targets.

        Raises:
            ConfigError: as a call does.
        """
        mixed, pairs = self._chosen().pairs(images, labels)
        return _as_float(mixed), pairs

    def collate(
        self, samples: Sequence[tuple[Tensor, int | Tensor]]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Stack samples of (image [c, h, w], label) and mix them: `DataLoader(…, collate_fn=mix.collate)`.

        Raises:
            ConfigError: as a call does; or generators were given and a worker would draw from its copies of them.
        """
        images, labels = stacked(samples, self.cutmix.generator)
        return self(images, labels)

    def _chosen(self) -> CutMix | MixUp:
        chance = torch.rand((), dtype=torch.float64, generator=self.cutmix.generator)
        return self.cutmix if chance < self.cutmix_share else self.mixup


def _as_float(images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return images if images.is_floating_point() else images.float()
