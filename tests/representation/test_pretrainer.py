"""Pretraining from end to end on a small set: it learns, it repeats itself, it survives a kill."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import ConfigError, DataError, Interrupted, NndlError, RunError
from nndl_suite.representation import pretrainer as pretrainer_module
from nndl_suite.representation import pretraining as pretraining_module
from nndl_suite.representation import quality_watch as quality_watch_module
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.pretrainer import PretrainConfig, SSLPretrainer
from nndl_suite.representation.quality import measure_quality
from nndl_suite.representation.views import ViewRecipe
from nndl_suite.training.checkpoints import equal_states, load_newest
from nndl_suite.training.runs import RunFolder

SMALL = {"backbone": "resnet18-slim", "epochs": 3, "batch_size": 30, "device": "cpu", "precision": "32-true"}


@pytest.fixture(scope="module")
def finished(small_set, tmp_path_factory) -> PretrainRun:
    return SSLPretrainer(**SMALL).fit(small_set, out=tmp_path_factory.mktemp("runs") / "a")


def _weights(run: PretrainRun) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoint)


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_what_the_contract_says(finished):
    result = RunFolder(finished.path).result()
    assert result is not None
    assert result["kind"] == "pretrain"
    assert {"method", "epochs", "images_per_second", "final_loss", "effective_rank", "checkpoint"} <= set(result)
    assert result["checkpoint"] == "backbone.safetensors"
    assert finished.checkpoint.is_file()
    assert (finished.path / "embedding.json").is_file()
    assert (finished.path / "neighbours.json").is_file()
    assert 1 <= finished.effective_rank <= 120
    assert finished.warning is None
    assert 0 < finished.final_loss < math.log(2 * 30 - 1) + 0.5
    assert PretrainRun.read(finished.path) == finished


def test_the_seed_alone_decides_every_bit(finished, small_set, tmp_path):
    torch.manual_seed(12345)  # the caller's randomness is neither used
    before = torch.get_rng_state()
    again = SSLPretrainer(**SMALL).fit(small_set, out=tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)  # nor touched
    assert _same(_weights(finished), _weights(again))
    other = SSLPretrainer(**SMALL, seed=1).fit(small_set, out=tmp_path / "other")
    assert not _same(_weights(finished), _weights(other))


def test_labels_are_not_looked_at(finished, small_set, tmp_path):
    unlabelled = load_image_set(small_set, "train").without_labels()
    run = SSLPretrainer(**SMALL).fit(unlabelled, out=tmp_path / "run")
    assert _same(_weights(finished), _weights(run))


@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_stopped_run_resumes_to_the_last_bit(finished, small_set, tmp_path, monkeypatch, stop_at):
    views, calls = pretraining_module.random_views, []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return views(*args, **kwargs)

    original = pretrainer_module.LoopSettings
    monkeypatch.setattr(pretrainer_module, "LoopSettings", lambda **kw: original(**kw, checkpoint_seconds=0.0))
    monkeypatch.setattr(pretraining_module, "random_views", stopping)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        SSLPretrainer(**SMALL).fit(small_set, out=tmp_path / "run")
    with pytest.raises(RunError, match="unfinished"):
        PretrainRun.read(tmp_path / "run")
    resumed = SSLPretrainer(**SMALL).fit(small_set, out=tmp_path / "run", resume=True)
    assert len(calls) == 12 + 1  # every step once, and the one that was cut off
    assert _same(_weights(finished), _weights(resumed))
    assert resumed.final_loss == finished.final_loss


_KILLED = """
import os, signal, sys
from nndl_suite.representation import pretrainer, pretraining
from nndl_suite.training.loop import LoopSettings

views = pretraining.random_views

def killed_in_step_8(images, recipe, *, generator):
    killed_in_step_8.calls += 1
    if killed_in_step_8.calls == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return views(images, recipe, generator=generator)

