import sys

import pytest

from nndl_suite.doctor import examination, programs
from nndl_suite.doctor.programs import can_write, check_colmap, check_heic, check_video, judge_kernels
from nndl_suite.nerf import colmap, video


def test_the_codecs_of_this_machine_work():
    assert check_video().state == "ok"
    assert check_heic().state == "ok"


def test_a_video_that_comes_back_otherwise_is_broken(monkeypatch):
    monkeypatch.setattr(video, "write_video", lambda frames, file: None)
    found = examination._attempt("video", check_video)
    assert found.state == "fail"
    assert found.cure == "pip install --force-reinstall av"


@pytest.mark.colmap
def test_colmap_answers():
    assert "answers (pycolmap" in check_colmap().found


def test_a_colmap_that_dies_is_told_with_its_last_words(monkeypatch):
    dying = "import sys; sys.stdin.readline(); sys.exit('libGL.so.1: cannot open shared object file')"
    monkeypatch.setattr(colmap, "_COMMAND", (sys.executable, "-c", dying))
    found = examination._attempt("COLMAP", check_colmap)
    assert found.state == "fail"
    assert "libGL.so.1" in found.found
    assert "pycolmap" in found.cure


@pytest.fixture
def package(tmp_path):
    for name in ("nerf/kernels", "representation"):
        (tmp_path / "package" / name / "__pycache__").mkdir(parents=True)
    return tmp_path / "package"


def test_kernels_are_kept_beside_the_package_where_that_can_be_written(package, tmp_path):
    assert "none compiled yet" in judge_kernels(package, {}, tmp_path).found
    (package / "nerf" / "kernels" / "__pycache__" / "dense.nbi").touch()
    found = judge_kernels(package, {}, tmp_path).found
    assert "1 compiled" in found
    assert "beside the package" in found


def test_kernels_go_elsewhere_where_the_package_is_locked(package, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "can_write", lambda folder: "package" not in str(folder))
    assert f"kept in {tmp_path / 'numba'}" in judge_kernels(package, {}, tmp_path).found
    asked = judge_kernels(package, {"NUMBA_CACHE_DIR": str(tmp_path / "asked")}, tmp_path)
    assert f"kept in {tmp_path / 'asked'}" in asked.found
    nowhere = judge_kernels(package, {"NUMBA_CACHE_DIR": str(package)}, tmp_path)
    assert nowhere.state == "fail"
    assert "NUMBA_CACHE_DIR" in nowhere.cure


def test_no_place_at_all_is_broken(package, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "can_write", lambda folder: False)
    found = judge_kernels(package, {}, tmp_path)
    assert found.state == "fail"
    assert "NUMBA_CACHE_DIR" in found.cure


def test_writing_is_tried_and_leaves_nothing(tmp_path):
    assert can_write(tmp_path / "not" / "yet" / "there")
    assert not can_write(tmp_path / "file" if (tmp_path / "file").write_text("x") else tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
