"""Camera paths: an orbit circles its centre, an interpolation passes its keys, a file is read as written."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nndl_suite.errors import CaptureError, ConfigError, DataError
from nndl_suite.nerf.path import CameraPath, goes_round, interpolate, look_at, orbit, spiral
from nndl_suite.nerf.path_file import read_path, write_path

POSE = f'{{"camera_to_world": {np.eye(4).ravel().tolist()}'  # to be closed
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


@pytest.mark.parametrize("kind", [orbit, spiral])
def test_a_path_about_another_point_goes_round_that(kind: Callable[..., CameraPath]):
    about = np.array([0.3, -0.2, 0.1])
    cameras = ring(np.arange(0, 360, 10.0))
    moved = cameras.copy()
    moved[:, :, 3] += about
    poses, expected = kind(moved, frames=30, about=about).poses, kind(cameras, frames=30).poses
    np.testing.assert_allclose(poses[:, :, :3], expected[:, :, :3], atol=1e-12)
    np.testing.assert_allclose(poses[:, :, 3], expected[:, :, 3] + about, atol=1e-12)


def test_a_gap_of_more_than_a_right_angle_is_not_all_the_way_round():
    assert goes_round(ring(np.arange(0, 271, 10.0)))
    assert not goes_round(ring(np.arange(0, 269, 10.0)))


def test_medians_ignore_one_far_camera():
    cameras = np.concatenate([ring(np.arange(0, 360, 30)), ring(np.array([45.0]), distance=9.0)])
    offsets = orbit(cameras, frames=8).poses[:, :, 3]
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=-1), 2.0, atol=1e-6)


def uneven(count: int, seed: int = 0) -> np.ndarray:
    """Azimuths of a walk that dawdles here and hurries there."""
    steps = np.random.default_rng(seed).uniform(0.3, 2.0, count)
    return np.cumsum(steps) / steps.sum() * 360


def polar(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    distance = np.linalg.norm(positions, axis=-1)
    return np.arctan2(positions[:, 1], positions[:, 0]), np.arcsin(positions[:, 2] / distance), distance


def test_an_orbit_follows_a_tilted_circle():
    azimuth = np.radians(uneven(30))
    flat = 2.0 * np.stack([np.cos(azimuth), np.sin(azimuth), np.full_like(azimuth, 0.6)], axis=-1)
    tilt = math.radians(12)
    turned = flat @ np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]).T
    poses = orbit(look_at(turned), frames=72).poses
    assert_poses(poses)
    assert_faces_centre(poses)
    np.testing.assert_allclose(np.linalg.norm(poses[:, :, 3], axis=-1), 2.0 * math.hypot(1, 0.6), atol=1e-6)
    back = poses[:, :, 3] @ np.array(
        [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    )
    np.testing.assert_allclose(back[:, 2], 1.2, atol=0.05)  # a flat median circle would be off by 0.42


def test_an_orbit_follows_an_oval_and_never_leaves_the_photographed_shell():
    azimuth = np.radians(uneven(40, seed=1))
    noise = np.random.default_rng(2).normal(0, 0.03, 40)
    distance = 2.0 / np.sqrt(np.cos(azimuth) ** 2 + (np.sin(azimuth) / 0.7) ** 2) + noise
    towards = np.stack([np.cos(azimuth), np.sin(azimuth), np.full_like(azimuth, 0.3)], axis=-1)
    cameras = look_at(distance[:, None] * towards)
    positions = orbit(cameras, frames=90).poses[:, :, 3]
    where, _, far = polar(positions)
    expected = math.hypot(1, 0.3) * 2.0 / np.sqrt(np.cos(where) ** 2 + (np.sin(where) / 0.7) ** 2)
    np.testing.assert_allclose(far, expected, atol=0.12)
    _, heights, shell = polar(cameras[:, :, 3])
    assert shell.min() - 1e-9 <= far.min()
    assert far.max() <= shell.max() + 1e-9
    assert np.ptp(polar(positions)[1]) <= np.ptp(heights) + 1e-9
    bends = np.diff(np.concatenate([far, far[:3]]), 2)
    assert np.abs(bends).max() < 0.02, "the distance jerks"


def test_an_orbit_between_two_rounds_of_photos_keeps_between_them():
    cameras = np.concatenate([ring(uneven(18, s), elevation=e) for s, e in ((0, 0.3), (1, 0.7))])
    _, heights, _ = polar(orbit(cameras, frames=60).poses[:, :, 3])
    np.testing.assert_allclose(heights, 0.5, atol=0.06)


def test_an_arc_that_rises_is_followed_without_a_jerk_at_its_ends():
    degrees = np.arange(0, 151, 6.0)
    cameras = np.concatenate([ring(d[None], elevation=0.2 + 0.004 * d) for d in degrees])
    positions = orbit(cameras, frames=80).poses[:, :, 3]
    where, heights, _ = polar(positions)
    np.testing.assert_allclose(heights, 0.2 + 0.004 * np.degrees(where), atol=0.06)
    assert np.abs(np.diff(heights, append=heights[:1])).max() < 0.035


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
    read = read_path(file)
    np.testing.assert_allclose(read.poses, poses, atol=1e-9)
    assert read.fov_deg is not None
    assert (read.fov_deg.tolist(), read.size, read.fps) == ([50, 50], None, 24)


def test_a_written_path_is_read_back_by_us_and_by_nerfstudios_rules(tmp_path: Path):
    poses = ring(np.array([0.0, 40.0, 80.0]), elevation=0.3)
    path = CameraPath(poses=poses, description="", fov_deg=np.array([40.0, 45.0, 50.0]), size=(64, 48), fps=24.0)
    file = tmp_path / "path.json"
    write_path(file, path)
    again = read_path(file)
    np.testing.assert_allclose(again.poses, poses, atol=1e-12)
    assert (again.fov_deg.tolist(), again.size, again.fps) == ([40, 45, 50], (64, 48), 24)
    content = json.loads(file.read_text())  # nerfstudio/cameras/camera_paths.py, get_path_from_json
    assert (content["render_height"], content["render_width"], content["camera_type"]) == (48, 64, "perspective")
    assert content["seconds"] == pytest.approx(3 / 24)
    for camera, pose in zip(content["camera_path"], poses, strict=True):
        camera_to_world = np.array(camera["camera_to_world"]).reshape(4, 4)
        np.testing.assert_allclose(-camera_to_world[:3, 2], pose[:, 2])  # looks along its own -z
        np.testing.assert_allclose(camera_to_world[:3, 3], pose[:, 3])
        assert np.linalg.det(camera_to_world) == pytest.approx(1)
        assert camera["aspect"] == pytest.approx(64 / 48)


def test_rotations_between_photos_do_not_jerk():
    keys = ring(np.array([0.0, 10.0, 40.0, 50.0, 90.0]))
    poses = interpolate(keys, frames=400).poses
    turns = Rotation.from_matrix(poses[:-1, :, :3].transpose(0, 2, 1) @ poses[1:, :, :3]).as_rotvec()
    world = np.einsum("fij,fj->fi", poses[:-1, :, :3], turns)
    assert np.linalg.norm(np.diff(world, axis=0), axis=-1).max() < 0.1 * np.linalg.norm(turns, axis=-1).mean()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot read"),
        ("[]", "camera_path"),
        ('{"camera_path": []}', "at least one camera"),
        ('{"camera_type": "fisheye", "camera_path": [{}]}', "only 'perspective'"),
        (f'{{"camera_path": [{POSE}, "fov": 200}}]}}', "between 0 and 180"),
        (f'{{"camera_path": [{POSE}, "fov": 20}}, {POSE}}}]}}', "camera 1"),
        (f'{{"fps": 0, "camera_path": [{POSE}}}]}}', "fps must be a number above 0"),
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
