"""`data shard` from the shell: what it says, what it refuses, and that Ctrl-C leaves nothing."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from nndl_suite.cli import data
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.write_shards import write_shards

PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from nndl_suite.cli import main; main()"
)


def run(*words):
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, words)], capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (8, 8), (i, 7, 9)).save(tmp_path / "in" / name / f"{i}.png")
    return tmp_path / "in"


def test_a_folder_becomes_shards_once(folder, tmp_path):
    done = run("data", "shard", folder, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"out": str(tmp_path / "out"), "shards": 1, "images": 10, "classes": 2}
    assert len(load_image_set(f"wds:{tmp_path}/out", "train")) == 8
    again = run("data", "shard", folder, "--out", tmp_path / "out")
    assert again.returncode == 1
    assert "is not empty" in again.stderr
    assert "Traceback" not in again.stderr
    assert run("data", "shard", folder, "--out", tmp_path / "new", "--shard-mib", "0").returncode == 2


def test_shards_from_elsewhere_get_an_index(folder, tmp_path):
    write_shards(folder, tmp_path / "out")
    kept = tmp_path / "out" / "images-000000.tar.index.npz"
    kept.unlink()
    done = run("data", "index", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"shards": str(tmp_path / "out"), "images": 10}
    assert kept.exists()
    missing = run("data", "index", tmp_path / "none-{0..3}.tar")
    assert missing.returncode == 1
    assert "there are no shards" in missing.stderr


def test_the_default_is_the_apis():
    command, api = (inspect.signature(function).parameters for function in (data.shard, write_shards))
    assert command["shard_mib"].default == api["shard_mib"].default


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(
        tmp_path / "in" / "0.png"
    )
    for i in range(1, 2000):
        os.link(tmp_path / "in" / "0.png", tmp_path / "in" / f"{i}.png")
    out = tmp_path / "out"
    words = ["data", "shard", str(tmp_path / "in"), "--out", str(out), "--shard-mib", "4"]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not list(out.glob(".unfinished.*/*.tar")) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not list(out.iterdir())
