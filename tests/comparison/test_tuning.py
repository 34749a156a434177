"""Tuning of one arm: budget, pruner, failures, stops, and workers who are killed."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from nndl_suite.comparison import lease, study_storage, tuning, tuning_worker
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.search_space import Choice, SearchSpace, Span
from nndl_suite.comparison.tuning import tune_architecture
from nndl_suite.errors import ConfigError, DataError, Interrupted, RunError, TrainingError

RECIPE = Recipe(batch_size=10)
SPACE = SearchSpace(varied=(Span(name="rate", low=1e-4, high=1e-2, log=True),))


@pytest.fixture(autouse=True)
def _nobody_else_starts(monkeypatch):
    monkeypatch.setattr(study_storage, "_SETTLE_SECONDS", 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """60 images of 16 px in four tints; the test split cannot be read, so nobody reads it."""
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    labels = np.arange(60) % 4
    images = rng.integers(0, 90, (60, 16, 16, 3), dtype=np.uint8)
    for channel in range(3):
        images[labels == channel, :, :, channel] += 60
    np.savez(folder / "tints-train.npz", images=images, labels=labels, class_names=list("abcd"))
    (folder / "tints-test.npz").write_bytes(b"not to be read")
    return f"arrays:{folder / 'tints.npz'}"


def _tune(dataset, out, **settings):
    arguments = {"trials": 6, "epochs": 3, "recipe": RECIPE, "space": SPACE, "device": "cpu", "precision": "32-true"}
    return tune_architecture("resnet18-slim", dataset, out=out, **arguments | settings)


class _Scripted:
    """In the place of `ArmTraining`: accuracy grows by epochs to a height that the rate decides, best at 1e-3."""

    def __init__(self, architecture, rates, recipe, splits, *, seed, fabric):
        self.rate, self.recipe, self.batches, self.epoch = rates.rate, recipe, range(2), 0

    def step(self, index, fraction):
        return {"loss": torch.tensor(1.0 if self.rate < 1 else math.nan)}

    def score(self, images):
        self.epoch += 1
        return (1 - abs(math.log10(self.rate) + 3)) * self.epoch / 10, 1.0

    def state(self):
        return {}

    def load_state(self, state):
        pass


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(tuning_worker, "ArmTraining", _Scripted)


def test_it_trains_on_nine_tenths_and_chooses_by_the_last_without_the_test_split(dataset, tmp_path, monkeypatch):
    read, load = [], tuning.load_image_set

    def listen(name, split, **others):
        read.append(split)
        return load(name, split, **others)

    monkeypatch.setattr(tuning, "load_image_set", listen)
    torch.manual_seed(1)
    result = _tune(dataset, tmp_path / "run", trials=3, epochs=2)
    assert read == ["train"]
    with pytest.raises(DataError):
        load(dataset, "test", data_root=None)
    complete = [trial for trial in result.trials if trial.state == "complete"]
    assert result.best == max(complete, key=lambda trial: trial.val_accuracy)
    assert all(trial.curve[-1] == trial.val_accuracy and len(trial.curve) == 2 for trial in complete)
    assert all((6 * accuracy).is_integer() for trial in complete for accuracy in trial.curve)  # of 6 images
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    keys = {"kind", "seconds", "seed", "arm", "shape", "dataset", "trials", "best", "space", "budget", "importance"}
    assert set(written) == keys | {"at_edge", "put_back", "storage", "fingerprints", "recipe"}
    assert (written["kind"], written["arm"], written["put_back"]) == ("tuning", "resnet18-slim", 0)
    assert written["space"] == {"rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    assert written["budget"]["trials"] == len(written["trials"]) == 3
    assert written["seconds"] == pytest.approx(sum(trial["seconds"] for trial in written["trials"]), abs=1e-3)
    assert not list((tmp_path / "run").glob("trials/*/checkpoints"))
    torch.manual_seed(2)
    again = _tune(dataset, tmp_path / "again", trials=3, epochs=2)
    assert [replace(trial, seconds=0) for trial in again.trials] == [replace(one, seconds=0) for one in result.trials]


def test_the_best_is_found_and_the_bad_are_pruned_and_both_cost_a_place(dataset, tmp_path, scripted):
    result = _tune(dataset, tmp_path / "run", trials=24, epochs=6)
    assert len(result.trials) == 24
    assert abs(math.log10(result.best.settings["rate"]) + 3) < 0.1
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(2 <= len(trial.curve) < 6 for trial in pruned)
    assert all(trial.state == "complete" for trial in result.trials[:5])
    for trial in pruned:  # below the median of those complete before it, at the epoch where it ended
        before = [t.curve[len(trial.curve) - 1] for t in result.trials if t.number < trial.number and len(t.curve) == 6]
        assert max(trial.curve) < np.median(before)
    assert result.importance == {"rate": 1.0}
    assert result.at_edge == ()


def test_a_trial_that_diverges_has_failed_and_the_study_goes_on(dataset, tmp_path):
    space = SearchSpace(varied=(Choice(name="rate", values=(1e-3, 1e30)),))
    recipe = replace(RECIPE, optimiser="sgd")
    result = _tune(dataset, tmp_path / "run", space=space, recipe=recipe, trials=5)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert 0 < len(failed) < 5 == len(result.trials)
    for trial in failed:
        assert trial.settings == {"rate": 1e30}
        assert trial.val_accuracy is None
        assert "loss is" in trial.reason
        assert "rate 1e+30" in trial.reason
    assert result.best.settings == {"rate": 1e-3}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["importance"] is None


def test_where_all_diverge_there_is_nothing_to_choose(dataset, tmp_path, scripted):
    space = SearchSpace(varied=(Span(name="rate", low=2.0, high=3.0),))
    with pytest.raises(TrainingError, match="all 3 trials of resnet18-slim failed.*loss is nan"):
        _tune(dataset, tmp_path / "run", space=space, trials=3)
    assert not (tmp_path / "run" / "result.json").exists()


def test_ctrl_c_keeps_everything_and_the_resumed_study_is_the_undisturbed_one(dataset, tmp_path, scripted, monkeypatch):
    undisturbed = _tune(dataset, tmp_path / "undisturbed", trials=12, epochs=4)

    class Stopped(_Scripted):
        begun = 0

        def __init__(self, *arguments, **others):
            super().__init__(*arguments, **others)
            Stopped.begun += 1

        def step(self, index, fraction):
            if Stopped.begun in (3, 8, 13) and index == 0:  # the third of its sitting, where the first is a repetition
                signal.raise_signal(signal.SIGINT)
            return super().step(index, fraction)

    out = tmp_path / "stopped"
    monkeypatch.setattr(tuning_worker, "ArmTraining", Stopped)
    for resume, number in ((False, 3), (True, 7), (True, 11)):
        with pytest.raises(Interrupted, match=rf"in trial {number} of 12.*--resume"):
            _tune(dataset, out, trials=12, epochs=4, resume=resume)
        assert not (out / "result.json").exists()
    with pytest.raises(RunError, match="already holds a run; add --resume"):
        _tune(dataset, out, trials=12, epochs=4)
    resumed = _tune(dataset, out, trials=12, epochs=4, resume=True)
    assert resumed.put_back == 3
    assert [_told(trial) for trial in resumed.trials] == [_told(trial) for trial in undisturbed.trials]


def test_ctrl_c_is_heard_too_while_a_trial_is_validated_that_is_then_pruned(dataset, tmp_path, monkeypatch):
    class Stopped(_Scripted):
        begun = 0

        def score(self, images):
            Stopped.begun += 1
            if Stopped.begun == 5:
                signal.raise_signal(signal.SIGINT)
            return (1.0, 1.0) if Stopped.begun < 5 else (0.0, 1.0)

    monkeypatch.setattr(tuning_worker, "ArmTraining", Stopped)
    with pytest.raises(Interrupted, match="after 3 of 6 trials; --resume"):
        _tune(dataset, tmp_path / "run", epochs=2)
    resumed = _tune(dataset, tmp_path / "run", epochs=2, resume=True)
    assert (resumed.trials[2].state, resumed.put_back) == ("pruned", 0)


def _told(trial):
    return trial.settings, trial.state, trial.curve


def test_a_finished_tuning_is_only_read(dataset, tmp_path, scripted):
    first = _tune(dataset, tmp_path / "run")
    steps = []
    again = _tune(dataset, tmp_path / "run", resume=True, watch=steps.append)
    assert again == first
    assert not [step for step in steps if "trial" in step.stage]


def test_workers_with_folders_of_their_own_share_one_storage(dataset, tmp_path, scripted):
    for kind, storage in (("file", tmp_path / "study.journal"), ("base", f"sqlite:///{tmp_path / 'study.db'}")):
        first = _tune(dataset, tmp_path / f"{kind}1", storage=storage, trials=2)
        second = _tune(dataset, tmp_path / f"{kind}2", storage=storage, trials=2)
        assert second.trials == first.trials
        assert first.storage == str(storage)


def test_a_storage_of_something_else_is_refused_and_leaves_no_folder(dataset, tmp_path, scripted):
    storage = tmp_path / "study.journal"
    _tune(dataset, tmp_path / "first", trials=1, storage=storage, study="s")
    other = tmp_path / "other.npz"
    np.savez(other, images=np.zeros((40, 16, 16, 3), np.uint8), labels=np.arange(40) % 4)
    told = {"arm": "resnet18-slim", "dataset": dataset, "trials": 1, "epochs": 3, "recipe": RECIPE, "space": SPACE}
    for change, said in (
        ({"space": SearchSpace(varied=(Span(name="rate", low=1e-4, high=1.0, log=True),))}, "space: rate"),
        ({"space": SearchSpace(varied=(*SPACE.varied, Span(name="warmup", low=0, high=0.2)))}, "space: warmup absent"),
        ({"trials": 7}, "trials: 1 there, 7 here"),
        ({"epochs": 4}, "epochs: 3 there, 4 here"),
        ({"recipe": replace(RECIPE, batch_size=20)}, "recipe: batch_size 10 there, 20 here"),
        ({"dataset": f"arrays:{other}"}, f"dataset: {dataset} there, arrays:{other} here"),
        ({"arm": "resnet20"}, "arm: resnet18-slim there, resnet20 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
    ):
        with pytest.raises(RunError) as refusal:
            tune_architecture(**told | change, storage=storage, study="s", out=tmp_path / "second", device="cpu")
        assert said in str(refusal.value)
        assert "choose another --storage" in str(refusal.value)
        assert not (tmp_path / "second").exists()


def test_a_folder_of_another_tuning_is_refused(dataset, tmp_path, scripted):
    _tune(dataset, tmp_path / "run")
    with pytest.raises(RunError, match="trials=6 there, 7 now"):
        _tune(dataset, tmp_path / "run", trials=7, resume=True)


def test_wrong_settings_are_refused_before_anything_is_made(dataset, tmp_path):
    for change, said in (
        ({"trials": 0}, "trials must be >= 1"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"recipe": Recipe(batch_size=55)}, "less than one batch of 55"),
        ({"space": SearchSpace(varied=(Choice(name="batch_size", values=(10, 55)),))}, "less than one batch of 55"),
        ({"space": SearchSpace(varied=(Span(name="warmup", low=0, high=1),))}, "warmup is a share"),
    ):
        with pytest.raises(ConfigError, match=said):
            _tune(dataset, tmp_path / "run", **change)
    with pytest.raises(ConfigError, match="did you mean 'resnet18"):
        tune_architecture("resnet81", dataset, out=tmp_path / "run", recipe=RECIPE)
    assert not list(tmp_path.iterdir())


def test_a_transformer_made_to_measure_is_as_large_as_in_the_comparison(dataset, tmp_path, scripted):
    result = tune_architecture("vit", dataset, cnn="resnet18-slim", out=tmp_path / "run", trials=1, recipe=RECIPE)
    assert result.shape.startswith("width ")


_CHILD = """
import sys, time
from nndl_suite.comparison import tuning_worker
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.search_space import SearchSpace, Span
from nndl_suite.comparison.tuning import tune_architecture
class Slow(ArmTraining):
    def step(self, index, fraction):
        time.sleep(20)
        return super().step(index, fraction)
