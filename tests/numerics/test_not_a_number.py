"""A NaN or an infinity anywhere in what learns ends the run by one sentence, and no checkpoint holds it."""

import time

import pytest
import torch
from made import SCENE, arm, finetuning, photos, pretraining, reconstruction, reconstruction_on_device

from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.errors import TrainingError
from nndl_suite.nerf.trainer import train_field
from nndl_suite.representation.methods import METHODS
from nndl_suite.training.checkpoints import load_newest
from nndl_suite.training.finite import Broken, broken_tensors, went_astray
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder

TRAINERS = {
    **{method: lambda method=method: pretraining(method) for method in METHODS},
    "beside an online probe": lambda: pretraining("simclr", online=True),
    "arm": arm,
    "arm of means": lambda: arm(Recipe(batch_size=8, rates=Rates(rate=1e-3), ema_decay=0.9, clip_norm=1.0)),
    "finetuning": finetuning,
    "field": lambda: reconstruction(pose_rate=1e-3),
    "field on a device": lambda: reconstruction_on_device(pose_rate=1e-3),
}


def floating(node, path=""):
    """Every tensor of a state that could hold a NaN, by its name."""
    if isinstance(node, torch.Tensor):
        return {path: node} if node.is_floating_point() else {}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    found = {}
    for key, value in items:
        found |= floating(value, f"{path}.{key}" if path else str(key))
    return found


class Poisoned:
    """A training into whose state something is put before or after a step."""

    def __init__(self, training, name, value, *, after):
        self.training, self.name, self.value, self.after = training, name, value, after

    def step(self, index, fraction):
        if index == 2 and not self.after:
            self._poison()
        figures = self.training.step(index, fraction)
        if index == 2 and self.after:
            self._poison()
        return figures

    def _poison(self):
        state = self.training.state()
        floating(state)[self.name][(0,) * floating(state)[self.name].ndim] = self.value
        self.training.load_state(state)

    def state(self):
        return self.training.state()

    def load_state(self, state):
        self.training.load_state(state)


def new_run(path):
    (path / "checkpoints").mkdir(parents=True)
    return RunFolder(path)


def loop(**settings):
    return LoopSettings(**{"stage": "learning", "total_steps": 5, "checkpoint_seconds": 0, **settings})


@pytest.mark.parametrize("name", TRAINERS)
def test_a_weight_that_breaks_is_named_and_the_checkpoint_before_it_stays(name, tmp_path):
    """The loss of the step that broke it was a number: only the look at the state can tell."""
    training = TRAINERS[name]()
    training.step(0, 0.0)  # so that there are moments
    names = list(floating(training.state()))
    for number, tensor in enumerate((names[0], names[-1])):
        run = new_run(tmp_path / str(number))
        poisoned = Poisoned(TRAINERS[name](), tensor, torch.inf if number else torch.nan, after=True)
        with pytest.raises(TrainingError) as caught:
            run_loop(poisoned, loop(), run)
        told = str(caught.value)
        assert f"learning: NaN or infinity in {tensor} (1 of " in told
        assert " at step 3" in told
        assert "lower the learning rate" in told
        assert "\n" not in told
        kept = load_newest(run.checkpoints)
        assert kept is not None
        assert kept.step == 2
        assert not broken_tensors(kept.state)