killed_in_step_8.calls = 0
pretraining.random_views = killed_in_step_8
pretrainer.LoopSettings = lambda **settings: LoopSettings(**settings, checkpoint_seconds=0.0)
small = dict(backbone="resnet18-slim", epochs=3, batch_size=30, device="cpu", precision="32-true")
pretrainer.SSLPretrainer(**small).fit(sys.argv[1], out=sys.argv[2])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_9_and_resume_end_in_the_same_bits(finished, small_set, tmp_path):
    out = tmp_path / "run"
    assert subprocess.run([sys.executable, "-c", _KILLED, small_set, out]).returncode == -signal.SIGKILL
    killed_at = load_newest(RunFolder(out).checkpoints)
    assert killed_at is not None
    assert killed_at.step == 7
    resumed = SSLPretrainer(**SMALL).fit(small_set, out=out, resume=True)
    assert _same(_weights(finished), _weights(resumed))
    states = [load_newest(RunFolder(path).checkpoints).state for path in (out, finished.path)]
    assert equal_states(*states)


def test_a_finished_run_is_returned_as_it_is_and_not_overwritten(finished, small_set):
    assert SSLPretrainer(**SMALL).fit(small_set, out=finished.path, resume=True) == finished
    with pytest.raises(RunError, match="already holds a run"):
        SSLPretrainer(**SMALL).fit(small_set, out=finished.path)
    with pytest.raises(RunError, match="other settings"):
        SSLPretrainer(**SMALL | {"epochs": 4}).fit(small_set, out=finished.path, resume=True)


def test_it_learns(small_set, tmp_path):
    run = SSLPretrainer(**SMALL | {"epochs": 8}).fit(small_set, out=tmp_path / "run")
    losses = [line["loss"] for line in RunFolder(run.path).metrics()]
    assert losses[-1] < losses[0] - 0.2


