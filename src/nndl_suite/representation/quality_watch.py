"""Looking at a backbone while it learns: how good its features are after an epoch, and an end to a run that collapsed.

The look changes nothing: the network is in eval mode, its bytes are compared before and after, and whatever is random
has a stream of its own. A run ends in the same bits whether it is watched or not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn

from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.errors import TrainingError
from nndl_suite.models.weights import save_backbone
from nndl_suite.representation.features import FeatureSource, frozen
from nndl_suite.representation.quality import Quality, collapse_warning, measure_quality
from nndl_suite.representation.views import ViewRecipe, random_views
from nndl_suite.training.checkpoints import State
from nndl_suite.training.seeds import generator_for

MOST_COST = 0.03
"""Of the time of training: what looking may take."""

_FEWEST, _MOST = 1000, 2000
_SHARE = 25
"""Images of the sample: one in this many, but between the fewest and the most."""
_LOOK_PASSES, _STEP_PASSES = 3, 6
"""Forward passes for an image: a look takes it plain and in two views; a step takes two views forward, and each
backward costs two forward."""
_BATCH = 250


def quality_sample(images: ImageSet, *, seed: int) -> ImageSet:
    """The images that are looked at, the same all along a run, in memory: 1,000 to 2,000 drawn from those given.

    Args:
        images: Of the training split. With labels, neighbours can tell how well the classes come apart.
        seed: Decides which.
    """
    count = min(len(images), max(_FEWEST, min(_MOST, len(images) // _SHARE)))
    drawn = torch.randperm(len(images), generator=generator_for(seed, "quality sample"))[:count]
    sample = images.subset(drawn)
    return ImageSet(
        name=sample.name,
        store=ResidentImages(sample.store.read(torch.arange(count))),
        labels=sample.labels,
        class_names=sample.class_names,
        fingerprint=sample.fingerprint,
    )


def epochs_between_looks(sample: ImageSet, *, images_per_epoch: int) -> int:
    """How many epochs apart looks cost no more than `MOST_COST` of the training, counted in forward passes.

    Every epoch from 17,000 images on. It is counted, not timed: when a run looks must not depend on the machine.
    """
    cost = _LOOK_PASSES * len(sample) / (_STEP_PASSES * images_per_epoch)
    return max(1, math.ceil(cost / MOST_COST))


def look(
    source: FeatureSource,
    projector: nn.Module | None,
    sample: ImageSet,
    recipes: Sequence[ViewRecipe],
    fabric: Fabric,
    *,
    seed: int,
) -> Quality:
    """The quality of a backbone's features as it is now.

    Args:
        source: The backbone, on the fabric's device, and how its images are normalised.
        projector: What the method puts after it, if anything.
        sample: See `quality_sample`; resident.
        recipes: The method's views; the first and the last are drawn, the same ones at every look.
        fabric: Decides device and precision.
        seed: Draws the views.

    Raises:
        RuntimeError: the network changed while it was read.
    """
    assert isinstance(sample.store, ResidentImages)
    whole = nn.ModuleList([source.backbone] if projector is None else [source.backbone, projector])
    found: list[list[Tensor]] = [[], [], []]  # plain, view one, view two
    whole.train(source.backbone.training)  # the mode that `frozen` goes back to
    embedded: list[Tensor] = []
    generator = generator_for(seed, "quality views", device=fabric.device)
    with frozen(whole), torch.inference_mode(), fabric.autocast():
        for images in sample.store.pixels.split(_BATCH):
            pixels = _as_seen(images.to(fabric.device), recipes, source, generator)
            for place, features in zip(found, pixels, strict=True):
                place.append(source.backbone(features).float())
            if projector is not None:
                embedded.append(projector(found[0][-1]).float())
    plain, view_one, view_two = (torch.cat(parts) for parts in found)
    embeddings = torch.cat(embedded) if embedded else None
    return measure_quality(plain, view_one, view_two, embeddings=embeddings, labels=sample.labels)


def _as_seen(
    images: UInt8[Tensor, "b 3 h w"], recipes: Sequence[ViewRecipe], source: FeatureSource, generator: torch.Generator
) -> list[Float[Tensor, "b 3 h w"]]:
    """The images plain and in two views, as the backbone takes them."""
    views = random_views(images, (recipes[0], recipes[-1]), generator=generator)
    return [source.normalisation(pixels).contiguous(memory_format=torch.channels_last) for pixels in (images, *views)]


@dataclass(slots=True, kw_only=True)
class QualityWatch:
    """The looks of one run, and what they say."""

    source: FeatureSource
    """The backbone that learns; its resolution is that of the sample."""
    projector: nn.Module | None
    sample: ImageSet
    recipes: Sequence[ViewRecipe]
    fabric: Fabric
    seed: int
    every: int = 1
    """Epochs between looks, see `epochs_between_looks`."""
    keep: Path | None = None
    """Where the backbone of the last good look is kept; None keeps none."""
    looks: dict[int, Quality] = field(default_factory=dict[int, Quality], init=False)
    """By epoch, 0-based."""

    def end_of_epoch(self, epoch: int) -> dict[str, float]:
        """The figures to log where a look is due after an epoch (0-based), else none."""
        return self.look(epoch) if (epoch + 1) % self.every == 0 else {}

    def look(self, epoch: int) -> dict[str, float]:
        """Look now, and keep the backbone if all is well."""
        self.looks[epoch] = look(self.source, self.projector, self.sample, self.recipes, self.fabric, seed=self.seed)
        if self.keep is not None and self.warning is None and not math.isnan(self.looks[epoch].spread):
            save_backbone(
                self.keep,
                self.source.backbone,
                image_size=self.source.resolution,
                normalisation=self.source.normalisation,
            )
        return self.looks[epoch].figures()

    @property
    def warning(self) -> str | None:
        """See `quality.collapse_warning`."""
        return collapse_warning(list(self.looks.values()))

    def stop_on_collapse(self) -> None:
        """End the run if the newest look found a collapse.

        Raises:
            TrainingError: it did; the message has the epoch and the figures, and where the last good backbone is.
        """
        warning = self.warning
        if warning is None:
            return
        kept = f"; the last good backbone is {self.keep}" if self.keep is not None and self.keep.exists() else ""
        raise TrainingError(f"stopped after epoch {max(self.looks) + 1}: {warning}{kept}")

    def state(self) -> dict[str, State]:
        """The looks so far, for a checkpoint."""
        return {"looks": {str(epoch): asdict(quality) for epoch, quality in self.looks.items()}}

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to a state."""
        looks = cast(Mapping[str, Mapping[str, float]], state["looks"])
        self.looks = {int(epoch): Quality(**figures) for epoch, figures in looks.items()}  # pyright: ignore[reportArgumentType]
