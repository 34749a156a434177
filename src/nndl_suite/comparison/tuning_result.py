"""What a tuning comes to: its trials, the best of them, and which settings mattered."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.budget import Budget
from nndl_suite.comparison.claims import REASON, retry_of, spent
from nndl_suite.comparison.search_space import SearchSpace
from nndl_suite.errors import TrainingError
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

SECONDS = "seconds"
_FEWEST = 10
"""Completed trials below which importances would be noise."""
_TOP = 0.25
"""Importance asks what sets this share of the trials apart from all."""
_STATES: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialScore:
    """One trial that has ended."""

    number: int
    """Optuna's; those of trials that were put back are missing."""
    settings: dict[str, float]
    state: Literal["complete", "pruned", "failed"]
    val_accuracy: float | None
    """Of its last epoch; None where it failed."""
    curve: tuple[float, ...]
    """Validation accuracy after each epoch, as far as it came."""
    seconds: float
    reason: str | None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """What was tried for one arm, and what did best on the validation images."""

    arm: str
    shape: str
    dataset: str
    trials: tuple[TrialScore, ...]
    """By number."""
    best: TrialScore
    """The completed trial of the highest validation accuracy, which flatters it: it was the best of many."""
    space: SearchSpace
    budget: Budget
    importance: dict[str, float] | None
    """Each setting's share in what sets the best quarter of the trials apart (PED-ANOVA), the largest first; None for
    fewer than 10 completed trials, or where their accuracies are too much alike."""
    at_edge: tuple[str, ...]
    """Tuned settings whose best value lies at an end of its span: a better one may lie outside."""
    put_back: int
    """Trainings that were begun and given up, by Ctrl-C or a kill, and done again."""
    seconds: float
    """Training time of the trials, over all workers."""
    storage: str
    out: Path


def summarise_study(
    study: Study, *, arm: Architecture, dataset: str, space: SearchSpace, budget: Budget, storage: str, out: Path
) -> TuningResult:
    """The result of a study whose trials have all ended.

    Raises:
        TrainingError: every trial failed.
    """
    trials = study.get_trials(deepcopy=False)
    scores = tuple(_score(trial) for trial in spent(trials, budget.trials))
    complete = [score for score in scores if score.state == "complete"]
    if not complete:
        raise TrainingError(
            f"all {len(scores)} trials of {arm.name} failed, there is nothing to choose; the first: {scores[0].reason}"
        )
    best = max(complete, key=lambda score: (score.val_accuracy or 0.0, -score.number))
    return TuningResult(
        arm=arm.name,
        shape=arm.shape,
        dataset=dataset,
        trials=scores,
        best=best,
        space=space,
        budget=budget,
        importance=_importance(study, [score.val_accuracy or 0.0 for score in complete]),
        at_edge=space.at_edge(best.settings),
        put_back=sum(retry_of(trial) is not None for trial in trials),
        seconds=sum(score.seconds for score in scores),
        storage=storage,
        out=out,
    )


def _score(trial: FrozenTrial) -> TrialScore:
    return TrialScore(
        number=trial.number,
        settings=dict(trial.params),
        state=_STATES[trial.state],
        val_accuracy=None if trial.state == TrialState.FAIL else trial.value,
        curve=tuple(value for _, value in sorted(trial.intermediate_values.items())),
        seconds=float(trial.user_attrs.get(SECONDS, 0.0)),
        reason=cast(str | None, trial.user_attrs.get(REASON)),
    )


def _importance(study: Study, accuracies: Sequence[float]) -> dict[str, float] | None:
    if len(accuracies) < _FEWEST:
        return None
    least_of_top = sorted(accuracies, reverse=True)[math.ceil(_TOP * len(accuracies)) - 1]
    if least_of_top == min(accuracies):
        return None  # no trial is outside the top
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_TOP))


def write_tuning(run: RunFolder, result: TuningResult, *, seed: int, comparable: dict[str, Json]) -> None:
    """`result.json`, with the contract's keys.

    Args:
        run: Where to.
        result: What to write.
        seed: Of the training.
        comparable: What must be the same in another arm's tuning besides space and budget: images, recipe.
    """
    trials: list[Json] = [asdict(trial) for trial in result.trials]
    run.finish(
        "tuning",
        seconds=result.seconds,
        seed=seed,
        fields={
            "arm": result.arm,
            "shape": result.shape,
            "dataset": result.dataset,
            "trials": trials,
            "best": asdict(result.best),
            "space": result.space.stated(),
            "budget": result.budget.stated(),
            "importance": cast(Json, result.importance),
            "at_edge": list(result.at_edge),
            "put_back": result.put_back,
            "storage": result.storage,
            **comparable,
        },
    )
