"""The whole way on a small demo capture: what a run leaves, what it must not see, and that a kill changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import trimesh
from PIL import Image

from nndl_suite.data.demo_capture import DISTANCE, LOOK_AT, make_demo_capture
from nndl_suite.errors import CaptureError, ConfigError, Interrupted, RunError
from nndl_suite.nerf import make_surface
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
from nndl_suite.nerf.rendering import Rendering
from nndl_suite.nerf.trainer import FieldTrainer
from nndl_suite.report.turning import read_turn
from nndl_suite.training.checkpoints import equal_states, load_newest
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.watch import Step

STEPS = 6


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_capture(tmp_path_factory.mktemp("tiny") / "capture", photos=12, size=(48, 36))


@pytest.fixture(scope="module")
def finished(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    ColmapNerfReconstructor(capture, out=out, seed=3).fit(steps=STEPS)
    return out


def learned(run: Path) -> dict:
    checkpoint = load_newest(RunFolder(run).checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == STEPS
    return checkpoint.state


def test_the_result_holds_what_the_contract_names(finished: Path):
    result = json.loads((finished / "result.json").read_text())
    assert set(result) == {
        *("kind", "seconds", "seed", "test", "train_images", "test_images", "resolution", "steps", "train_seconds"),
        *("render_seconds_per_frame", "poses", "poses_source", "note", "train", "gap", "lpips_missing"),
        *("photo_size", "max_side", "error_scale", "held_out_poses", "test_unrefined", "device", "device_note"),
    }
    assert (result["kind"], result["seed"], result["steps"]) == ("nerf", 3, STEPS)
    assert (result["train_images"], result["test_images"], result["resolution"]) == (10, 2, [48, 36])
    assert result["poses"] == {
        "registered": 12,
        "total": 12,
        "mean_reprojection_error": None,
        "notes": [],
    }
    assert (result["poses_source"], result["note"]) == ("given", None)
    assert set(result["test"]) == {"psnr", "ssim", "lpips", "per_image"}
    scores = result["test"]["per_image"]
    assert [score["name"] for score in scores] == ["images/0000.png", "images/0008.png"]
    assert result["test"]["psnr"] == pytest.approx(np.mean([score["psnr"] for score in scores]))
    assert (result["test"]["lpips"] is None) == (result["lpips_missing"] is not None)
    assert (result["photo_size"], result["max_side"]) == ([48, 36], 480)
    assert len(result["train"]["names"]) == 2
    assert not {*result["train"]["names"]} & {score["name"] for score in scores}
    assert result["gap"]["psnr"] == pytest.approx(result["train"]["psnr"] - result["test"]["psnr"])
    assert 0 < result["train_seconds"] < result["seconds"]


def test_the_held_out_photos_lie_beside_their_renderings(finished: Path, capture: Path):
    names = sorted(file.name for file in (finished / "views").iterdir())
    assert names == [f"{stem}-{kind}.jpg" for stem in ("0000", "0008") for kind in ("error", "photo", "render")]
    with Image.open(finished / "views/0008-photo.jpg") as kept, Image.open(capture / "images/0008.png") as photo:
        assert kept.size == photo.size
        assert np.abs(np.asarray(kept, int) - np.asarray(photo, int)).mean() < 8  # JPEG; another photo differs by 60


def test_a_small_turn_is_left_for_the_report(finished: Path):
    found = read_turn(finished)
    assert (found.width, found.height) == (48, 36)
    with Image.open(finished / "turn.jpg") as picture:
        pixels = np.asarray(picture, int)
    tiles = pixels.reshape(6, 36, 6, 48, 3).transpose(0, 2, 1, 3, 4).reshape(36, 36, 48, 3)
    assert np.abs(tiles[1:] - tiles[:-1]).mean() > 0.1  # the camera moves


def test_the_scene_file_shows_the_cameras_upright_about_the_centre(finished: Path):
    scene = json.loads((finished / "scene.json").read_text())
    assert (scene["up"], scene["center"]) == ([0, 0, 1], [0, 0, 0])
    assert [camera["test"] for camera in scene["cameras"]] == [index % 8 == 0 for index in range(12)]
    centres, forward, up = (
        np.array([camera[key] for camera in scene["cameras"]]) for key in ("center", "forward", "up")
    )
    np.testing.assert_allclose(np.linalg.norm(centres, axis=-1), 1, atol=0.05)
    assert (np.einsum("nc,nc->n", forward, -centres) > 0.97).all()
    assert (up[:, 2] > 0.6).all()
    assert scene["points"] == {"xyz": [], "rgb": []}


def test_held_out_photos_never_reach_training(finished: Path, capture: Path, tmp_path: Path):
    spoilt = shutil.copytree(capture, tmp_path / "capture")
    for name in ("0000.png", "0008.png"):
        Image.new("RGB", (48, 36), "magenta").save(spoilt / "images" / name)
    scores = ColmapNerfReconstructor(spoilt, out=tmp_path / "run", seed=3).fit(steps=STEPS)
    assert equal_states(learned(tmp_path / "run"), learned(finished))
    assert scores.psnr != json.loads((finished / "result.json").read_text())["test"]["psnr"]


def test_another_seed_learns_another_field(finished: Path, capture: Path, tmp_path: Path):
    ColmapNerfReconstructor(capture, out=tmp_path / "run", seed=4).fit(steps=STEPS)
    assert not equal_states(learned(tmp_path / "run"), learned(finished))


_KILLED = """
import os, signal, sys
from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
from nndl_suite.nerf.trainer import FieldTrainer

