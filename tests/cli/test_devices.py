"""Several processes by the command line: its own, and torchrun's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed

PRETRAIN = (
    *("ssl", "pretrain", "--dataset", "demo", "--backbone", "resnet18-slim", "--steps", "2", "--batch-size", "12"),
    *("--device", "cpu", "--precision", "32-true", "--json"),
)

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")


def run(*words, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(list(words), capture_output=True, text=True, timeout=240, cwd=cwd, env=environment)


def test_one_command_starts_the_others(tmp_path):
    done = run(sys.executable, "-m", "nndl_suite", *PRETRAIN, "--out", "two", "--devices", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2
    assert done.stderr.count("pretraining: 100%") == 1
    assert "Warning" not in done.stderr


def test_torchrun_says_how_many(tmp_path):
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "nndl_suite")
    done = run(sys.executable, *words, *PRETRAIN, "--out", "two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2
    assert done.stderr.count("pretraining: 100%") == 1
