"""The comparison repeated with parts of the training images: whether the winner is the same with fewer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_fabric import Fabric

from nndl_suite.comparison.measures import Measure, share, signed
from nndl_suite.comparison.setup import Setup
from nndl_suite.comparison.splits import Splits
from nndl_suite.comparison.trainings import Trained, train_all
from nndl_suite.data.subsets import nested_subset, subset_size
from nndl_suite.errors import ConfigError
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.watch import Watcher, ignore

_SEED = 0
"""All seeds and both arms learn from the same parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Both arms with one part of the training images, over the seeds that both have."""

    fraction: float
    images: int
    arms: tuple[Measure, Measure]
    """Test accuracy of the CNN, then of the Transformer."""
    difference: Measure
    """Transformer minus CNN, paired by seed."""


def cut(splits: Splits, fractions: Sequence[float], *, batch_size: int) -> dict[float, Splits]:
    """The splits with parts of the training images, by fraction, ascending; nested and stratified.

    Raises:
        ConfigError: a fraction is not in (0, 1), is named twice, or gives less than a batch.
    """
    if len(set(fractions)) != len(fractions) or not all(0 < fraction < 1 for fraction in fractions):
        raise ConfigError(
            f"fractions must be different numbers between 0 and 1 (the whole is trained anyway), got {list(fractions)}"
        )
    sizes = {fraction: subset_size(len(splits.train), fraction, least=batch_size) for fraction in sorted(fractions)}
    return {
        fraction: replace(splits, train=nested_subset(splits.train, size, seed=_SEED))
        for fraction, size in sizes.items()
    }


def train_parts(
    setup: Setup,
    parts: Mapping[float, Splits],
    run: RunFolder,
    *,
    settings: Mapping[str, Json],
    fabric: Fabric,
    watch: Watcher = ignore,
) -> dict[float, Trained]:
    """What `train_all` does, with each part of the training images, in folders `fractions/F`.

    Epochs are as many as with the whole set, so a tenth of the images is a tenth of the steps.
    """
    return {
        fraction: train_all(
            setup,
            part,
            RunFolder(run.path / "fractions" / f"{fraction:g}"),
            settings={**settings, "fraction": fraction, "train_images": len(part.train)},
            fabric=fabric,
            watch=watch,
        )
        for fraction, part in parts.items()
    }


def learning_curve(parts: Mapping[float, Trained], whole: Trained, train_images: int) -> tuple[CurvePoint, ...]:
    """A point for each part of which one seed at least has both arms, the whole set last; none without parts."""
    if not parts:
        return ()
    points = (_point(fraction, trained, train_images) for fraction, trained in [*parts.items(), (1.0, whole)])
    return tuple(point for point in points if point is not None)


def _point(fraction: float, trained: Trained, train_images: int) -> CurvePoint | None:
    cnn, transformer = trained.scores
    seeds = [seed for seed in cnn if seed in transformer]
    if not seeds:
        return None
    first, second = ([scores[seed].network.test_accuracy for seed in seeds] for scores in (cnn, transformer))
    return CurvePoint(
        fraction=fraction,
        images=round(fraction * train_images),
        arms=(share(first), share(second)),
        difference=signed([after - before for before, after in zip(first, second, strict=True)]),
    )
