"""Camera paths: an orbit circles its centre, an interpolation passes its keys, a file is read as written."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from nndl_suite.errors import CaptureError, ConfigError, DataError
from nndl_suite.nerf.path import interpolate, look_at, orbit, read_path, spiral

UP = np.array([0.0, 0.0, 1.0])


def ring(degrees: np.ndarray, elevation: float = 0.4, distance: float = 2.0) -> np.ndarray:
    azimuth = np.radians(degrees)
    level = np.cos(elevation)
    towards = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.full_like(azimuth, np.sin(elevation))], -1)
    return look_at(distance * towards)


def assert_poses(poses: np.ndarray) -> None:
    rotations = poses[:, :, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)


def assert_faces_centre(poses: np.ndarray) -> None:
    towards = -poses[:, :, 3]
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    np.testing.assert_allclose(poses[:, :, 2], towards, atol=1e-9)
    assert (-poses[:, :, 1] @ UP > 0).all(), "upside down"
    np.testing.assert_allclose(poses[:, :, 0] @ UP, 0, atol=1e-9, err_msg="the horizon is not level")


def test_an_orbit_keeps_height_and_distance_and_looks_at_the_centre():
    path = orbit(ring(np.arange(0, 360, 30)), frames=40)
    offsets = path.poses[:, :, 3]
    assert path.description == "full circle"
    assert_poses(path.poses)
    assert_faces_centre(path.poses)
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=-1), 2.0, atol=1e-9)
    np.testing.assert_allclose(offsets @ UP, 2.0 * math.sin(0.4), atol=1e-9)


def test_an_orbit_is_a_closed_circle_at_even_speed():
    positions = orbit(ring(np.arange(0, 360, 30)), frames=40).poses[:, :, 3]
    strides = np.linalg.norm(np.diff(positions, axis=0, append=positions[:1]), axis=-1)
    np.testing.assert_allclose(strides, 2 * 2.0 * math.cos(0.4) * math.sin(math.pi / 40), atol=1e-9)


def test_medians_ignore_one_far_camera():
    cameras = np.concatenate([ring(np.arange(0, 360, 30)), ring(np.array([45.0]), distance=9.0)])
    offsets = orbit(cameras, frames=8).poses[:, :, 3]
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=-1), 2.0, atol=1e-6)


@pytest.mark.parametrize("start", [0.0, 130.0, 300.0])  # 300: the covered range crosses the azimuth's seam
def test_an_arc_is_swept_there_and_back_within_what_was_photographed(start: float):
    covered = np.arange(0, 121, 10.0)
    cameras = ring(start + covered)
    path = orbit(cameras, frames=60)
    assert "120 degrees" in path.description
    assert_faces_centre(path.poses)
    nearest = np.linalg.norm(path.poses[:, None, :, 3] - cameras[None, :, :, 3], axis=-1).min(axis=1)
    step = 2 * 2.0 * math.cos(0.4) * math.sin(math.radians(5) / 2)  # half way between two photos, as chord
    assert nearest.max() < step * 1.01
    strides = np.linalg.norm(np.diff(path.poses[:, :, 3], axis=0, append=path.poses[:1, :, 3]), axis=-1)
    assert strides.max() < math.radians(120) * 2.0 * math.cos(0.4) * math.pi / 60 * 1.01, "the sweep jumps"


def test_a_spiral_stays_between_the_lowest_and_highest_photos():
    cameras = np.concatenate([ring(np.arange(0, 360, 30), elevation=e) for e in (0.2, 0.5, 0.8)])
    path = spiral(cameras, frames=50)
    heights = path.poses[:, :, 3] @ UP / 2.0
    assert_poses(path.poses)
    assert_faces_centre(path.poses)
    assert heights.min() == pytest.approx(math.sin(0.2), abs=1e-6)
    assert heights.max() == pytest.approx(math.sin(0.8), abs=1e-6)


def test_interpolation_passes_through_its_keys():
    keys = ring(np.arange(0, 360, 30))  # evenly spaced, so every eighth frame falls on a key
    poses = interpolate(keys, frames=8 * 11 + 1).poses
    assert_poses(poses)
    np.testing.assert_allclose(poses[::8], keys, atol=1e-9)


def test_interpolation_between_uneven_keys_starts_and_ends_on_them_and_passes_near_the_rest():
    keys = ring(np.array([0.0, 50.0, 60.0, 65.0, 140.0]))
    poses = interpolate(keys, frames=2000).poses
    assert np.abs(poses[[0, -1]] - keys[[0, -1]]).max() < 1e-9
    assert np.abs(poses[:, None] - keys).max(axis=(2, 3)).min(axis=0).max() < 2e-3


def test_interpolation_bears_a_photo_taken_twice():
    keys = ring(np.array([0.0, 20.0, 20.0, 40.0]))
    assert_poses(interpolate(keys, frames=30).poses)


def test_cameras_that_all_stand_above_the_object_have_no_orbit():
    cameras = np.stack([np.column_stack([np.diag([1.0, -1, -1]), [0.0, 0.0, z]]) for z in range(1, 5)])
    with pytest.raises(CaptureError, match="interpolate"):
        orbit(cameras, frames=10)


def test_a_path_has_at_least_two_frames():
    with pytest.raises(ConfigError, match="at least 2 frames, got 1"):
        orbit(ring(np.arange(0, 360, 30)), frames=1)


def test_a_nerfstudio_path_is_read_back_with_its_axes_turned(tmp_path: Path):
    poses = ring(np.array([0.0, 40.0]))
    opengl = [np.vstack([1.7 * pose[:, :3] * [1, -1, -1], np.zeros(3)]) for pose in poses]
    frames = [
        {"camera_to_world": np.column_stack([m, [*p[:, 3], 1]]).ravel().tolist(), "fov": 50, "aspect": 1.0}
        for m, p in zip(opengl, poses, strict=True)
    ]
    file = tmp_path / "path.json"
    file.write_text(json.dumps({"camera_type": "perspective", "fps": 24, "camera_path": frames}))
    np.testing.assert_allclose(read_path(file).poses, poses, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot read"),
        ("[]", "camera_path"),
        ('{"camera_path": []}', "at least one camera"),
        ('{"camera_path": [{}]}', "camera 0 needs camera_to_world with 16 numbers"),
        ('{"camera_path": [{"camera_to_world": [1, 2]}]}', "16 numbers"),
        ('{"camera_path": [{"camera_to_world": [0,0,0,0, 0,0,0,0, 0,0,0,0, 0,0,0,1]}]}', "not a rotation"),
        ('{"camera_path": [{"camera_to_world": [1,2,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1]}]}', "not a rotation"),
        ('{"camera_path": [{"camera_to_world": [NaN,2,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1]}]}', "not a rotation"),
    ],
)
def test_a_path_that_is_none_is_refused_with_its_place(tmp_path: Path, text: str, told: str):
    file = tmp_path / "path.json"
    file.write_text(text)
    with pytest.raises(DataError, match=told):
        read_path(file)