def test_a_loss_that_is_not_finite_ends_the_run(small_set, tmp_path):
    with pytest.raises(NndlError, match=r"loss is nan at step \d+"):
        SSLPretrainer(**SMALL, learning_rate=1e30).fit(small_set, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"method": "simcrl"}, "simclr"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "negatives"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"temperature": float("nan")}, "temperature"),
        ({"warmup": 1.0}, "warmup"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"method": "barlow", "temperature": 0.5}, "barlow has no temperature"),
        ({"method": "supervised", "projector_dim": 64}, "no projector"),
        ({"views": (ViewRecipe(),) * 3}, "takes 2 views"),
        ({"method": "swav", "views": (ViewRecipe(),)}, "at least 2 views"),
        ({"augmentation": -1.0}, "augmentation"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_out_of_range_are_refused(setting, told):
    with pytest.raises(ConfigError, match=told):
        PretrainConfig(**setting)


def test_the_rate_that_runs_is_in_proportion_to_the_batch(small_set, tmp_path):
    config = SSLPretrainer(**SMALL | {"epochs": 1, "batch_size": 64}, learning_rate=0.2, warmup=0.0)
    assert config.peak_rate == pytest.approx(0.05)
    run = config.fit(small_set, out=tmp_path / "run")
    assert RunFolder(run.path).metrics()[0]["learning_rate"] == pytest.approx(0.05)


def test_a_batch_larger_than_the_set_is_refused(small_set, tmp_path):
    with pytest.raises(ConfigError, match="batch_size"):
        SSLPretrainer(**SMALL | {"batch_size": 512}).fit(small_set, out=tmp_path / "run")
    assert not (Path(tmp_path) / "run").exists()  # the next try finds no run in its way


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_resumes_to_the_last_bit(method, small_set, tmp_path, monkeypatch):
    settings = SMALL | {"method": method, "epochs": 2, "projector_dim": None if method == "supervised" else 32}
    whole = SSLPretrainer(**settings).fit(small_set, out=tmp_path / "whole")
    assert math.isfinite(whole.final_loss)
    original, views = pretrainer_module.LoopSettings, pretraining_module.random_views
    monkeypatch.setattr(pretrainer_module, "LoopSettings", lambda **kw: original(**kw, checkpoint_seconds=0.0))
    calls = []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return views(*args, **kwargs)

    monkeypatch.setattr(pretraining_module, "random_views", stopping)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        SSLPretrainer(**settings).fit(small_set, out=tmp_path / "cut")
    torch.manual_seed(7)  # what the caller draws has no say
    resumed = SSLPretrainer(**settings).fit(small_set, out=tmp_path / "cut", resume=True)
    assert _same(_weights(whole), _weights(resumed))
    states = [load_newest(RunFolder(run.path).checkpoints).state for run in (whole, resumed)]
    assert equal_states(*states)


def test_steps_take_the_place_of_epochs(small_set, tmp_path):
    run = SSLPretrainer(**SMALL, steps=6).fit(small_set, out=tmp_path / "run")
    assert RunFolder(run.path).metrics()[-1]["step"] == 6
    assert run.epochs == 1.5  # 4 steps an epoch


def test_supervised_needs_labels(small_set, tmp_path):
    unlabelled = load_image_set(small_set, "train").without_labels()
    with pytest.raises(DataError, match="no labels"):
        SSLPretrainer(**SMALL | {"method": "supervised"}).fit(unlabelled, out=tmp_path / "run")


def test_looks_and_the_online_probe_change_nothing_that_is_learned(finished, small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrainer_module, "epochs_between_looks", lambda *_args, **_kw: 1)
    run = SSLPretrainer(**SMALL, online_probe="yes").fit(small_set, out=tmp_path / "run")
    assert _same(_weights(finished), _weights(run))
    lines = RunFolder(run.path).metrics()
    looks = [line for line in lines if "knn_accuracy" in line]
    assert [line["step"] for line in looks] == [4, 8, 12]
    assert all(0 <= line["online_accuracy"] <= 1 for line in lines)
    result = RunFolder(run.path).result()
    assert result is not None
    assert result["quality"]["knn_accuracy"] == looks[-1]["knn_accuracy"]
    assert result["warning"] is None
    assert not (run.path / "last-good.safetensors").exists()


def test_an_online_probe_needs_labels(small_set, tmp_path):
    unlabelled = load_image_set(small_set, "train").without_labels()
    with pytest.raises(DataError, match="no labels"):
        SSLPretrainer(**SMALL, online_probe="yes").fit(unlabelled, out=tmp_path / "run")


@pytest.fixture
def constant_features(monkeypatch):
    """Every look finds the same feature for all images."""
    monkeypatch.setattr(pretrainer_module, "epochs_between_looks", lambda *_args, **_kw: 1)
    same = measure_quality(*(torch.ones(8, 4),) * 3)
    monkeypatch.setattr(quality_watch_module, "look", lambda *_args, **_kw: same)


@pytest.mark.usefixtures("constant_features")
def test_a_collapsed_run_says_so_or_stops(small_set, tmp_path):
    run = SSLPretrainer(**SMALL).fit(small_set, out=tmp_path / "warned")
    assert run.warning is not None
    assert "collapsed" in run.warning
    with pytest.raises(NndlError, match=r"stopped after epoch 1: .*collapsed"):
        SSLPretrainer(**SMALL, stop_on_collapse=True).fit(small_set, out=tmp_path / "stopped")
    assert RunFolder(tmp_path / "stopped").result() is None


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu(small_set, tmp_path, monkeypatch):
    step, seen = pretraining_module.Pretraining.step, []

    def watched(self, index, fraction):
        seen.append(index)
        torch.cuda.set_sync_debug_mode("error" if index > 3 else "default")
        try:
            return step(self, index, fraction)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(pretraining_module.Pretraining, "step", watched)
    SSLPretrainer(**SMALL | {"device": "cuda", "precision": "auto"}).fit(small_set, out=tmp_path / "run")
    assert max(seen) > 3
