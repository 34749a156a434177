"""Cameras that move: what they find, what they must not see, and what their score says."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.errors import ConfigError
from nndl_suite.nerf import reconstructor
from nndl_suite.nerf import trainer as trainer_module
from nndl_suite.nerf.evaluation import evaluate
from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.frame import field_frame
from nndl_suite.nerf.photos import PosedPhotos, load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
from nndl_suite.nerf.refined_poses import with_refined_poses
from nndl_suite.nerf.refinement import WARMUP_STEPS, PoseRefinement, moved_poses, rotations
from nndl_suite.nerf.refitting import left_half, refit_poses
from nndl_suite.nerf.scene import hold_out
from nndl_suite.nerf.trainer import FieldTrainer, TrainSettings
from nndl_suite.training.checkpoints import equal_states
from nndl_suite.training.watch import Step

F = np.float32
FIELD = FieldSettings(log2_rows=12, finest=64)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_capture(tmp_path_factory.mktemp("moved") / "capture", photos=24, size=(80, 60))


@pytest.fixture(scope="module")
def exact(capture: Path) -> tuple[PosedPhotos, PosedPhotos]:
    """Training and held-out photos, with the poses that are true."""
    scene = read_scene(capture)
    train, test = (load_photos(scene, some, field_from_world=field_frame(scene)) for some in hold_out(scene, "every8"))
    return train, test


@pytest.fixture(scope="module")
def learned(exact: tuple[PosedPhotos, PosedPhotos]) -> FieldTrainer:
    """A field of the training photos at their true poses."""
    return _trained(FieldTrainer(exact[0], _settings(0.0)), range(300))


def _shaken(photos: PosedPhotos, seed: int) -> PosedPhotos:
    """With each camera turned by 1.5 degrees and shifted by 1.5 % of its distance, any way."""
    moves = np.random.default_rng(seed).normal(size=(2, len(photos.names), 3))
    moves /= np.linalg.norm(moves, axis=2, keepdims=True)
    moves *= np.array([0.015, np.deg2rad(1.5)])[:, None, None]
    return replace(photos, field_from_camera=moved_poses(photos.field_from_camera, np.hstack([*moves]).astype(F)))


def _misfit(photos: PosedPhotos, truth: PosedPhotos) -> float:
    """Mean angle in degrees between the photos' rays and the true ones, after the best common turn."""
    ours, true = (p.field_from_camera[:, :, :3].astype(np.float64) for p in (photos, truth))
    common, _ = Rotation.align_vectors(true.transpose(0, 2, 1).reshape(-1, 3), ours.transpose(0, 2, 1).reshape(-1, 3))
    apart = Rotation.from_matrix(true) * (common * Rotation.from_matrix(ours)).inv()
    return float(np.rad2deg(apart.magnitude()).mean())


def _seen_apart(photos: PosedPhotos, truth: PosedPhotos) -> float:
    """Mean angle in degrees between where points about the object are seen and where they should be; no alignment."""
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (200, 3))
    seen: list[np.ndarray] = []
    for pose in (photos.field_from_camera, truth.field_from_camera):
        there = np.einsum("nji,npj->npi", pose[:, :, :3], points - pose[:, None, :, 3])
        seen.append(there / np.linalg.norm(there, axis=2, keepdims=True))
    return float(np.rad2deg(np.arccos(np.clip((seen[0] * seen[1]).sum(axis=2), -1, 1))).mean())


def _settings(pose_rate: float) -> TrainSettings:
    return TrainSettings(samples_per_step=96 * 96, pose_rate=pose_rate, field=FIELD)


def _trained(trainer: FieldTrainer, steps: range) -> FieldTrainer:
    for index in steps:
        trainer.step(index, index / steps.stop)
    return trainer


def test_shaken_cameras_find_back_to_a_field_and_the_honest_score_rises(
    exact: tuple[PosedPhotos, PosedPhotos], learned: FieldTrainer
):
    train, test = exact
    shaken, held_out = _shaken(train, 0), _shaken(test, 1)
    scores: list[float] = []
    misfits: list[float] = []
    for pose_rate in (0.0, 3e-3):
        trainer = FieldTrainer(shaken, _settings(pose_rate))
        trainer.load_state({**learned.state(), "poses": PoseRefinement(shaken.field_from_camera).state()})
        _trained(trainer, range(100, 260))
        misfits.append(_misfit(trainer.photos_now(), train))
        refitted = refit_poses(trainer.field, held_out)
        scores.append(evaluate(trainer.field, refitted, part="right half").psnr)
    assert misfits[0] == pytest.approx(_misfit(shaken, train))
    assert misfits[1] < 0.6 * misfits[0]
    assert scores[1] > scores[0] + 0.2


