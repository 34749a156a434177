"""Only what is on the lists reaches COLMAP; the ladder is climbed in order; threads fit into the memory."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nndl_suite.errors import CaptureError, ConfigError, RunError
from nndl_suite.nerf import colmap
from nndl_suite.nerf.colmap_request import (
    EstimateRequest,
    Extraction,
    extraction,
    extraction_threads,
    free_memory_bytes,
    ladder,
)

REQUEST = EstimateRequest(
    images="images",
    masks=None,
    groups=(("a.jpg", "b.jpg"), ("c.jpg",)),
    database="database.db",
    model="sparse/0",
    camera_model="OPENCV",
    shared_camera=True,
    max_image_size=960,
    photo_side=1920,
    max_features=3000,
    first_octave=0,
    matcher="sequential",
    widest_matcher="exhaustive",
    overlap=15,
    mapper="incremental",
    enough=0.8,
    seed=0,
    threads=-1,
)
SENT: dict[str, Any] = {**asdict(REQUEST), "groups": [["a.jpg", "b.jpg"], ["c.jpg"]]}

FOREIGN = [
    {"matcher": "vocabtree"},  # each of these first two ends the process with SIGABRT
    {"matcher": "spatial"},
    {"mapper": "hierarchical"},
    {"camera_model": "ALIKED"},
    {"camera_model": "EQUIRECTANGULAR"},  # nothing to find
    {"max_image_size": -1},
    {"max_features": 0},
    {"max_features": "3000"},
    {"first_octave": -5},
    {"seed": -1},
    {"threads": True},
    {"enough": float("nan")},
    {"groups": []},
    {"groups": [["a.jpg", "a.jpg"]]},
    {"groups": [["../secret.jpg"]]},
    {"loop_detection": True},
]


def test_a_good_request_survives_the_pipe() -> None:
    assert EstimateRequest.from_json(SENT) == REQUEST
    assert REQUEST.names == ("a.jpg", "b.jpg", "c.jpg")


@pytest.mark.parametrize("wrong", FOREIGN, ids=str)
def test_what_is_not_on_the_lists_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EstimateRequest.from_json({**SENT, **wrong})
    with pytest.raises(ConfigError, match="unknown or missing: seed"):
        EstimateRequest.from_json({name: value for name, value in SENT.items() if name != "seed"})


@pytest.mark.colmap
def test_the_child_refuses_before_colmap_sees_it(tmp_path: Path) -> None:
    for wrong in ({"loop_detection": True}, {"matcher": "vocabtree"}):
        with pytest.raises(CaptureError, match=f"COLMAP: .*{next(iter(wrong))}"):
            colmap.ask_colmap("estimate", {**SENT, **wrong, "database": str(tmp_path / "d.db")})
    with pytest.raises(CaptureError, match="unknown task 'patch_match_stereo'"):
        colmap.ask_colmap("patch_match_stereo", {})
    camera = {"model": "ORTHO", "width": 4, "height": 4, "params": []}
    with pytest.raises(CaptureError, match="unknown camera model 'ORTHO'"):
        colmap.ask_colmap("directions", {"cameras": [camera]})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_under_colmap_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'print(\'{"error": "SQLite error: database or disk is full"}\')'
    monkeypatch.setattr(colmap, "_COMMAND", (colmap.sys.executable, "-c", code))
    with pytest.raises(RunError, match="COLMAP cannot write: .*disk is full; free some space"):
        colmap.ask_colmap("estimate", {})


def test_the_ladder_goes_from_cheap_to_dear() -> None:
    rungs = ladder(REQUEST)
    assert [(rung.features, rung.matcher, rung.mapper, rung.start) for rung in rungs] == [
        ("asked", "sequential", "incremental", "strict"),
        ("asked", "sequential", "global", "strict"),
        ("asked", "exhaustive", "incremental", "strict"),
        ("more", "exhaustive", "incremental", "strict"),
        ("more", "exhaustive", "incremental", "relaxed"),
    ]
    assert len({rung.name for rung in rungs}) == len(rungs)
    assert len(ladder(replace(REQUEST, matcher="exhaustive"))) == 4
    assert [rung.mapper for rung in ladder(replace(REQUEST, mapper="global"))][:2] == ["global", "incremental"]


def test_more_features_are_more_but_not_larger_than_the_photos() -> None:
    assert extraction(REQUEST, "asked") == Extraction(max_image_size=960, max_features=3000, first_octave=0)
    assert extraction(REQUEST, "more") == Extraction(max_image_size=1920, max_features=6000, first_octave=-1)
    assert extraction(replace(REQUEST, photo_side=1200), "more").max_image_size == 1200
    assert extraction(replace(REQUEST, photo_side=500), "more").max_image_size == 960


def test_threads_fit_into_the_memory() -> None:
    plain = Extraction(max_image_size=1000, max_features=3000, first_octave=0)
    fine = replace(plain, first_octave=-1)  # four times the pixels
    many = {"cores": 16, "free_bytes": 2 * 4 * 90 * 10**6}  # half of it holds 4 scale spaces of 10^6 pixels
    assert extraction_threads(-1, plain, **many) == 4
    assert extraction_threads(-1, fine, **many) == 1
    assert extraction_threads(3, plain, **many) == 3
    assert extraction_threads(99, plain, cores=2, free_bytes=None) == 2
    assert extraction_threads(-1, fine, cores=8, free_bytes=0) == 1


def test_free_memory_is_read_where_the_system_tells(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:      42 kB\n")
    assert free_memory_bytes(tmp_path / "meminfo") == 42 * 1024
    assert free_memory_bytes(tmp_path / "nowhere") is None
