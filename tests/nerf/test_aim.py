"""The aim of an orbit: what photos from one side show, and the crossing of the views where they go all round."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nndl_suite.nerf import aim
from nndl_suite.nerf.aim import seen_aim
from nndl_suite.nerf.path import look_at
from nndl_suite.nerf.rendering import Rendering

HEAD, RADIUS = np.array([0.2, 0.05, 0.0]), 0.2


def ring(degrees: np.ndarray) -> np.ndarray:
    around = np.radians(degrees)
    return look_at(np.stack([np.cos(around), np.sin(around), np.full_like(around, 0.2)], axis=-1))


def field(bound: float | None = None) -> Any:
    return SimpleNamespace(settings=SimpleNamespace(bound=bound))


def see_a_head_before_a_wall(_: object, directions: np.ndarray, pose: np.ndarray) -> Rendering:
    """A ball in front of the wall x = 0, which alone is seen where the ball is not."""
    toward, start = directions @ pose[:, :3].T, pose[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        wall = np.where(toward[..., 0] < 0, -start[0] / toward[..., 0], 100.0)
        middle = toward @ (HEAD - start)
        root = np.sqrt(middle**2 - (HEAD - start) @ (HEAD - start) + RADIUS**2)
    depth = np.where(np.isnan(root), wall, middle - root)
    return Rendering(np.zeros((*depth.shape, 3), np.float32), depth.astype(np.float32), np.ones_like(depth))


def at_distance(distance: float, opacity: float):
    def see(_: object, directions: np.ndarray, pose: np.ndarray) -> Rendering:
        shape = directions.shape[:2]
        return Rendering(np.zeros((*shape, 3)), np.full(shape, distance), np.full(shape, opacity))

    return see


def test_photos_from_one_side_show_what_they_are_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aim, "render_view", see_a_head_before_a_wall)
    found = seen_aim(field(), ring(np.linspace(-60, 60, 40)), 50.0)
    assert np.linalg.norm(found - HEAD) < 0.6 * np.linalg.norm(HEAD)  # nearer than the crossing, at the origin
    assert 0 < found[0] < HEAD[0] + RADIUS


def test_the_middle_of_the_picture_counts(monkeypatch: pytest.MonkeyPatch):
    angles: list[float] = []

    def see(_: object, directions: np.ndarray, pose: np.ndarray) -> Rendering:
        corner = directions[0, 0] / directions[0, 0, 2]
        angles.append(float(-corner[1]))
        return at_distance(0.9, 1.0)(_, directions, pose)

    monkeypatch.setattr(aim, "render_view", see)
    seen_aim(field(), ring(np.linspace(-60, 60, 40)), 60.0)
    assert len(angles) <= 24
    np.testing.assert_allclose(angles, math.tan(math.radians(30)) / 2 * 11 / 12, rtol=1e-5)


@pytest.mark.parametrize(
    ("bound", "last", "distance", "opacity"),
    [
        (None, 340, 0.7, 1.0),  # all round
        (0.5, 120, 0.7, 1.0),  # in a frame that silhouettes gave
        (None, 120, 1.7, 1.0),  # a wall far behind
        (None, 120, 0.7, 0.2),  # nothing solid
    ],
)
def test_else_it_is_where_the_views_cross(
    monkeypatch: pytest.MonkeyPatch, bound: float | None, last: int, distance: float, opacity: float
):
    monkeypatch.setattr(aim, "render_view", at_distance(distance, opacity))
    np.testing.assert_array_equal(seen_aim(field(bound), ring(np.linspace(0, last, 30)), 50.0), 0)