@pytest.mark.slow
def test_shaken_cameras_find_back_from_the_start(tmp_path: Path):
    scene = read_scene(make_demo_capture(tmp_path / "capture", photos=24, size=(96, 72)))
    train, test = (load_photos(scene, some, field_from_world=field_frame(scene)) for some in hold_out(scene, "every8"))
    shaken, held_out = _shaken(train, 0), _shaken(test, 1)
    settings = [TrainSettings(samples_per_step=2**14, pose_rate=rate, field=FIELD) for rate in (0.0, 3e-3)]
    still, moving = (_trained(FieldTrainer(shaken, each), range(700)) for each in settings)
    # from nothing the field and its cameras drift together: slower than towards a field that is right
    assert _misfit(moving.photos_now(), train) < 0.8 * _misfit(shaken, train)
    scores = [
        evaluate(trainer.field, refit_poses(trainer.field, held_out), part="right half").psnr
        for trainer in (still, moving)
    ]
    assert scores[1] > scores[0] + 1


def test_a_held_out_pose_is_found_and_the_field_stays_as_it_is(
    exact: tuple[PosedPhotos, PosedPhotos], learned: FieldTrainer
):
    test, field = exact[1], learned.field
    told: list[Step] = []
    bytes_before = [array.tobytes() for array in (field.table, field.weights, field.grid)]
    held_out = _shaken(test, 2)
    found = refit_poses(field, held_out, watch=told.append)
    assert [array.tobytes() for array in (field.table, field.weights, field.grid)] == bytes_before
    before, after = (_seen_apart(photos, test) for photos in (held_out, found))
    assert after < 0.6 * before
    scores = [evaluate(field, photos, part="right half").psnr for photos in (held_out, found)]
    assert scores[1] > scores[0] + 0.3
    assert [step.done for step in told] == [1, 2, 3]

    both, alone = (refit_poses(field, photos, steps=3).field_from_camera[0] for photos in (held_out, _first(held_out)))
    np.testing.assert_array_equal(both, alone)


def _first(photos: PosedPhotos) -> PosedPhotos:
    return replace(
        photos,
        names=photos.names[:1],
        sizes=photos.sizes[:1],
        pixels=photos.pixels[: photos.starts[1]],
        starts=photos.starts[:2],
        camera_of=photos.camera_of[:1],
        field_from_camera=photos.field_from_camera[:1],
    )


