"""What the seeds of one arm come to: each measure by seed, its mean and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.crossing import Curve
from nndl_suite.comparison.measures import Measures, measures
from nndl_suite.comparison.recipe import Rates
from nndl_suite.comparison.scores import ArmScore, NetworkScores
from nndl_suite.training.intervals import Interval, share_interval, wilson_interval

SeedScores = Mapping[int, ArmScore]
"""By seed."""

Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One architecture's outcome; `NetworkScores` says what is measured, all of it by the last epoch's weights."""

    name: str
    parameters: int
    flops: int
    """Of one image's forward pass; a multiplication and an addition are two."""
    seeds: tuple[int, ...]
    test_accuracy: tuple[float, ...]
    """By seed; of the last epoch, read once. Chance is 1 / classes."""
    mean: float
    ci95: Interval
    """See `ComparisonResult.interval`."""
    seconds: float
    """Training time of one seed with its validations, mean over seeds."""
    images_per_second: float
    """Training images over those seconds."""
    chosen: Rates
    """The rates it was trained with."""
    measures: Measures
    corruptions: Shares
    """By corruption, mean over seeds."""
    per_class: tuple[float | None, ...]
    """By label, mean over seeds; None for a class without test images."""
    per_superclass: Shares
    """Mean over seeds; empty unless the classes are CIFAR-100's."""
    curve: Curve


def summarise_arm(
    architecture: Architecture,
    chosen: Rates,
    scores: SeedScores,
    curve: Curve,
    *,
    test_images: int,
    superclasses: Mapping[str, Sequence[int]],
) -> Arm:
    """Means and intervals over the seeds of an arm, of which there must be one at least."""
    networks = [score.network for score in scores.values()]
    accuracies = [network.test_accuracy for network in networks]
    per_class = mean_by_class(networks)
    return Arm(
        name=architecture.name,
        parameters=architecture.parameters,
        flops=architecture.flops,
        seeds=tuple(scores),
        test_accuracy=tuple(accuracies),
        mean=fmean(accuracies),
        ci95=share_interval(accuracies) if len(accuracies) > 1 else wilson_interval(accuracies[0], test_images),
        seconds=fmean(score.seconds for score in scores.values()),
        images_per_second=fmean(score.images_per_second for score in scores.values()),
        chosen=chosen,
        measures=measures(networks),
        corruptions={
            name: fmean(network.corruptions[name] for network in networks) for name in networks[0].corruptions
        },
        per_class=per_class,
        per_superclass=by_superclass(per_class, superclasses),
        curve=curve,
    )


def mean_by_class(networks: Sequence[NetworkScores]) -> tuple[float | None, ...]:
    """Accuracy by label, mean over networks that were tested on the same images."""
    return tuple(
        None if any(share is None for share in shares) else fmean(share for share in shares if share is not None)
        for shares in zip(*(network.per_class for network in networks), strict=True)
    )


def by_superclass(per_class: Sequence[float | None], superclasses: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """The mean over the classes of each superclass; without those that lack test images."""
    means: dict[str, float] = {}
    for name, labels in superclasses.items():
        known = [share for label in labels if (share := per_class[label]) is not None]
        if known:
            means[name] = fmean(known)
    return means