tuning_worker.ArmTraining, tuning_worker.BEAT_SECONDS = Slow, 0.5
tune_architecture("resnet18-slim", sys.argv[1], trials=4, epochs=2, storage=sys.argv[2], out=sys.argv[3],
    recipe=Recipe(batch_size=10), space=SearchSpace(varied=(Span(name="rate", low=1e-4, high=1e-2, log=True),)),
    device="cpu", precision="32-true")
"""


def test_of_two_worker_processes_one_is_killed_and_no_trial_is_lost(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_worker, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(lease, "is_gone", lambda process: False)  # as of a worker on another machine
    journal, theirs = tmp_path / "study.journal", tmp_path / "a" / "trials"
    other = subprocess.Popen([sys.executable, "-c", _CHILD, dataset, str(journal), str(tmp_path / "a")])
    stages = []

    def kill_it_amid_its_trial(step):
        if not stages:
            time.sleep(0.7)  # a beat or two; a kill within one leaves Optuna's lock, which falls after 30 s
            assert other.poll() is None
            other.send_signal(signal.SIGKILL)
            other.wait()
        stages.append(step.stage)

    try:
        deadline = time.monotonic() + 60
        while not theirs.exists():
            assert other.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        result = _tune(dataset, tmp_path / "b", trials=4, epochs=2, storage=journal, watch=kill_it_amid_its_trial)
    finally:
        other.kill()
        other.wait()
    assert [folder.name for folder in theirs.iterdir()] == ["0000"]
    assert [trial.number for trial in result.trials] == [1, 2, 3, 4]
    assert all(trial.state in ("complete", "pruned") for trial in result.trials)
    assert result.put_back == 1
    assert "waiting for the trials of other workers" in stages
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    drawn = {line["trial_id"]: line["param_value_internal"] for line in lines if line.get("param_name") == "rate"}
    assert result.trials[-1].settings["rate"] == drawn[0]  # in a journal of one study the id is the number


def test_a_trial_that_kills_every_worker_fails_at_last(dataset, tmp_path, monkeypatch):
    class Crash(_Scripted):
        def step(self, index, fraction):
            if self.rate > 5e-3:
                raise RuntimeError("the machine went away")
            return super().step(index, fraction)

    monkeypatch.setattr(tuning_worker, "ArmTraining", Crash)
    space = SearchSpace(varied=(Choice(name="rate", values=(1e-3, 9e-3)),))
    crashes = 0
    for _ in range(20):
        try:
            result = _tune(dataset, tmp_path / "run", space=space, resume=True)
            break
        except RuntimeError:
            crashes += 1
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed
    assert crashes == 3 * len(failed)
    assert all("3 workers died" in trial.reason for trial in failed)
    assert len(result.trials) == 6


def test_rates_of_single_arms_do_not_count(dataset, tmp_path, scripted):
    recipe = replace(RECIPE, cnn=Rates(rate=5.0), transformer=Rates(rate=5.0))
    assert all(trial.state != "failed" for trial in _tune(dataset, tmp_path / "run", recipe=recipe).trials)
