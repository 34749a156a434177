import shutil
from types import SimpleNamespace

import pytest

from nndl_suite.data import benchmarks
from nndl_suite.doctor import places
from nndl_suite.doctor.places import NAMED_SETS, check_data, check_disk, check_lpips_weights, check_writing


@pytest.fixture
def unwritable(monkeypatch):
    """Root may write anywhere, so permissions cannot show it."""
    monkeypatch.setattr(places, "can_write", lambda folder: "locked" not in str(folder))


def test_named_sets_are_found_by_either_form(tmp_path):
    (tmp_path / "cifar10-train.npz").touch()
    (tmp_path / "stl10_binary").mkdir()
    found = check_data(tmp_path, named_by="--data-root")
    assert "(--data-root): cifar10, stl10, demo" in found.found
    assert "cifar100, tiny-imagenet will be downloaded" in found.found
    assert found.state == "ok"


def test_the_marks_of_sets_are_those_that_the_readers_look_for():
    assert NAMED_SETS["cifar10"][1] == benchmarks.datasets.CIFAR10.base_folder
    assert NAMED_SETS["cifar100"][1] == benchmarks.datasets.CIFAR100.base_folder
    assert NAMED_SETS["stl10"] == (benchmarks.datasets.STL10.base_folder,)


def test_a_data_root_that_cannot_be_written_is_a_warning_while_sets_are_missing(tmp_path, unwritable):
    locked = tmp_path / "locked"
    locked.mkdir()
    assert check_data(locked, named_by="--data-root").state == "warn"
    for marks in NAMED_SETS.values():
        (locked / marks[0]).touch()
    assert check_data(locked, named_by="--data-root").state == "ok"


@pytest.mark.parametrize(("gib", "state"), [(40, "ok"), (3, "warn"), (0.1, "fail")])
def test_the_fullest_disk_counts(tmp_path, monkeypatch, gib, state):
    full = tmp_path / "full"
    full.mkdir()
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: SimpleNamespace(free=(gib if folder == full else 50) * 2**30)
    )
    found = check_disk([tmp_path, full, full / "not" / "yet"])
    assert found.state == state
    assert (str(full) in found.found) == (state != "ok")


def test_where_runs_or_features_cannot_be_written_is_named(tmp_path, unwritable):
    assert check_writing(tmp_path, tmp_path).state == "ok"
    assert "runs" in check_writing(tmp_path / "locked", tmp_path).found
    assert "features" in check_writing(tmp_path, tmp_path / "locked").found


def test_lpips_weights_are_where_the_scores_look_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    missing = check_lpips_weights(tmp_path)
    assert missing.state == "warn"
    assert "squeezenet1_1" in missing.cure
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "squeezenet1_1.pth").touch()
    assert check_lpips_weights(tmp_path).state == "ok"
