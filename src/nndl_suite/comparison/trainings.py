"""All trainings of a comparison: arms by seeds, those that are finished read, those that fail kept apart."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from lightning_fabric import Fabric

from nndl_suite.comparison.arm import ArmTraining, train_arm
from nndl_suite.comparison.arm_summary import SeedScores
from nndl_suite.comparison.crossing import Log
from nndl_suite.comparison.scores import ArmScore, arm_fields, read_arm_score
from nndl_suite.comparison.setup import Setup
from nndl_suite.comparison.splits import Splits
from nndl_suite.errors import TrainingError
from nndl_suite.training.files import Json
from nndl_suite.training.processes import from_first
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A training that ended without a network."""

    arm: str
    seed: int
    reason: str
    """With the step, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the trainings left; first of the CNN, then of the Transformer."""

    scores: tuple[SeedScores, SeedScores]
    logs: tuple[Sequence[Log], Sequence[Log]]
    """The metrics of the seeds that have scores."""
    failures: tuple[Failure, ...]


def train_all(
    setup: Setup,
    splits: Splits,
    run: RunFolder,
    *,
    settings: Mapping[str, Json],
    fabric: Fabric,
    watch: Watcher = ignore,
) -> Trained:
    """Train, or read, each arm with each seed, in folders of their own under `arms`.

    A training whose loss is no number does not end the others.

    Args:
        setup: The arms, their rates and the recipe.
        splits: The images.
        run: The comparison's folder.
        settings: Everything else that decides a training's outcome, for its `config.json`.
        fabric: Where to train.
        watch: Told of progress.

    Raises:
        RunError: an arm's folder holds something else, or a result of an earlier version.
        Interrupted: somebody stopped the comparison.
    """
    scores: tuple[dict[int, ArmScore], dict[int, ArmScore]] = ({}, {})
    logs: tuple[list[Log], list[Log]] = ([], [])
    failures: list[Failure] = []
    # Seed by seed, so that a comparison that is stopped early has pairs.
    trainings = [(seed, side) for seed in setup.seeds for side in (0, 1)]
    for count, (seed, side) in enumerate(trainings, start=1):
        arm, rates = setup.arms[side], setup.rates[side]
        arm_run = open_run(
            run.path / "arms" / f"{arm.name}-seed{seed}",
            kind="arm",
            settings={**settings, "name": arm.name, "seed": seed, **asdict(rates)},
            resume=True,
        )
        if (result := from_first(arm_run.result)) is not None:
            score = read_arm_score(result, arm_run.path / "result.json")
        else:
            training = ArmTraining(arm, rates, setup.recipe, splits, seed=seed, fabric=fabric)
            stage = f"{arm.name}, seed {seed} ({count} of {len(trainings)})"
            try:
                score = train_arm(training, splits, arm_run, stage=stage, epochs=setup.epochs, watch=watch)
            except TrainingError as error:
                failures.append(Failure(arm=arm.name, seed=seed, reason=_told(str(error), stage)))
                continue
            _finish(arm_run, score, seed)
        scores[side][seed] = score
        logs[side].append(from_first(partial(arm_run.overview, "val_accuracy")))
    return Trained(scores=scores, logs=logs, failures=tuple(failures))


def _finish(run: RunFolder, score: ArmScore, seed: int) -> None:
    from_first(lambda: run.finish("arm", seconds=score.seconds, seed=seed, fields=arm_fields(score)))


def _told(reason: str, stage: str) -> str:
    """With the arm and the seed, which the loop says and the scoring does not know."""
    return reason if reason.startswith(stage) else f"{stage}: {reason}; lower the learning rate"
