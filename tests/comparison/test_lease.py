import os
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from nndl_suite.comparison.lease import BEAT, WORKER, Vigil, lease
from nndl_suite.training.locks import this_process


def _study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def test_silence_is_told_by_the_watchers_own_clock():
    study, now = _study(), [0.0]
    alive, dead = study.ask(), study.ask()
    vigil = Vigil(seconds=60, clock=lambda: now[0])
    alive.set_user_attr(BEAT, 5e9)  # a clock decades ahead
    dead.set_user_attr(BEAT, 1.0)
    assert vigil.silent(study.get_trials()) == []
    for beat in range(3):
        now[0] += 30
        alive.set_user_attr(BEAT, 5e9 + beat)
        silent = vigil.silent(study.get_trials())
    assert silent == [dead.number]


def test_a_worker_that_died_before_its_first_beat_is_missed_too():
    study, now = _study(), [0.0]
    study.ask()
    vigil = Vigil(seconds=60, clock=lambda: now[0])
    vigil.silent(study.get_trials())
    now[0] = 61
    assert vigil.silent(study.get_trials()) == [0]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody knows")
def test_a_worker_of_this_machine_that_is_gone_is_missed_at_once():
    study = _study()
    dead, elsewhere, alive = study.ask(), study.ask(), study.ask()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead.set_user_attr(WORKER, this_process() | {"pid": str(gone.pid)})
    elsewhere.set_user_attr(WORKER, {"host": "another", "pid": str(gone.pid)})
    with lease(alive):
        assert Vigil().silent(study.get_trials()) == [dead.number]


def test_ended_trials_are_silent_by_right():
    study, now = _study(), [0.0]
    trial = study.ask()
    vigil = Vigil(seconds=60, clock=lambda: now[0])
    vigil.silent(study.get_trials())
    study.tell(trial, 0.5)
    now[0] = 100
    assert vigil.silent(study.get_trials()) == []


def test_beats_come_while_the_training_is_busy_and_end_with_it():
    study = _study()
    trial = study.ask()
    beats = set()
    with lease(trial, every=0.01):
        deadline = time.monotonic() + 5
        while len(beats) < 3 and time.monotonic() < deadline:
            beats.add(study.get_trials()[0].user_attrs.get(BEAT))
            time.sleep(0.005)
    assert len(beats) >= 3
    last = study.get_trials()[0].user_attrs[BEAT]
    time.sleep(0.05)
    assert study.get_trials()[0].user_attrs[BEAT] == last


def test_a_trial_that_was_taken_over_ends_the_beats_without_noise(capfd):
    study = _study()
    trial = study.ask()
    with lease(trial, every=0.01):
        study.tell(trial.number, state=TrialState.FAIL)
        time.sleep(0.05)
    assert capfd.readouterr().err == ""
