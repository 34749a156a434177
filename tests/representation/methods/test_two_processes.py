"""A batch shared by two processes gives the loss and the gradients of one process with all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from nndl_suite.representation.methods import METHODS

SCRIPT = Path(__file__).with_name("two_processes.py")
NAMES = [name for name, method in METHODS.items() if not method.labels]
Figures = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Figures, Figures]:
    """Losses and gradients by method, of one process and of two."""
    if not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    folder = tmp_path_factory.mktemp("processes")
    for world in (1, 2):
        words = [[sys.executable, str(SCRIPT), str(rank), str(world), str(folder), *NAMES] for rank in range(world)]
        running = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for line in words]
        for process in running:
            _, told = process.communicate(timeout=240)
            assert process.returncode == 0, told
    one, two = (torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2))
    return one, two


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one(name, one_and_two):
    one, two = (figures[name] for figures in one_and_two)
    assert set(one) == set(two)
    assert len(one) >= 2
    for key, expected in one.items():
        assert expected.abs().sum() > 0
        torch.testing.assert_close(two[key], expected, rtol=1e-5, atol=1e-6, msg=lambda told, key=key: f"{key}: {told}")