def test_no_pixel_is_both_refitted_on_and_scored(exact: tuple[PosedPhotos, PosedPhotos], learned: FieldTrainer):
    test, field = exact[1], learned.field
    width = test.sizes[0][1]
    right = np.arange(len(test.pixels)) % width >= width // 2
    poses, scores = [], []
    for spoilt in (np.zeros_like(right), right, ~right):
        pixels = test.pixels.copy()
        pixels[spoilt] = 255 - pixels[spoilt]
        photos = replace(test, pixels=pixels)
        poses.append(refit_poses(field, photos, steps=5).field_from_camera)
        seen = evaluate(field, replace(photos, field_from_camera=poses[0]), part="right half").images[0]
        scores.append((seen.psnr, seen.ssim))
    np.testing.assert_array_equal(poses[0], poses[1])
    assert not np.array_equal(poses[0], poses[2])
    assert scores[0] == scores[2] != scores[1]
    odd = replace(test, sizes=((len(test.pixels) // 3 // 7, 7),) * 3)
    assert set((left_half(odd, 0) % 7).tolist()) == {0, 1, 2}


def test_what_masks_leave_out_is_not_refitted_on(exact: tuple[PosedPhotos, PosedPhotos], learned: FieldTrainer):
    test = exact[1]
    counted = np.arange(len(test.pixels)) % 5 == 0
    masked = replace(test, counted=counted)
    rows = left_half(masked, 1)
    assert counted[rows].all()
    assert len(rows)
    nothing = replace(test, counted=np.zeros_like(counted))
    np.testing.assert_array_equal(refit_poses(learned.field, nothing).field_from_camera, test.field_from_camera)


def test_a_resumed_run_with_cameras_that_move_ends_with_the_same_bits(exact: tuple[PosedPhotos, PosedPhotos]):
    settings = TrainSettings(samples_per_step=96 * 24, pose_rate=1e-3, field=FIELD)
    whole, first, second = (FieldTrainer(exact[0], settings) for _ in range(3))
    steps = range(WARMUP_STEPS - 2, WARMUP_STEPS + 4)
    for index in steps:
        whole.step(index, 0.0)
    for index in steps[:3]:
        first.step(index, 0.0)
    second.load_state(first.state())
    for index in steps[3:]:
        second.step(index, 0.0)
        first.step(0, 0.0)
    assert equal_states(whole.state(), second.state())
    assert not np.array_equal(whole.photos_now().field_from_camera, exact[0].field_from_camera)
    untouched = FieldTrainer(exact[0], settings)
    untouched.step(0, 0.0)
    np.testing.assert_array_equal(untouched.photos_now().field_from_camera, exact[0].field_from_camera)


def test_cameras_do_not_move_together():
    """A common shift, turn about the origin, or growth, is what Adam is asked for here: nothing must come of it."""
    rng = np.random.default_rng(0)
    count = 9
    given = np.concatenate([Rotation.random(count, rng=0).as_matrix(), rng.normal(size=(count, 3, 1))], axis=2).astype(
        F
    )
    photo = np.arange(count)
    free, held = PoseRefinement(given), PoseRefinement(given)
    for gradients in (np.tile([1, 0, 0, 0, 0, 0], (count, 1)), np.tile([0, 0, -2, 0, 0, 0], (count, 1))):
        free.descend(gradients.astype(F), photo, 1e-3, 0)
        held.learn(gradients.astype(F), photo, 1e-3, 0)
    assert np.abs(free.poses - given).max() > 1e-3
    np.testing.assert_allclose(held.poses, given, atol=1e-5)
    moves = rng.normal(size=(count, 6)).astype(F)
    held.learn(moves, photo, 1e-3, 0)
    now = held.poses.astype(np.float64)
    centres, shift = given[:, :, 3].astype(np.float64), now[:, :, 3] - given[:, :, 3]
    turns = Rotation.from_matrix(now[:, :, :3] @ given[:, :, :3].transpose(0, 2, 1)).as_rotvec()
    np.testing.assert_allclose(shift.sum(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose((turns + np.cross(centres, shift)).sum(axis=0), 0, atol=1e-5)
    assert abs((shift * centres).sum()) < 1e-5


def test_a_lone_camera_and_cameras_at_one_place_are_no_accident():
    for given in (np.eye(3, 4, dtype=F)[None], np.tile(np.eye(3, 4, dtype=F), (4, 1, 1))):
        refinement = PoseRefinement(given)
        refinement.learn(np.ones((len(given), 6), F), np.arange(len(given)), 1e-2, 0)
        assert np.isfinite(refinement.poses).all()
        np.testing.assert_allclose(refinement.poses, given, atol=1e-6)


def test_rotations_are_scipys():
    vectors = np.concatenate([np.random.default_rng(0).normal(size=(20, 3)), np.zeros((1, 3)), [[0, 0, 1e-9]]])
    np.testing.assert_allclose(rotations(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)


def test_a_run_says_how_it_was_scored_and_where_its_cameras_went(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer_module, "WARMUP_STEPS", 2)
    monkeypatch.setattr(reconstructor, "refit_poses", partial(refit_poses, steps=5))
    scan = ColmapNerfReconstructor(capture, out=tmp_path / "run", refine_poses="yes")
    scores = scan.fit(steps=6)
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["held_out_poses"] == "refitted on the left half, scored on the right half"
    assert result["test"]["psnr"] == pytest.approx(scores.psnr)
    assert result["test_unrefined"]["psnr"] != result["test"]["psnr"]
    assert (result["resolution"], len(result["test_unrefined"]["per_image"])) == ([80, 60], 3)

    moved = with_refined_poses(scan.scene, tmp_path / "run/poses_refined.json")
    train, test = scan.split
    for index, (there, given) in enumerate(zip(moved.views, scan.scene.views, strict=True)):
        same = np.allclose(there.world_from_camera, given.world_from_camera, atol=1e-7)
        assert same == (index in test)
        np.testing.assert_allclose(there.world_from_camera, given.world_from_camera, atol=0.1)
    scan.export_cameras(tmp_path / "transforms.json")
    back = read_scene_poses(tmp_path / "transforms.json")
    for index in train:
        view = moved.views[index]
        np.testing.assert_allclose(back[Path(view.name).name], view.world_from_camera, atol=1e-6)

    again = ColmapNerfReconstructor.open(tmp_path / "run")
    assert again.evaluate().psnr == scores.psnr


def read_scene_poses(file: Path) -> dict[str, np.ndarray]:
    """OpenCV poses by file name, from OpenGL ones."""
    frames = json.loads(file.read_text())["frames"]
    return {
        Path(f["file_path"]).name: np.array(f["transform_matrix"])[:3] * np.array([1.0, -1.0, -1.0, 1.0])
        for f in frames
    }


@pytest.mark.parametrize("wrong", [-1e-3, 1.0])
def test_rates_that_are_none_are_refused(wrong: float):
    with pytest.raises(ConfigError, match="pose_rate"):
        TrainSettings(pose_rate=wrong)


def test_a_choice_is_yes_or_no(capture: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="refine_poses"):
        ColmapNerfReconstructor(capture, out=tmp_path / "run", refine_poses="ys")  # pyright: ignore[reportArgumentType]
