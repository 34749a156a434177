"""The field's frame: a similarity and what it promises about up, origin and scale."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.errors import CaptureError, RunError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.frame import FieldFrame, Similarity, field_frame, read_frame, write_frame
from nndl_suite.nerf.scene import Points, PoseReport, Scene, View


def test_a_kept_frame_comes_back_or_is_refused(tmp_path):
    there = Similarity(scale=1.7, rotation=np.eye(3)[[1, 2, 0]], translation=np.array([0.1, -2.0, 3e-9]))
    file = tmp_path / "frame.json"
    write_frame(file, FieldFrame(field_from_world=there, bound=0.5))
    content = file.read_bytes()

    def same(found: FieldFrame) -> bool:
        kept = found.field_from_world
        pairs = ((kept.rotation, there.rotation), (kept.translation, there.translation), (kept.scale, there.scale))
        return found.bound == 0.5 and all(np.array_equal(a, b) for a, b in pairs)

    assert same(read_frame(file))
    refused = []
    for place in range(0, len(content), 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert same(read_frame(file)), place
        except RunError as error:
            refused.append(str(error))
    assert len(refused) > 0.6 * len(content) / 3
    assert all("frame.json" in told for told in refused)
    for keep in range(0, len(content) - 2, 5):
        file.write_bytes(content[:keep])
        with pytest.raises(RunError, match=r"frame\.json"):
            read_frame(file)
    earlier = {key: value for key, value in json.loads(content).items() if key != "checksum"}
    file.write_text(json.dumps(earlier))
    assert same(read_frame(file))


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def looking(eye: np.ndarray, at: np.ndarray, up: np.ndarray) -> np.ndarray:
    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, up)
    right = right / np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward, eye], axis=1)


def scene_of(poses: list[np.ndarray], points: np.ndarray | None = None) -> Scene:
    return Scene(
        root=Path(),
        cameras=(Camera(model="PINHOLE", width=4, height=3, params=(4.0, 4.0, 2.0, 1.5)),),
        views=tuple(
            View(name=f"{n:03}", image=Path(), camera=0, world_from_camera=pose) for n, pose in enumerate(poses)
        ),
        test_names=frozenset(),
        points=None if points is None else Points(xyz=points, rgb=np.zeros((len(points), 3), np.uint8)),
        poses=PoseReport(registered=len(poses), total=len(poses), mean_reprojection_error=None),
    )


def orbit(at: np.ndarray, radius: float, turn: float = 2 * np.pi, elevation: float = 0.4) -> list[np.ndarray]:
    angles = np.linspace(0, turn, 12, endpoint=False)
    eyes = [
        at + radius * np.array([np.cos(a) * np.cos(elevation), np.sin(a) * np.cos(elevation), np.sin(elevation)])
        for a in angles
    ]
    return [looking(eye, at, np.array([0.0, 0.0, 1.0])) for eye in eyes]


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_there_and_back(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    there = Similarity(scale=scale, rotation=random_rotation(rng), translation=rng.normal(size=3))
    points = rng.normal(size=(4, 5, 3))
    np.testing.assert_allclose(there.inverse().apply(there.apply(points)), points, atol=1e-9)
    poses = np.stack([np.concatenate([random_rotation(rng), rng.normal(size=(3, 1))], axis=1) for _ in range(4)])
    np.testing.assert_allclose(there.inverse().apply_pose(there.apply_pose(poses)), poses, atol=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_a_pose_moves_as_the_points_on_its_ray(seed: int) -> None:
    rng = np.random.default_rng(seed)
    there = Similarity(scale=2.5, rotation=random_rotation(rng), translation=rng.normal(size=3))
    pose = np.concatenate([random_rotation(rng), rng.normal(size=(3, 1))], axis=1)
    ray = rng.normal(size=3)
    moved = there.apply_pose(pose)
    np.testing.assert_allclose(
        there.apply(pose[:, :3] @ ray * 3.0 + pose[:, 3]), moved[:, :3] @ ray * (3.0 * 2.5) + moved[:, 3], atol=1e-9
    )
    np.testing.assert_allclose(moved[:, :3] @ moved[:, :3].T, np.eye(3), atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50), st.sampled_from([2 * np.pi, np.pi, 1.0]))
def test_an_orbit_in_any_world_becomes_the_same_orbit(seed: int, scale: float, turn: float) -> None:
    rng = np.random.default_rng(seed)
    poses = np.stack(orbit(np.zeros(3), 1.0, turn))
    world = Similarity(scale=scale, rotation=random_rotation(rng), translation=10 * rng.normal(size=3))
    frame = field_frame(scene_of(list(world.apply_pose(poses))))
    back = frame.apply_pose(world.apply_pose(poses))
    np.testing.assert_allclose(np.linalg.norm(back[:, :, 3], axis=1), 1.0, atol=1e-6)
    # Up is exact where the photos go round; from one side the photographer's tilt pulls a little.
    np.testing.assert_allclose(back[:, 2, 3], np.sin(0.4), atol=1e-6 if turn > 6 else 0.2)
    assert (-back[:, 2, 1] > 0).all()  # the cameras' own up points up
    assert np.linalg.det(frame.rotation) == pytest.approx(1.0)


def test_stray_photos_hardly_move_the_origin() -> None:
    at = np.array([1.0, 2.0, 3.0])
    poses = orbit(at, 2.0)
    stray = looking(np.array([2.0, 2.0, 3.0]), np.array([2.0, 9.0, 3.0]), np.array([0.0, 0.0, 1.0]))
    frame = field_frame(scene_of([*poses, stray]))
    assert np.linalg.norm(frame.apply(at)) < 0.01


def test_cameras_that_look_outwards_stand_round_the_origin() -> None:
    poses = [
        np.concatenate([pose[:, :3] @ np.diag([-1.0, 1.0, -1.0]), pose[:, 3:]], axis=1)
        for pose in orbit(np.ones(3), 2.0, elevation=0.0)
    ]
    frame = field_frame(scene_of(poses))
    np.testing.assert_allclose(frame.apply(np.ones(3)), 0.0, atol=1e-9)


def test_parallel_cameras_put_the_origin_at_the_depth_of_the_points() -> None:
    up = np.array([0.0, 0.0, 1.0])
    poses = [looking(np.array([x, 0.0, 0.0]), np.array([x, 5.0, 0.0]), up) for x in (-1.0, -0.3, 0.4, 0.9)]
    points = np.array([[0.0, 4.0, 0.1], [0.1, 5.0, -0.2], [-0.2, 6.0, 0.3]])
    frame = field_frame(scene_of(poses, points))
    np.testing.assert_allclose(frame.apply(np.array([0.0, 5.0, 0.0])), 0.0, atol=1e-9)
    assert field_frame(scene_of(poses)).scale > 0  # and without points there is still a frame


def test_cameras_at_one_point_have_no_scale() -> None:
    pose = looking(np.zeros(3), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    with pytest.raises(CaptureError, match="one point"):
        field_frame(scene_of([pose] * 3))
