"""Two and four processes end with what one process ends with on the same batches, whoever starts them and however."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Ended:
    """How a group of processes ended, and what they left."""

    folder: Path
    code: int
    told: str


def all_ended(asked: dict[Path, tuple[int, tuple[str, ...]]]) -> list[Ended]:
    """Groups of processes side by side, by folder: how many, and which trainings. Most of their time is imports."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    groups = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(world), folder, *trainings],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for folder, (world, trainings) in asked.items()
    ]  # fmt: skip
    told = [group.communicate(timeout=300)[1] for group in groups]
    return [Ended(*ended) for ended in zip(asked, [group.returncode for group in groups], told, strict=True)]


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
def groups(tmp_path_factory) -> dict[str, Ended]:
    """1, 2 and 4 processes that reach the end, two of which one dies, and two of which one is asked to stop."""
    folder = tmp_path_factory.mktemp("groups")
    generator = torch.Generator().manual_seed(0)
    (folder / "images").mkdir()
    for number in range(49):
        pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(folder / "images" / f"{number:02d}.png")
    asked = {"1": (1, TRAININGS), "2": (2, TRAININGS), "4": (4, FOUR)}
    if os.name == "posix":
        asked |= {"dies": (2, ("simclr=dies-before-2",)), "stops": (2, ("simclr=stops-before-1",))}
    for name in asked:
        (folder / name).mkdir()
        (folder / name / "images").symlink_to(folder / "images")
    return dict(zip(asked, all_ended({folder / name: group for name, group in asked.items()}), strict=True))


@pytest.fixture(scope="module")
def ended(groups) -> dict[int, Path]:
    """The folders that 1, 2 and 4 processes left."""
    for world in ("1", "2", "4"):
        assert groups[world].code == 0, groups[world].told
    return {world: groups[str(world)].folder for world in (1, 2, 4)}


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
def test_a_run_whose_process_died_goes_on_with_another_number(tmp_path, groups, ended):
    dead = groups["dies"]
    assert dead.code == 1
    assert dead.told.count("one of the 2 processes has ended before its time") == 1
    assert load_newest(dead.folder / "simclr" / "checkpoints").step in (1, 2)
    assert not (dead.folder / "simclr" / "result.json").exists()
    asked = {tmp_path / "alone": (1, ("simclr",)), tmp_path / "three": (3, ("simclr",))}
    for folder in asked:
        shutil.copytree(dead.folder / "simclr", folder / "simclr")
    for again in all_ended(asked):
        assert again.code == 0, again.told
        check_equal(ended[1] / "simclr", again.folder / "simclr")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_all_stop_at_one_step_whoever_is_asked(groups):
    stopped = groups["stops"]
    assert stopped.code == 130, stopped.told
    assert stopped.told.count("error: stopped after step 2 of 3") == 1
    assert load_newest(stopped.folder / "simclr" / "checkpoints").step == 2
