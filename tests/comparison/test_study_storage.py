import json
import os
import threading

import optuna
import pytest
from optuna.trial import TrialState

from nndl_suite.comparison import study_storage
from nndl_suite.comparison.budget import Budget
from nndl_suite.comparison.claims import claim, put_back, spent
from nndl_suite.comparison.study_storage import (
    CountedTPE,
    join_study,
    open_storage,
    quiet_optuna,
    reachable,
    shown_storage,
)
from nndl_suite.errors import ConfigError, RunError

ABOUT = {
    "arm": "vit",
    "dataset": "cifar100",
    "fingerprints": ["a", "b"],
    "trials": 20,
    "space": {"rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    "recipe": {"batch_size": 256, "rates": {"rate": 1e-3}},
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(study_storage, "_SETTLE_SECONDS", 0)
    with quiet_optuna():
        yield


def _join(where, about=ABOUT, name="vit", seed=0):
    budget = Budget(trials=20)
    sampler = CountedTPE(seed, budget.random_trials)
    return join_study(open_storage(where), name, about, sampler=sampler, pruner=budget.make_pruner())


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_second_worker_joins_and_sees_the_trials_of_the_first(tmp_path, kind):
    where = tmp_path / "study.journal" if kind == "journal" else f"sqlite:///{tmp_path / 'study.db'}"
    first = _join(where)
    first.tell(first.ask(), 0.5)
    assert [trial.value for trial in _join(where).get_trials()] == [0.5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arm": "resnet18"}, "arm: vit there, resnet18 here"),
        ({"trials": 40}, "trials: 20 there, 40 here"),
        ({"dataset": "cifar10", "fingerprints": ["c", "d"]}, "dataset: cifar100 there, cifar10 here"),
        ({"fingerprints": ["c", "d"]}, "its images are not the same"),
        (
            {"space": {"rate": {"low": 1e-4, "high": 1.0, "log": True}}},
            "space: rate {low: 0.0001, high: 0.01, log: true} there, {low: 0.0001, high: 1.0, log: true} here",
        ),
        ({"space": ABOUT["space"] | {"decay": {"values": [0, 1]}}}, "space: decay absent there"),
        ({"recipe": ABOUT["recipe"] | {"batch_size": 128}}, "recipe: batch_size 256 there, 128 here"),
    ],
)
def test_a_study_about_something_else_is_refused_in_one_sentence(tmp_path, change, said):
    _join(tmp_path / "study.journal")
    with pytest.raises(RunError) as refusal:
        _join(tmp_path / "study.journal", ABOUT | change)
    assert said in str(refusal.value)
    assert "--storage or --study" in str(refusal.value)
    assert "recipe" in change or "rates" not in str(refusal.value)


def test_the_same_images_elsewhere_are_the_same_study(tmp_path):
    _join(tmp_path / "study.journal")
    _join(tmp_path / "study.journal", ABOUT | {"dataset": "arrays:/elsewhere.npz"})


def test_one_storage_holds_several_studies(tmp_path):
    _join(tmp_path / "study.journal")
    other = _join(tmp_path / "study.journal", ABOUT | {"arm": "resnet18"}, name="resnet18")
    assert not other.get_trials()


def test_a_study_of_another_program_is_refused(tmp_path):
    for number, direction in enumerate(("maximize", "minimize")):
        file = tmp_path / f"{number}.journal"
        foreign = optuna.create_study(storage=open_storage(file), study_name="vit", direction=direction)
        if direction == "maximize":
            foreign.tell(foreign.ask(), 1.0)
        with pytest.raises(RunError, match="another program's"):
            _join(file)


@pytest.mark.parametrize("content", ["hello", "hello\nworld\n", '{"epochs": 3}\n', "\x00\x01"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(RunError, match="no journal"):
        _join(file)
    assert file.read_text() == content


def test_a_damaged_journal_is_named(tmp_path):
    file = tmp_path / "study.journal"
    _join(file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:10], *lines[1:]]) + "\n")
    with pytest.raises(RunError, match="damaged"):
        _join(file)


