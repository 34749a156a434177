"""A DataLoader's worker that is killed is one sentence."""

import gc
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data.batches import Batches, _quiet_at_the_end, _workers_alive, in_order
from nndl_suite.data.image_set import FileImages, file_set
from nndl_suite.errors import DataError

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux"),
    # a kill in the middle of handing a tensor over leaves torch's own socket open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Deadly(FileImages):
    def read(self, indices):
        if 13 in indices.tolist():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(indices)


@pytest.fixture(autouse=True)
def swept():
    """What a test leaves open is found in it, not in a later one."""
    yield
    gc.collect()


@pytest.fixture
def images(tmp_path):
    files = []
    for row in range(24):
        files.append(tmp_path / f"{row:02d}.png")
        Image.fromarray(np.full((8, 8, 3), row, np.uint8)).save(files[-1])
    return file_set("photos", Deadly(tuple(files), 8), torch.zeros(24, dtype=torch.int64), ["all"])


# torch says it from the handler of a signal: mostly while a batch is waited for, now and then in the lines between,
# where it stays a RuntimeError that the command line puts into words
_SAID = ((DataError, RuntimeError), r"was killed.*memory.*--resume.*DataLoader worker|^DataLoader worker .* is killed")


def test_while_training(images):
    batches = Batches(images, batch_size=4, seed=0, device="cpu", workers=1)
    with pytest.raises(_SAID[0], match=_SAID[1]):
        [batches.at(step) for step in range(len(batches))]


def test_while_scoring(images):
    with pytest.raises(_SAID[0], match=_SAID[1]):
        list(in_order(images, batch_size=4, workers=1))


def test_a_connection_that_breaks_while_a_tensor_is_handed_over():
    with pytest.raises(DataError, match=r"was killed.*memory.*--resume"), _workers_alive():
        raise ConnectionResetError(104, "Connection reset by peer")


class Faulty(FileImages):
    def read(self, indices):
        raise RuntimeError("no such kernel")


def test_an_error_within_a_worker_is_not_taken_for_its_death(images):
    faulty = replace(images, store=Faulty(images.store.files, 8))
    with pytest.raises(RuntimeError, match="no such kernel"):
        list(in_order(faulty, batch_size=4, workers=1))


def test_a_hand_over_that_breaks_off_prints_no_traceback_in_the_worker(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: told.append(str(error)))
    _quiet_at_the_end(0)
    for error in (ConnectionResetError(104, "reset"), EOFError(), ValueError("a bug")):
        sys.excepthook(type(error), error, None)
    assert told == ["a bug"]
