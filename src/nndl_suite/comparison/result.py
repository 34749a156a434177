"""What a comparison comes to: scores by seed, intervals, and the paired difference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.arm import ArmScore
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.tuned import Tuned
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import Interval, student_interval, wilson_interval
from nndl_suite.training.runs import RunFolder

Pair = tuple[Sequence[ArmScore], Sequence[ArmScore]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One architecture's outcome."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Transformer minus CNN, in accuracy, paired by seed."""

    mean: float
    ci95: Interval | None
    """Student's t over seeds; None for one seed, which says nothing about seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """Which architecture did better, and how sure that is."""

    arms: tuple[Arm, Arm]
    """The CNN, then the Transformer."""
    difference: Difference
    interval: Literal["student-t over seeds", "wilson over test images"]
    """What the arms' `ci95` cover: the mean over seeds, or, for one seed, that network's score on another test set."""
    recipe: Recipe
    seconds: float
    """Training time of all arms and seeds."""
    out: Path
    tuning: Tuned | None = None
    """How the arms' rates were chosen; None where the recipe states them."""


def summarise(
    arms: tuple[Architecture, Architecture],
    rates: tuple[Rates, Rates],
    seeds: tuple[int, ...],
    scores: Pair,
    *,
    recipe: Recipe,
    test_images: int,
    out: Path,
) -> ComparisonResult:
    """Means and intervals of both arms' scores, seed by seed in the same order."""
    first, second = (
        _summary(arm, used, seeds, of_arm, test_images) for arm, used, of_arm in zip(arms, rates, scores, strict=True)
    )
    return ComparisonResult(
        arms=(first, second),
        difference=_difference(first.test_accuracy, second.test_accuracy),
        interval="student-t over seeds" if len(seeds) > 1 else "wilson over test images",
        recipe=recipe,
        seconds=sum(score.seconds for of_arm in scores for score in of_arm),
        out=out,
    )


def _summary(
    architecture: Architecture, rates: Rates, seeds: tuple[int, ...], scores: Sequence[ArmScore], test_images: int
) -> Arm:
    accuracies = [score.test_accuracy for score in scores]
    return Arm(
        name=architecture.name,
        parameters=architecture.parameters,
        flops=architecture.flops,
        seeds=seeds,
        test_accuracy=tuple(accuracies),
        mean=_mean(accuracies),
        ci95=student_interval(accuracies) if len(seeds) > 1 else wilson_interval(accuracies[0], test_images),
        seconds=_mean([score.seconds for score in scores]),
        images_per_second=_mean([score.images_per_second for score in scores]),
        chosen=rates,
    )


def _difference(cnn: Sequence[float], transformer: Sequence[float]) -> Difference:
    paired = [after - before for before, after in zip(cnn, transformer, strict=True)]
    return Difference(mean=_mean(paired), ci95=student_interval(paired) if len(paired) > 1 else None)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def write_result(run: RunFolder, result: ComparisonResult, *, device: str) -> None:
    """`result.json`, with the contract's keys."""
    arms: list[Json] = [{**asdict(arm), "best_epoch": None} for arm in result.arms]  # the last epoch is what counts
    run.finish(
        "comparison",
        seconds=result.seconds,
        seed=result.arms[0].seeds[0],
        fields={
            "arms": arms,
            "difference": asdict(result.difference),
            "interval": result.interval,
            "recipe": asdict(result.recipe),
            "tuning": asdict(result.tuning) if result.tuning else None,
            "device": device,
        },
    )