WEIGHTS = {
    "simclr": "method.backbone.trunk.conv1.weight",
    "arm": "network.conv1.weight",
    "finetuning": "network.0.trunk.conv1.weight",
    "field": "field.weights",
    "field on a device": "field.weights",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_loss_that_breaks_is_told_with_its_step_whenever_the_log_is_due(name, tmp_path):
    run = new_run(tmp_path)
    poisoned = Poisoned(TRAINERS[name](), WEIGHTS[name], torch.nan, after=False)
    with pytest.raises(
        TrainingError, match=rf"loss is nan at step 3.*NaN or infinity in {'' if 'device' in name else WEIGHTS[name]}"
    ):
        run_loop(poisoned, loop(total_steps=50, log_every=1000, checkpoint_seconds=1e9), run)
    assert load_newest(run.checkpoints) is None


def test_running_statistics_and_unused_entries_are_looked_at_too(tmp_path):
    """No loss of a training network depends on these."""
    for training, name in (
        (arm(), "network.bn1.running_var"),
        (reconstruction(), "field.grid"),
        (reconstruction(), "log_gain"),
        (pretraining("mocov2"), "method.queue.rows"),
    ):
        assert name in floating(training.state())
        poisoned = Poisoned(training, name, torch.nan, after=True)
        with pytest.raises(TrainingError, match=rf"{name} \("):
            run_loop(poisoned, loop(), new_run(tmp_path / name))


def test_time_that_ends_a_run_does_not_let_a_broken_state_through(tmp_path):
    class Late:
        def __init__(self):
            self.weight = torch.zeros(3)

        def step(self, index, _fraction):
            time.sleep(0.02)
            self.weight += torch.tensor([0.0, torch.nan, 0.0]) if index > 2 else 1.0
            return {"loss": torch.zeros(())}

        def state(self):
            return {"weight": self.weight}

        def load_state(self, state):
            raise AssertionError("there is no checkpoint to go on from")

    run = new_run(tmp_path)
    with pytest.raises(TrainingError, match=r"NaN or infinity in weight \(1 of 3 values\) at step"):
        run_loop(Late(), loop(total_steps=10**9, max_seconds=0.2, checkpoint_seconds=1e9), run)
    assert load_newest(run.checkpoints) is None


def test_what_a_device_would_have_to_be_waited_for_is_not_read_at_every_step(tmp_path):
    """As on a GPU: figures are looked at when the log is due, and not before."""

    class Elsewhere(torch.Tensor):
        """A tensor that counts how often somebody waits for it."""

        waited = 0

        @property
        def device(self):
            return torch.device("meta")

        def __float__(self):
            Elsewhere.waited += 1
            return float(self.as_subclass(torch.Tensor))

    class Far:
        def step(self, _index, _fraction):
            return {"loss": torch.ones(()).as_subclass(Elsewhere)}

        def state(self):
            return {}

    run_loop(Far(), loop(total_steps=40, log_every=20, checkpoint_seconds=1e9), new_run(tmp_path))
    assert Elsewhere.waited == 3  # two lines of the log, and the checkpoint at the end


def test_a_field_that_breaks_within_a_run_names_the_table(tmp_path, monkeypatch):
    run = new_run(tmp_path)
    step = reconstruction().step.__func__

    def broken(self, index, fraction):
        figures = step(self, index, fraction)
        if index == 3:
            self.field.table[17] = torch.nan
        return figures

    monkeypatch.setattr("nndl_suite.nerf.trainer.FieldTrainer.step", broken)
    with pytest.raises(TrainingError, match=r"training: .*field.table \(.*lower the learning rates$"):
        train_field(photos(), SCENE.__class__(**{**_fields(SCENE), "steps": 6}), run)


def _fields(settings):
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def test_the_sentence():
    state = {"a": [torch.ones(2), {"b": torch.tensor([1.0, torch.nan, -torch.inf])}], "c": "text", "d": None, "e": 1.0}
    assert broken_tensors(state) == [Broken(name="a.1.b", count=2, size=3)]
    assert broken_tensors({"n": torch.tensor([1, 2])}) == []
    error = went_astray("x", 7, {"loss": float("inf"), "learning_rate": 0.25}, state, "do y")
    assert str(error) == "x: loss is inf at step 7 and rate 0.25; NaN or infinity in a.1.b (2 of 3 values); do y"
    error = went_astray("x", 7, {"loss": float("nan")}, {}, "do y")
    assert str(error) == "x: loss is nan at step 7; all weights are numbers still; do y"
