import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from nndl_suite.errors import ConfigError, Interrupted, NndlError, NndlWarning, RunError
from nndl_suite.training.checkpoints import equal_states, load_newest
from nndl_suite.training.files import write_json
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import open_run
from nndl_suite.training.seeds import derived_seed, generator_for, isolated_rng


class Walk:
    """A random walk: its state depends on every draw that was ever made."""

    def __init__(self, seed=0):
        self.seed, self.place, self.fractions = seed, torch.zeros(3), []

    def step(self, index, fraction):
        self.fractions.append(fraction)
        self.place = self.place * 0.9 + torch.randn(3, generator=generator_for(self.seed, "walk", index))
        return {"loss": self.place.sum()}

    def state(self):
        return {"place": self.place}

    def load_state(self, state):
        self.place = state["place"]


def new_run(path, resume=False):
    return open_run(path, kind="walk", settings={"seed": 0}, resume=resume)


def settings(steps, **other):
    return LoopSettings(stage="walking", total_steps=steps, **other)


def test_a_stopped_walk_ends_where_an_undisturbed_one_does(tmp_path):
    undisturbed = Walk()
    run_loop(undisturbed, settings(50), new_run(tmp_path / "a"))

    class Stopped(Walk):
        def step(self, index, fraction):
            if index == 23:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(index, fraction)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="after step 24 of 50"):
        run_loop(Stopped(), settings(50), new_run(tmp_path / "b"))
    assert signal.getsignal(signal.SIGINT) is handler
    again = Walk()
    result = run_loop(again, settings(50), new_run(tmp_path / "b", resume=True))
    assert result.steps == 50
    assert len(again.fractions) == 26
    assert torch.equal(again.place, undisturbed.place)


