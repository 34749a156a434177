"""What a comparison comes to: both arms, the paired difference, the crossing points, and what may be concluded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from nndl_suite.comparison.architectures import flops_by_stage
from nndl_suite.comparison.arm_summary import Arm, by_superclass, summarise_arm
from nndl_suite.comparison.crossing import Budget, Crossing, crossings, mean_curve
from nndl_suite.comparison.learning_curve import CurvePoint, learning_curve
from nndl_suite.comparison.measures import Measure, Measures, paired_measures, signed
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.scores import NetworkScores
from nndl_suite.comparison.setup import Setup
from nndl_suite.comparison.trainings import Failure, Trained
from nndl_suite.comparison.tuned import Tuned
from nndl_suite.data.cifar100_superclasses import superclass_indices
from nndl_suite.errors import TrainingError
from nndl_suite.report import words
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import Interval
from nndl_suite.training.runs import RunFolder

Interpretation = Literal["student-t over seeds", "wilson over test images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Transformer minus CNN, in accuracy, paired by seed."""

    mean: float
    ci95: Interval | None
    """Student's t over seeds; None for one seed, which says nothing about seeds."""
    measures: Measures
    """Differences too, paired by seed."""
    per_class: tuple[Measure | None, ...]
    """By label; None for a class without test images. Of many intervals one in twenty leaves out 0 by chance."""
    per_superclass: Mapping[str, Measure]
    """Empty unless the classes are CIFAR-100's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """What this comparison allows one to say, and what it does not."""

    may: str
    may_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """Which architecture did better, and how sure that is."""

    arms: tuple[Arm, Arm]
    """The CNN, then the Transformer."""
    difference: Difference
    crossing: Mapping[Budget, Crossing | None]
    """From where on the mean validation curve of one arm stays above the other's; None where they never change
    places."""
    sentence: Sentence
    interval: Interpretation
    """What the arms' `ci95` cover: the mean over seeds, or, for one seed, that network's score on another test set."""
    recipe: Recipe
    seconds: float
    """Training time of all arms and seeds."""
    out: Path
    tuning: Tuned | None = None
    """How the arms' rates were chosen; None where the recipe states them."""
    learning_curve: tuple[CurvePoint, ...] = ()
    """By the number of training images, the whole set last; empty where no fractions were asked for."""


def conclude(
    setup: Setup, trained: Trained, parts: Mapping[float, Trained], run: RunFolder, *, device: str
) -> ComparisonResult:
    """Sum up, and write `result.json` with the contract's keys, of what has scores even where trainings failed.

    Args:
        setup: What was compared.
        trained: With all training images.
        parts: With fractions of them.
        run: The comparison's folder.
        device: What the seconds were spent on.

    Raises:
        TrainingError: a training failed; the message says which, and where the rest is.
    """
    first, second = (_summary(setup, trained, side) for side in (0, 1))
    difference = _difference(setup, trained)
    sentence = _sentence(setup, trained, difference)
    seconds = sum(score.seconds for of_arm in trained.scores for score in of_arm.values())
    several = max(len(of_arm) for of_arm in trained.scores) > 1
    interval: Interpretation = "student-t over seeds" if several else "wilson over test images"
    crossing: dict[Budget, Crossing | None] = {}
    if first is not None and second is not None:
        crossing = crossings((first.name, second.name), (first.curve, second.curve))
    points = learning_curve(parts, trained, setup.train_images)
    failures = [failure for one in (trained, *parts.values()) for failure in one.failures]
    fields: dict[str, Json] = {
        "arms": [_arm_json(setup, 0, first), _arm_json(setup, 1, second)],
        "difference": None if difference is None else asdict(difference),
        "crossing": {budget: None if found is None else asdict(found) for budget, found in crossing.items()},
        "sentence": asdict(sentence),
        "interval": interval,
        "learning_curve": [asdict(point) for point in points],
        "failures": [asdict(failure) for failure in failures],
        "device": device,
    }
    run.finish("comparison", seconds=seconds, seed=setup.seeds[0], fields=fields | _circumstances(setup))
    if failures or first is None or second is None or difference is None:
        raise _failed(setup, trained, failures, run.path)
    return ComparisonResult(
        arms=(first, second),
        difference=difference,
        crossing=crossing,
        sentence=sentence,
        interval=interval,
        recipe=setup.recipe,
        seconds=seconds,
        out=run.path,
        tuning=setup.tuned,
        learning_curve=points,
    )