def test_an_entry_that_a_full_disk_cut_short_takes_no_other_with_it(tmp_path):
    """Optuna writes on behind it, and the whole journal cannot be read any more."""
    file = tmp_path / "study.journal"
    study = _join(file)
    study.tell(study.ask(), 0.25)
    with file.open("a") as lines:
        lines.write('{"op_code":8,"worker_id":"ab')
    study.tell(study.ask(), 0.5)  # a worker that lives on
    with file.open("a") as lines:
        lines.write('{"op_code":8,"wor')
    again = _join(file)  # and one that comes later
    again.tell(again.ask(), 0.75)
    assert [trial.value for trial in _join(file).get_trials()] == [0.25, 0.5, 0.75]
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_a_journal_cut_short_in_its_first_entry_is_begun_anew(tmp_path):
    (tmp_path / "study.journal").write_text('{"op_code":0,"worker')
    study = _join(tmp_path / "study.journal")
    study.tell(study.ask(), 0.25)
    assert [trial.value for trial in _join(tmp_path / "study.journal").get_trials()] == [0.25]


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    study = _join(tmp_path / "study.journal")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = r"cannot be used any more: .*No space left.*--resume goes on"
    with pytest.raises(RunError, match=told), reachable(tmp_path / "study.journal"):
        study.ask()
    monkeypatch.undo()
    assert _join(tmp_path / "study.journal").get_trials() is not None


def test_what_killed_workers_left_of_a_lock_is_cleared_away(tmp_path):
    left = tmp_path / "study.journal.lock3f2a.rename"
    left.symlink_to(tmp_path / "study.journal")
    _join(tmp_path / "study.journal")
    assert not left.is_symlink()


def test_what_is_no_storage_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="cannot use"):
        _join(tmp_path)
    with pytest.raises(RunError, match="cannot use"):
        _join(f"sqlite:///{tmp_path / 'nowhere' / 'study.db'}")
    with pytest.raises(ConfigError, match="names no database"):
        _join("mongodb://somewhere/x")


def test_a_database_that_goes_away_is_one_sentence(tmp_path):
    file = tmp_path / "study.db"
    study = _join(f"sqlite:///{file}")
    file.write_bytes(b"no database any more" * 200)
    with pytest.raises(RunError, match="cannot be used any more.*--resume goes on"), reachable(f"sqlite:///{file}"):
        study.get_trials()


def test_a_password_is_not_shown():
    assert shown_storage("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_claims_of_many_workers_at_once(tmp_path, kind):
    """Each with its own connection, as processes have: every trial ends once, those put back too."""
    where = tmp_path / "study.journal" if kind == "journal" else f"sqlite:///{tmp_path / 'study.db'}"
    budget, lost, claimed = 10, 8, []
    first = _join(where)
    for _ in range(lost):
        claim(first, budget).suggest_float("rate", 0, 1)
    for number in range(lost):
        put_back(first, number, deaths=1)
    studies = [_join(where) for _ in range(4)]
    together = threading.Barrier(len(studies))

    def work(study):
        together.wait()
        while (trial := claim(study, budget)) is not None:
            claimed.append(trial.number)
            trial.suggest_float("rate", 0, 1)
            study.tell(trial, 0.5)

    threads = [threading.Thread(target=work, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == budget
    trials = first.get_trials()
    assert [trial.number for trial in spent(trials, budget)] == sorted(claimed)
    assert min(claimed) == lost
    assert all(trial.state.is_finished() for trial in trials)


def _draws(seed, trials=12, again_after=None):
    study = optuna.create_study(direction="maximize", sampler=CountedTPE(seed, 4))
    drawn = []
    while len(drawn) < trials:
        if len(drawn) == again_after:  # a worker dies of this one, and another begins with the same seed
            claim(study, trials)
            put_back(study, len(drawn), deaths=1)
            study.sampler = CountedTPE(seed, 4)
            again_after = None
        trial = claim(study, trials)
        drawn.append(trial.suggest_float("rate", 0, 1))
        study.tell(trial, -((drawn[-1] - 0.3) ** 2))
    return drawn


def test_draws_depend_on_seed_and_place_alone():
    undisturbed = _draws(0)
    assert undisturbed == _draws(0)
    assert undisturbed == _draws(0, again_after=7)
    assert undisturbed[0] != _draws(1, trials=1)[0]
    assert len(set(undisturbed)) == len(undisturbed)


def test_tpe_learns():
    late = [abs(rate - 0.3) for seed in range(4) for rate in _draws(seed, trials=40)[-10:]]
    assert sum(late) / len(late) < 0.2  # of draws at random 0.29


def test_what_is_written_is_what_was_said(tmp_path):
    study = _join(tmp_path / "study.journal")
    assert study.user_attrs["about"] == json.loads(json.dumps(ABOUT))
    assert study.get_trials(states=[TrialState.WAITING]) == []