KILLED = """
import sys, os, signal
sys.path.insert(0, {folder!r})
from test_loop import Walk, new_run, settings
from nndl_suite.training.files import write_json
from nndl_suite.training.loop import run_loop
class Killed(Walk):
    def step(self, index, fraction):
        if index == 31:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(index, fraction)
run_loop(Killed(), settings(50, checkpoint_seconds=0), new_run({out!r}))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_9_costs_nothing_but_time(tmp_path):
    undisturbed = new_run(tmp_path / "a")
    run_loop(Walk(), settings(50), undisturbed)
    code = textwrap.dedent(KILLED).format(folder=os.path.dirname(__file__), out=str(tmp_path / "b"))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    killed = new_run(tmp_path / "b", resume=True)
    assert load_newest(killed.checkpoints).step == 31
    run_loop(Walk(), settings(50), killed)
    assert equal_states(load_newest(killed.checkpoints).state, load_newest(undisturbed.checkpoints).state)


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(tmp_path):
    undisturbed, run = Walk(), new_run(tmp_path / "a")
    run_loop(undisturbed, settings(40), new_run(tmp_path / "b"))
    run_loop(Walk(), settings(20), run)
    run_loop(Walk(), settings(30), run)
    newest = run.checkpoints / "step-000000030.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    again = Walk()
    with pytest.warns(NndlWarning, match="step-000000030.safetensors is damaged"):
        run_loop(again, settings(40), run)
    assert len(again.fractions) == 20
    assert torch.equal(again.place, undisturbed.place)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "seed=0 there, 1 now"),
        ({"fingerprint": "cd"}, "the images have changed"),
        ({"fingerprints": ["x", "y", "z"]}, "the training images have changed, the test images have changed"),
        ({"files": "cd"}, "the capture's files have changed"),
    ],
)
def test_a_checkpoint_of_other_settings_or_data_is_refused_with_what_differs(tmp_path, changed, told):
    asked = {"seed": 0, "fingerprint": "ab", "fingerprints": ["1", "y", "3"], "files": "ab"}
    run = open_run(tmp_path / "a", kind="walk", settings=asked, resume=False)
    run_loop(Walk(), settings(5), run)
    with pytest.raises(RunError, match=told):
        open_run(tmp_path / "a", kind="walk", settings=asked | changed, resume=True)
    config = run.config()  # as if the checkpoints had been put beside it
    write_json(run.path / "config.json", {**config, "settings": asked | changed})
    with pytest.raises(RunError, match=f"checkpoint of step 5 .*{told}"):
        run_loop(Walk(), settings(9), run)


def test_a_state_that_does_not_fit_is_refused_with_the_version_that_made_it(tmp_path):
    run = new_run(tmp_path / "a")
    run_loop(Walk(), settings(5), run)

    class Newer(Walk):
        def load_state(self, state):
            self.speed = state["speed"]

    with pytest.raises(RunError, match=r"step 5 .* does not fit .*'speed'.* with nndl-suite \d"):
        run_loop(Newer(), settings(9), run)


def test_a_finished_run_does_nothing_more(tmp_path):
    run_loop(Walk(), settings(5), new_run(tmp_path / "a"))
    again = Walk()
    run_loop(again, settings(5), new_run(tmp_path / "a", resume=True))
    assert again.fractions == []


def test_fractions_are_the_share_done(tmp_path):
    walk = Walk()
    run_loop(walk, settings(4), new_run(tmp_path / "a"))
    assert walk.fractions == [0, 0.25, 0.5, 0.75]


def test_time_ends_a_run(tmp_path):
    told = []
    result = run_loop(Walk(), settings(10**9, max_seconds=0.5), new_run(tmp_path / "a"), watch=told.append)
    assert 0.5 <= result.seconds < 2
    assert told[-1].done == told[-1].total


def test_epochs_end_with_their_own_figures(tmp_path):
    run, seen = new_run(tmp_path / "a"), []

    def end_of_epoch(epoch):
        seen.append(epoch)
        return {"val_accuracy": epoch / 10}

    run_loop(Walk(), settings(9, steps_per_epoch=3, log_every=100), run, end_of_epoch=end_of_epoch)
    assert seen == [0, 1, 2]
    assert [(line["step"], line["val_accuracy"]) for line in run.metrics()] == [(3, 0), (6, 0.1), (9, 0.2)]


def test_a_loss_that_is_not_a_number_stops_with_its_step(tmp_path):
    class Broken(Walk):
        def step(self, index, fraction):
            return {"loss": torch.tensor(float("nan") if index >= 7 else 1.0)}

    with pytest.raises(NndlError, match="loss is nan at step 8"):
        run_loop(Broken(), settings(50, log_every=1), new_run(tmp_path / "a"))


def test_settings_are_checked_once():
    with pytest.raises(ConfigError, match="total_steps"):
        settings(0)
    with pytest.raises(ConfigError, match="seconds"):
        settings(1, max_seconds=0)


class TestRunFolders:
    def test_a_run_is_refused_unless_resumed(self, tmp_path):
        new_run(tmp_path / "a")
        with pytest.raises(RunError, match="already holds a run; add --resume"):
            new_run(tmp_path / "a")
        assert new_run(tmp_path / "a", resume=True).config()["kind"] == "walk"

    def test_other_settings_are_named(self, tmp_path):
        new_run(tmp_path / "a")
        with pytest.raises(RunError, match="seed=0 there, 1 now"):
            open_run(tmp_path / "a", kind="walk", settings={"seed": 1}, resume=True)

    def test_foreign_folders_are_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(RunError, match="not empty and holds no run"):
            new_run(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_log_line_cut_by_a_kill_is_passed_over_and_repeats_count_once(self, tmp_path):
        run = new_run(tmp_path / "a")
        for record in ({"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "loss": 1.0}):
            run.log(record)
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "lo')
        assert [line["loss"] for line in run.metrics()] == [3.0, 1.0]


class TestSeeds:
    def test_streams_and_steps_differ(self):
        seeds = {derived_seed(s, name, i) for s in range(3) for name in "ab" for i in range(100)}
        assert len(seeds) == 600

    @pytest.mark.parametrize("theirs", [1, 2])
    def test_the_seed_alone_decides_and_the_callers_draws_are_left(self, theirs):
        torch.manual_seed(theirs)
        expected_next = torch.rand(1, generator=torch.Generator().manual_seed(theirs))
        with isolated_rng(5):
            inside = torch.rand(1)
        assert torch.equal(inside, torch.rand(1, generator=torch.Generator().manual_seed(5)))
        assert torch.equal(torch.rand(1), expected_next)
