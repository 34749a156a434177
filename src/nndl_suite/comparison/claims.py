"""Who trains which trial, so that exactly as many end as were asked for, whoever is killed in between.

The storage gives trials ascending numbers, to any number of workers at once. That order decides everything here, so
that workers who look at the same trials come to the same answer without talking to each other: of the trials that were
begun afresh the first `budget` count; a trial that was put back lives on in the first that names it as `retry_of`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

RETRY_OF = "retry_of"
DEATHS = "deaths"
"""How many workers have died of this trial's settings."""
REASON = "reason"
"""Why a trial failed for good; a failed trial without it was put back."""


def claim(study: Study, budget: int) -> Trial | None:
    """A trial for this worker alone: one that was put back, or a new one; None where all are in others' hands."""
    trials = study.get_trials(deepcopy=False)
    if sum(_is_fresh(trial) for trial in trials) >= budget and all(t.state != TrialState.WAITING for t in trials):
        return None
    trial = study.ask()
    before = retry_of(trial)
    if before is not None:
        _fail(study, before)  # whoever put it back may have died before that
    trials = study.get_trials(deepcopy=False)
    if _counts(trials[trial.number], trials, budget):
        return trial
    _fail(study, trial.number)
    return None


def put_back(study: Study, number: int, *, deaths: int = 0) -> None:
    """End a running trial and queue its settings again, so that a worker takes them up.

    First queued, then ended: a worker that dies in between loses nothing. Where two do it at once, `claim` lets one of
    the two copies go.

    Args:
        study: The study.
        number: The trial's.
        deaths: How many workers have died of it, this one included.
    """
    trials = study.get_trials(deepcopy=False)
    if all(retry_of(other) != number for other in trials):
        study.enqueue_trial(trials[number].params, user_attrs={RETRY_OF: number, DEATHS: deaths})
    _fail(study, number)


def spent(trials: Sequence[FrozenTrial], budget: int) -> list[FrozenTrial]:
    """The trials that have used up their place in the budget: completed, pruned, or failed for a reason."""
    ended = [
        trial
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or (trial.state == TrialState.FAIL and REASON in trial.user_attrs)
    ]
    return [trial for trial in ended if _counts(trial, trials, budget)]


def place(number: int, trials: Sequence[FrozenTrial]) -> int:
    """Which of the budget's trials this is, from 1 on; a trial that was put back keeps its place."""
    before = retry_of(trials[number])
    if before is not None:
        return place(before, trials)
    return sum(_is_fresh(trial) for trial in trials[: number + 1])


def retry_of(trial: Trial | FrozenTrial) -> int | None:
    """The trial that this one carries on, if it does."""
    return cast(int | None, trial.user_attrs.get(RETRY_OF))


def _counts(trial: FrozenTrial, trials: Sequence[FrozenTrial], budget: int) -> bool:
    before = retry_of(trial)
    if before is None:
        return place(trial.number, trials) <= budget
    first = next(other for other in trials if retry_of(other) == before)
    was_put_back = trials[before].state == TrialState.FAIL and REASON not in trials[before].user_attrs
    return first.number == trial.number and was_put_back and _counts(trials[before], trials, budget)


def _is_fresh(trial: FrozenTrial) -> bool:
    return RETRY_OF not in trial.user_attrs


def _fail(study: Study, number: int) -> None:
    with suppress(UpdateFinishedTrialError):  # it ended meanwhile
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
