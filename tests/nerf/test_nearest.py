"""Where rays begin: half way to the first of the points that a camera sees."""

from dataclasses import replace

import numpy as np
import pytest

from nndl_suite.nerf.nearest import nearest_surface
from nndl_suite.nerf.photos import PosedPhotos


@pytest.fixture
def photos() -> PosedPhotos:
    """One photo of 9 x 9 pixels, 90 degrees wide, taken from (0, 0, -1) towards the origin."""
    at = (np.arange(9) + 0.5) / 4.5 - 1
    x, y = np.meshgrid(at, at)
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    pose = np.eye(3, 4)
    pose[2, 3] = -1
    return PosedPhotos(
        names=("a",),
        sizes=((9, 9),),
        pixels=np.zeros((81, 3), np.uint8),
        starts=np.array([0, 81]),
        camera_of=np.array([0]),
        directions=(rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32),
        direction_starts=np.array([0, 81]),
        field_from_camera=pose[None].astype(np.float32),
    )


def test_half_the_way_to_the_first_points_in_view(photos):
    wall = np.stack([np.linspace(-0.3, 0.3, 400), np.zeros(400), np.full(400, -0.2)], 1)  # 0.8 in front
    assert nearest_surface(photos, wall) == pytest.approx(0.4, abs=1e-3)
    behind_or_beside = np.array([[0, 0, -1.2], [0.5, 0, -0.9], [0, -0.5, -0.9]]).repeat(50, axis=0)
    assert nearest_surface(photos, np.concatenate([wall, behind_or_beside])) == pytest.approx(0.4, abs=1e-3)
    wrong = np.array([[0, 0, -0.95]]).repeat(3, axis=0)
    assert nearest_surface(photos, np.concatenate([wall, wrong])) == pytest.approx(0.4, abs=1e-3)


def test_without_points_in_view_rays_begin_at_the_camera(photos):
    assert nearest_surface(photos, None) == 0.05
    assert nearest_surface(photos, np.empty((0, 3))) == 0.05
    assert nearest_surface(photos, np.array([[0.0, 0.0, -3.0]])) == 0.05


def test_it_stays_within_reason(photos):
    far = np.array([[0.0, 0.0, 50.0]])
    assert nearest_surface(photos, far) == 0.5
    pose = photos.field_from_camera.copy()
    pose[0, 2, 3] = 49.99
    assert nearest_surface(replace(photos, field_from_camera=pose), far) == 0.05
