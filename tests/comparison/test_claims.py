"""Exactly as many trials end as were asked for, and none is lost, whoever dies in between."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from nndl_suite.comparison.claims import REASON, claim, place, put_back, retry_of, spent

BUDGET = 5
WORKERS = 3


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


class _Crowd:
    """Workers who take, finish and drop trials in any order; what each place of the budget drew is written down."""

    def __init__(self):
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        self.held = [None] * WORKERS
        self.drawn = {}

    def take(self, worker):
        if self.held[worker] is None and (trial := claim(self.study, BUDGET)) is not None:
            rate = trial.suggest_float("rate", 0, 1)
            at = place(trial.number, self.study.get_trials())
            assert self.drawn.setdefault(at, rate) == rate
            self.held[worker] = trial

    def end(self, worker, state):
        trial, self.held[worker] = self.held[worker], None
        if trial is None or self.study.get_trials()[trial.number].state.is_finished():  # taken over meanwhile
            return
        if state == TrialState.FAIL:
            trial.set_user_attr(REASON, "its loss was nan")
        self.study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state)

    def die(self, worker):
        self.held[worker] = None

    def take_over(self, worker):
        """It lives, but another does not think so."""
        if self.held[worker] is not None:
            put_back(self.study, self.held[worker].number)

    def race(self, worker):
        """Two others queue its trial at the same moment."""
        trial = self.held[worker]
        if trial is not None and not self.study.get_trials()[trial.number].state.is_finished():
            self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "deaths": 1})
            self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "deaths": 1})

    def mourn(self, _=0):
        held = {trial.number for trial in self.held if trial is not None}
        for trial in self.study.get_trials():
            if trial.state == TrialState.RUNNING and trial.number not in held:
                put_back(self.study, trial.number, deaths=1)

    def finish_all(self):
        for _ in range(20 * BUDGET):
            self.mourn()
            for worker in range(WORKERS):
                self.take(worker)
                self.end(worker, TrialState.COMPLETE)
            if len(spent(self.study.get_trials(), BUDGET)) == BUDGET:
                return
        pytest.fail("the study never ends")


ACTIONS = {
    "take": lambda crowd, worker: crowd.take(worker),
    "complete": lambda crowd, worker: crowd.end(worker, TrialState.COMPLETE),
    "prune": lambda crowd, worker: crowd.end(worker, TrialState.PRUNED),
    "fail": lambda crowd, worker: crowd.end(worker, TrialState.FAIL),
    "die": lambda crowd, worker: crowd.die(worker),
    "take over": lambda crowd, worker: crowd.take_over(worker),
    "race": lambda crowd, worker: crowd.race(worker),
    "mourn": lambda crowd, worker: crowd.mourn(worker),
}


@given(st.lists(st.tuples(st.sampled_from(["take", *ACTIONS]), st.integers(0, WORKERS - 1)), max_size=40))
def test_each_place_of_the_budget_ends_once_with_its_own_settings(actions):
    crowd = _Crowd()
    for action, worker in actions:
        ACTIONS[action](crowd, worker)
    crowd.finish_all()
    trials = crowd.study.get_trials()
    ended = {place(trial.number, trials): trial.params["rate"] for trial in spent(trials, BUDGET)}
    assert ended == {at: crowd.drawn[at] for at in range(1, BUDGET + 1)}
    assert len(spent(trials, BUDGET)) == BUDGET


def test_what_is_put_back_is_taken_next():
    crowd = _Crowd()
    crowd.take(0)
    crowd.take(1)
    crowd.die(0)
    crowd.mourn()
    crowd.take(2)
    assert retry_of(crowd.held[2]) == 0
    assert crowd.held[2].params == {"rate": crowd.drawn[1]}
    assert place(crowd.held[2].number, crowd.study.get_trials()) == 1


def test_a_trial_that_died_before_it_drew_keeps_its_place():
    study = optuna.create_study(direction="maximize")
    claim(study, 1)
    put_back(study, 0, deaths=1)
    again = claim(study, 1)
    assert retry_of(again) == 0
    study.tell(again, 0.5)
    assert [trial.number for trial in spent(study.get_trials(), 1)] == [1]
    assert claim(study, 1) is None


def test_of_two_copies_one_counts():
    crowd = _Crowd()
    crowd.take(0)
    crowd.race(0)  # copies 1 and 2
    crowd.take(1)
    crowd.take(2)  # finds the copy that does not count
    assert crowd.held[1].number == 1
    assert crowd.held[2] is None
    states = [trial.state for trial in crowd.study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.FAIL]
    crowd.end(1, TrialState.COMPLETE)
    assert [trial.number for trial in spent(crowd.study.get_trials(), BUDGET)] == [1]


def test_a_copy_of_a_trial_that_ended_after_all_does_not_count():
    crowd = _Crowd()
    crowd.take(0)
    crowd.race(0)
    crowd.end(0, TrialState.COMPLETE)
    crowd.take(1)
    crowd.take(2)
    assert crowd.held[1:] == [None, None]
    assert [trial.number for trial in spent(crowd.study.get_trials(), BUDGET)] == [0]
