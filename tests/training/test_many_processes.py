"""Two and four processes end with what one process ends with on the same batches, whoever starts them and however."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import distributed

from nndl_suite.training.checkpoints import load_newest

SCRIPT = Path(__file__).with_name("many_processes.py")
TRAININGS = ("simclr", "mocov2", "disk", "resnet18-slim", "vit", "field")
FOUR = ("simclr", "resnet18-slim", "field")

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")


def run(*words, timeout=180, **variables) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | variables
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=timeout, env=environment)


def trained(world: int, folder: Path, *trainings: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, SCRIPT, world, folder, *trainings)


def tensors(node, path=""):
    if isinstance(node, torch.Tensor):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from tensors(value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for key, value in enumerate(node):
            yield from tensors(value, f"{path}.{key}")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What a checkpoint holds but the optimisers' momenta, which are gradients and as large as the loss is steep."""
    state = load_newest(folder / "checkpoints").state
    momenta = ("momentum", "moments", "exp_avg", ".first", ".second", "looks")
    return {path: value for path, value in tensors(state) if not any(word in path for word in momenta)}


def check_equal(folder: Path, other: Path) -> None:
    first, second = weights(folder), weights(other)
    assert set(first) == set(second)
    assert len(first) >= 4
    for path, value in first.items():
        torch.testing.assert_close(
            second[path], value, rtol=1e-5, atol=1e-5, msg=lambda told, path=path: f"{path}: {told}"
        )


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[int, Path]:
    """The folders that 1, 2 and 4 processes left."""
    folders, images = {}, tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for number in range(49):
        pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(images / f"{number:02d}.png")
    for world, trainings in ((1, TRAININGS), (2, TRAININGS), (4, FOUR)):
        folders[world] = tmp_path_factory.mktemp(f"of{world}")
        (folders[world] / "images").symlink_to(images)
        done = trained(world, folders[world], *trainings)
        assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("training", TRAININGS)
def test_two_processes_are_one(training, ended):
    check_equal(ended[1] / training, ended[2] / training)


@pytest.mark.parametrize("training", FOUR)
def test_four_processes_are_one(training, ended):
    check_equal(ended[1] / training, ended[4] / training)


def test_figures_are_of_all_processes(ended):
    for training in TRAININGS:
        one, two = (
            [json.loads(line) for line in (ended[world] / training / "metrics.jsonl").read_text().splitlines()]
            for world in (1, 2)
        )
        assert [line["step"] for line in one] == [line["step"] for line in two]
        for first, second in zip(one, two, strict=True):
            del first["seconds"], second["seconds"]
            assert second == pytest.approx(first, rel=1e-4, abs=1e-4)


def test_validation_reads_every_image_once(ended):
    for training in ("resnet18-slim", "vit"):
        one, two = (json.loads((ended[world] / training / "scores.json").read_text()) for world in (1, 2))
        assert two["accuracy"] == one["accuracy"]
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_run_whose_process_died_goes_on_with_another_number(tmp_path, ended):
    started = time.monotonic()
    done = trained(2, tmp_path / "a", "simclr=dies-before-2")
    assert time.monotonic() - started < 90  # starting is most of it; nobody waits for the dead
    assert done.returncode not in (0, None)
    assert done.stderr.count("one of the 2 processes has ended before its time") == 1
    assert load_newest(tmp_path / "a" / "simclr" / "checkpoints").step in (1, 2)
    assert not (tmp_path / "a" / "simclr" / "result.json").exists()
    (tmp_path / "b").mkdir()
    assert run("cp", "-r", tmp_path / "a" / "simclr", tmp_path / "b" / "simclr").returncode == 0
    for folder, world in (("a", 1), ("b", 3)):
        again = trained(world, tmp_path / folder, "simclr")
        assert again.returncode == 0, again.stderr
        check_equal(ended[1] / "simclr", tmp_path / folder / "simclr")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_all_stop_at_one_step_whoever_is_asked(tmp_path):
    done = trained(2, tmp_path, "simclr=stops-before-1")
    assert done.returncode == 130, done.stderr
    assert done.stderr.count("error: stopped after step 2 of 3") == 1
    assert load_newest(tmp_path / "simclr" / "checkpoints").step == 2