def _circumstances(setup: Setup) -> dict[str, Json]:
    return {
        "dataset": setup.dataset,
        "epochs": setup.epochs,
        "class_names": list(setup.class_names),
        "recipe": asdict(setup.recipe),
        "tuning": None if setup.tuned is None else asdict(setup.tuned),
    }


def _summary(setup: Setup, trained: Trained, side: int) -> Arm | None:
    architecture, scores = setup.arms[side], trained.scores[side]
    if not scores:
        return None
    stages = flops_by_stage(architecture, setup.recipe.resolutions)
    curve = mean_curve(trained.logs[side], stages=stages, batch_size=setup.recipe.batch_size)
    return summarise_arm(
        architecture,
        setup.rates[side],
        scores,
        curve,
        test_images=setup.test_images,
        superclasses=superclass_indices(setup.class_names),
    )


def _difference(setup: Setup, trained: Trained) -> Difference | None:
    """Over the seeds that both arms have; None if there are none."""
    cnn, transformer = trained.scores
    seeds = [seed for seed in cnn if seed in transformer]
    if not seeds:
        return None
    pairs = [(cnn[seed].network, transformer[seed].network) for seed in seeds]
    accuracy = signed([after.test_accuracy - before.test_accuracy for before, after in pairs])
    per_class = [_class_differences(before, after) for before, after in pairs]
    groups = superclass_indices(setup.class_names)
    per_superclass = [by_superclass(differences, groups) for differences in per_class]
    return Difference(
        mean=accuracy.mean,
        ci95=accuracy.ci95,
        measures=paired_measures(pairs),
        per_class=tuple(
            None if values[0] is None else signed([value for value in values if value is not None])
            for values in zip(*per_class, strict=True)
        ),
        per_superclass={name: signed([of_seed[name] for of_seed in per_superclass]) for name in per_superclass[0]},
    )


def _class_differences(cnn: NetworkScores, transformer: NetworkScores) -> list[float | None]:
    """None for a class without test images, which both arms lack alike."""
    return [
        None if before is None or after is None else after - before
        for before, after in zip(cnn.per_class, transformer.per_class, strict=True)
    ]


def _sentence(setup: Setup, trained: Trained, difference: Difference | None) -> Sentence:
    seeds = sum(seed in trained.scores[1] for seed in trained.scores[0])
    cnn, transformer = (architecture.name for architecture in setup.arms)
    may = words.no_pair(cnn, transformer)
    if difference is not None:
        where = f"On {setup.dataset}, with this recipe and {words.counted(setup.epochs, 'epoch')},"
        may = words.conclusion(where, cnn, transformer, mean=difference.mean, ci95=difference.ci95, seeds=seeds)
    trials = 0 if setup.tuned is None else setup.tuned.trials
    return Sentence(may=may, may_not=words.reservation(seeds=seeds, tuning_trials=trials))


def _arm_json(setup: Setup, side: int, arm: Arm | None) -> Json:
    if arm is not None:
        return {**asdict(arm), "best_epoch": None}  # the last epoch is what counts
    architecture = setup.arms[side]
    size: dict[str, Json] = {
        "name": architecture.name,
        "parameters": architecture.parameters,
        "flops": architecture.flops,
    }
    missing: dict[str, Json] = dict.fromkeys(("mean", "ci95", "best_epoch", "seconds", "images_per_second"))
    return {**size, "seeds": [], "test_accuracy": [], **missing, "chosen": asdict(setup.rates[side])}


def _failed(setup: Setup, trained: Trained, failures: Sequence[Failure], out: Path) -> TrainingError:
    reasons = "; ".join(failure.reason for failure in failures)
    kept = [
        f"{architecture.name} {words.percent(fmean(score.network.test_accuracy for score in scores.values()))} over "
        f"{words.counted(len(scores), 'seed')}"
        for architecture, scores in zip(setup.arms, trained.scores, strict=True)
        if scores
    ]
    rest = f"what was trained is kept ({', '.join(kept)})" if kept else "nothing was trained to the end"
    return TrainingError(f"{reasons}; {rest}: {out / 'result.json'}. Other rates are another run, with another --out")
