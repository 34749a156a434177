"""Several processes by the command line: its own, and torchrun's."""

import json
import os
import subprocess
import sys

import pytest
from torch import distributed

PRETRAIN = (
    *("-m", "nndl_suite", "ssl", "pretrain", "--dataset", "demo", "--backbone", "resnet18-slim", "--steps", "2"),
    *("--batch-size", "12", "--device", "cpu", "--precision", "32-true", "--json", "--out", "two"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of each way to two processes; side by side, since most of their time is imports."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    ways = {"devices": (*PRETRAIN, "--devices", "2"), "torchrun": (*TORCHRUN, *PRETRAIN)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    started = {
        way: subprocess.Popen([sys.executable, *words], cwd=tmp_path_factory.mktemp(way), **pipes)
        for way, words in ways.items()
    }
    told = {way: command.communicate(timeout=240) for way, command in started.items()}
    return {way: (command.returncode, *told[way]) for way, command in started.items()}


@pytest.mark.parametrize("way", ["devices", "torchrun"])
def test_the_first_process_alone_speaks(way, ended):
    code, stdout, stderr = ended[way]
    assert code == 0, stderr
    assert json.loads(stdout)["steps"] == 2
    assert stderr.count("pretraining: 100%") == 1
    assert way == "torchrun" or "Warning" not in stderr  # torchrun has some of its own