step = FieldTrainer.step

def killed(trainer, index, fraction):
    if index > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(trainer, index, fraction)

FieldTrainer.step = killed
ColmapNerfReconstructor(sys.argv[1], out=sys.argv[2], seed=3).fit(resume=True)
"""


def test_a_run_that_was_stopped_and_then_killed_ends_where_an_undisturbed_one_does(
    finished: Path, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    step = FieldTrainer.step

    def stopped(trainer: FieldTrainer, index: int, fraction: float):
        if index == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, index, fraction)

    with monkeypatch.context() as patched:
        patched.setattr(FieldTrainer, "step", stopped)
        with pytest.raises(Interrupted):
            ColmapNerfReconstructor(capture, out=out, seed=3).fit(steps=STEPS)
    checkpoint = load_newest(RunFolder(out).checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == 3 < STEPS - 1
    killed = subprocess.run([sys.executable, "-c", _KILLED, capture, out, str(checkpoint.step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "result.json").exists()
    ColmapNerfReconstructor(capture, out=out, seed=3).fit(resume=True)  # the budget is remembered
    assert equal_states(learned(out), learned(finished))


def test_a_finished_run_opens_again_with_the_same_scores(finished: Path):
    before = json.loads((finished / "result.json").read_text())["test"]
    scores = ColmapNerfReconstructor.open(finished).evaluate()
    assert (scores.psnr, scores.ssim) == (before["psnr"], before["ssim"])


def test_videos_have_the_photos_size_and_go_where_they_are_told(finished: Path, capture: Path, tmp_path: Path):
    scan = ColmapNerfReconstructor.open(finished)
    steps: list[Step] = []
    assert scan.render_orbit(tmp_path / "orbit.mp4", frames=3, fps=10, watch=steps.append).description == "full circle"
    assert [(step.done, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    with av.open(str(tmp_path / "orbit.mp4")) as video:
        assert [(frame.width, frame.height) for frame in video.decode(video=0)] == [(48, 36)] * 3
    frames = json.loads((capture / "transforms.json").read_text())["frames"]
    cameras = [{"camera_to_world": np.ravel(frame["transform_matrix"]).tolist()} for frame in frames[:2]]
    (tmp_path / "path.json").write_text(json.dumps({"camera_path": cameras}))
    travelled = scan.render_path(tmp_path / "path.json", tmp_path / "file.mp4")
    scene = json.loads((finished / "scene.json").read_text())
    expected = [camera["center"] for camera in scene["cameras"][:2]]
    np.testing.assert_allclose(travelled.poses[:, :, 3], expected, atol=1e-4)
    assert travelled.fps == 30
    with pytest.raises(ConfigError, match="unknown path 'orbitt'; did you mean 'orbit'"):
        scan.render_path("orbitt", tmp_path / "x.mp4")


def test_a_saved_path_is_in_the_captures_frame_and_leads_the_same_way_again(finished: Path, tmp_path: Path):
    scan = ColmapNerfReconstructor.open(finished)
    saved = tmp_path / "path.json"
    first = scan.render_path("orbit", tmp_path / "a.mp4", frames=4, fps=12, size=32, save_path=saved)
    cameras = json.loads(saved.read_text())["camera_path"]
    centres = np.array([camera["camera_to_world"] for camera in cameras]).reshape(-1, 4, 4)[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(centres - LOOK_AT, axis=-1), DISTANCE, rtol=0.05)
    again = scan.render_path(saved, tmp_path / "b.mp4", what="normal", samples=16)
    np.testing.assert_allclose(again.poses, first.poses, atol=1e-9)
    assert (again.size, again.fps, first.size) == ((43, 32), 12, (43, 32))
    small = scan.render_path(saved, tmp_path / "c.mp4", size=(64, 48), quality="preview")
    assert (small.size, small.fps, len(small.poses)) == ((32, 24), 4, 2)
    with pytest.raises(ConfigError, match="did you mean 'preview'"):
        scan.render_path(saved, tmp_path / "d.mp4", quality="previw")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "c.mp4", "path.json"]


def test_exports_are_in_the_captures_own_frame(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A ball of radius 0.25 about the field's origin has 0.25 camera distances in the world, where cameras look."""

    def query(points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        density = 1000 * (1 - np.tanh((np.linalg.norm(points, axis=-1) - 0.25) * 200))
        return density.astype(np.float32), np.full((len(points), 3), 0.5, np.float32)

    def render(_: object, directions: np.ndarray, pose: np.ndarray) -> Rendering:
        toward, start = directions @ pose[:, :3].T, pose[:, 3]
        root = (toward @ start) ** 2 - start @ start + 0.25**2
        depth = -(toward @ start) - np.sqrt(root.clip(0))
        return Rendering(np.full((*depth.shape, 3), 0.5, np.float32), depth, (root > 0).astype(np.float32))

    scan = ColmapNerfReconstructor.open(finished)
    monkeypatch.setitem(scan.__dict__, "field", SimpleNamespace(query=query, settings=SimpleNamespace(bound=None)))
    monkeypatch.setattr(make_surface, "render_view", render)
    scan.export_mesh(tmp_path / "mesh.ply", resolution=48)
    scan.export_point_cloud(tmp_path / "cloud.ply")
    for name in ("mesh.ply", "cloud.ply"):
        vertices = trimesh.load(tmp_path / name).vertices
        radii = np.linalg.norm(vertices - LOOK_AT, axis=-1)
        assert len(vertices) > 200
        assert np.abs(radii / DISTANCE - 0.25).max() < 0.03
    scan.export_mesh(tmp_path / "upright.glb", resolution=48, max_faces=500, frame="upright")
    stood_up = trimesh.load(tmp_path / "upright.glb", force="mesh", process=False)
    assert len(stood_up.faces) <= 500
    np.testing.assert_allclose(np.linalg.norm(stood_up.vertices, axis=-1) / DISTANCE, 0.25, atol=0.04)
    with pytest.raises(ConfigError, match="did you mean 'upright'"):
        scan.export_mesh(tmp_path / "upright.glb", frame="uprigth")


def test_exported_cameras_come_back_and_upright_ones_stand(finished: Path, tmp_path: Path):
    scan = ColmapNerfReconstructor.open(finished)
    scan.export_cameras(tmp_path / "transforms.json")
    for before, after in zip(scan.scene.views, read_scene(tmp_path).views, strict=True):
        np.testing.assert_allclose(after.world_from_camera, before.world_from_camera, atol=1e-9)
    scan.export_cameras(tmp_path / "up" / "transforms.json", frame="upright")
    stood_up = np.stack([view.world_from_camera for view in read_scene(tmp_path / "up").views])
    np.testing.assert_allclose(np.linalg.norm(stood_up[:, :, 3], axis=-1), DISTANCE, rtol=0.05)
    assert (stood_up[:, 2, 1] < -0.5).all()  # the pictures' down is the frame's -z
    scan.export_cameras(tmp_path / "model")
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"cameras.txt", "images.txt", "points3D.txt"}


