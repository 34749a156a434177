"""What a long run must not gather: memory and open files, step by step, line by line, checkpoint by checkpoint.

The long form, six hours' worth and the real trainers, is `benchmarks/long_run.py`.
"""

import gc
import os
import sys
import tracemalloc
from itertools import pairwise

import pytest
import torch

from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import open_run

LOOKS = (200, 300, 400, 500)
"""Steps after which is looked: what gathers does so between any two of them, what fills a table does not."""


class Watched:
    """A training whose step costs little, looked at now and then."""

    def __init__(self, leaks=()):
        self.weights, self.leaks, self.kept, self.memory, self.files = torch.zeros(2000), leaks, [], {}, {}

    def step(self, index, fraction):
        if index in LOOKS:
            gc.collect()
            self.memory[index] = tracemalloc.get_traced_memory()[0]
            self.files[index] = len(os.listdir("/proc/self/fd"))
        if "memory" in self.leaks:
            self.kept.append({"loss": fraction})
        if "files" in self.leaks and index % 10 == 0:
            self.kept.append(os.open(os.devnull, os.O_RDONLY))
        self.weights = self.weights * 0.9 + index
        return {"loss": self.weights.mean(), "learning_rate": fraction}

    def state(self):
        return {"weights": self.weights, "optimiser": {0: {"step": 1.0}}}

    def load_state(self, state):
        self.weights = state["weights"]

    def grown(self):
        """Bytes a step, between the two looks where they are the fewest, and open files in all."""
        bytes_a_step = [(self.memory[b] - self.memory[a]) / (b - a) for a, b in pairwise(LOOKS)]
        return min(bytes_a_step), self.files[LOOKS[-1]] - self.files[LOOKS[0]]


def watched(folder, leaks=()):
    """A run with a line of the log, a report of progress and a checkpoint after every step."""
    training, told = Watched(leaks), []
    run = open_run(folder / "run", kind="walk", settings={"seed": 0}, resume=False)
    settings = LoopSettings(
        stage="walking", total_steps=LOOKS[-1] + 1, steps_per_epoch=7, log_every=1, checkpoint_seconds=0.0
    )
    tracemalloc.start()
    try:
        run_loop(training, settings, run, watch=lambda step: told.clear(), end_of_epoch=lambda epoch: {"epoch": epoch})
    finally:
        tracemalloc.stop()
    for handle in training.kept:
        if isinstance(handle, int):
            os.close(handle)
    return training.grown()


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")


def test_nothing_grows_over_the_steps(tmp_path):
    bytes_a_step, files = watched(tmp_path)
    assert bytes_a_step < 60  # tables of the interpreter still fill a little
    assert files == 0


@pytest.mark.parametrize("leak", ["memory", "files"])
def test_what_grows_would_be_seen(tmp_path, leak):
    bytes_a_step, files = watched(tmp_path, (leak,))
    assert (bytes_a_step > 100) == (leak == "memory")
    assert (files > 10) == (leak == "files")