def test_a_run_is_gone_on_with_only_as_it_was_started(finished: Path, capture: Path, tmp_path: Path):
    with pytest.raises(RunError, match="--resume"):
        ColmapNerfReconstructor(capture, out=finished, seed=3).fit(steps=STEPS)
    with pytest.raises(RunError, match="seed=3 there, 4 now"):
        ColmapNerfReconstructor(capture, out=finished, seed=4).fit(resume=True)
    with pytest.raises(RunError, match=f"minutes=None, steps={STEPS}"):
        ColmapNerfReconstructor(capture, out=finished, seed=3).fit(steps=STEPS + 1, resume=True)
    with pytest.raises(RunError, match="no run"):
        ColmapNerfReconstructor.open(tmp_path)


def test_what_is_no_capture_is_refused_at_once(capture: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "clip.mp4").write_text("hello")
    out = tmp_path / "run"
    for source, told in (
        ("nowhere", "does not exist"),
        ("empty", "is empty"),
        ("notes.txt", "neither a folder nor a video"),
        ("clip.mp4", "cannot be read as a video .Invalid data"),
    ):
        with pytest.raises(CaptureError, match=told):
            ColmapNerfReconstructor(tmp_path / source, out=out)
    with pytest.raises(CaptureError, match="--poses colmap"):
        ColmapNerfReconstructor(capture / "images", out=out, poses="given")
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"poses": "guess"}, "unknown poses 'guess'"),
        ({"background": "pink"}, "unknown background 'pink'"),
        ({"max_side": 8}, "max_side must be >= 32"),
        ({"holdout": 1.5}, "share between 0 and 1"),
        ({"holdout": "every9"}, "share between 0 and 1"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_settings_are_checked_at_construction(capture: Path, tmp_path: Path, settings: dict, told: str):
    with pytest.raises(ConfigError, match=told):
        ColmapNerfReconstructor(capture, out=tmp_path / "run", **settings)


@pytest.mark.colmap
def test_bare_photos_find_their_poses_once_and_the_run_then_stands_alone(tmp_path: Path):
    capture = make_demo_capture(tmp_path / "capture", photos=16, size=(240, 180))
    scan = ColmapNerfReconstructor(capture / "images", out=tmp_path / "run", max_side=48)
    assert scan.estimate_poses().registered == 16
    stages: list[str] = []
    scan.fit(steps=1, watch=lambda step: stages.append(step.stage))
    assert "placing cameras" not in stages
    assert {"loading photos", "training", "evaluating"} <= set(stages)
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["poses_source"], result["resolution"]) == ("colmap", [48, 36])
    assert result["poses"]["registered"] == result["poses"]["total"] == 16
    assert 0 < result["poses"]["mean_reprojection_error"] < 1
    assert "joint COLMAP solve" in result["note"]
    points = json.loads((tmp_path / "run/scene.json").read_text())["points"]
    assert 200 < len(points["xyz"]) == len(points["rgb"]) <= 5000
    shutil.rmtree(capture)
    again = ColmapNerfReconstructor.open(tmp_path / "run")
    assert again.evaluate().psnr == result["test"]["psnr"]
    assert again.estimate_poses().registered == 16
