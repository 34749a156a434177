"""Visiting cameras: a walk is kept, leaps are mended, and nobody is left out."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nndl_suite.nerf.path import interpolate, look_at
from nndl_suite.nerf.tour import steps_between, visit


def strip(first: float, last: float, elevation: float, count: int) -> np.ndarray:
    """Cameras at distance 1 on part of a level circle; degrees."""
    around, height = np.radians(np.linspace(first, last, count)), np.radians(elevation)
    level = np.cos(height)
    return look_at(np.stack([level * np.cos(around), level * np.sin(around), np.full(count, np.sin(height))], axis=-1))


def total(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :, 3], axis=0), axis=-1).sum())


def test_a_walk_is_kept_though_its_steps_are_uneven():
    rng = np.random.default_rng(0)
    walk = strip(0, 340, 20, 40)
    walk[:, :, 3] += 0.02 * rng.normal(size=(40, 3))
    np.testing.assert_array_equal(visit(walk), np.arange(40))
    assert interpolate(walk, frames=10).description == "through 40 photos in their order"


@pytest.mark.parametrize("seed", range(3))
def test_a_shuffled_walk_is_found_again(seed: int):
    walk = strip(0, 200, 20, 30)
    mixed = np.random.default_rng(seed).permutation(30)
    found = mixed[visit(walk[mixed])]
    assert found.tolist() in (list(range(30)), list(range(29, -1, -1)))


def test_strips_are_joined_where_they_are_near():
    """Three strips, each begun at the far end of the one before: there and back, and never across the scene."""
    strips = np.concatenate([strip(-60, 60, -10, 20), strip(-60, 60, 10, 20), strip(-60, 60, 30, 20)])
    path = interpolate(strips, frames=600)
    far = np.linalg.norm(path.poses[:, None, :, 3] - strips[None, :, :, 3], axis=-1).min(axis=1)
    assert far.max() < 0.2  # half of the 0.35 from strip to strip, and a little for the curve
    assert "by a short tour" in path.description


def test_random_cameras_on_a_dome_are_toured_outside_the_object():
    places = np.random.default_rng(1).normal(size=(100, 3))
    places[:, 2] = np.abs(places[:, 2])
    dome = look_at(places / np.linalg.norm(places, axis=-1, keepdims=True))
    order = visit(dome)
    assert sorted(order.tolist()) == list(range(100))
    assert total(dome[order]) < 0.25 * total(dome)
    assert np.linalg.norm(interpolate(dome, frames=600).poses[:, :, 3], axis=-1).min() > 0.8


def test_no_stretch_of_a_tour_turned_round_makes_it_shorter():
    places = np.random.default_rng(2).normal(size=(40, 3))
    cameras = look_at(places / np.linalg.norm(places, axis=-1, keepdims=True))
    squares = steps_between(cameras) ** 2
    tour = visit(cameras)
    shortest = squares[tour[:-1], tour[1:]].sum()
    for first in range(40):
        for behind in range(first + 2, 41):
            other = np.concatenate([tour[:first], tour[first:behind][::-1], tour[behind:]])
            assert squares[other[:-1], other[1:]].sum() > shortest - 1e-9


def test_the_tour_of_a_few_is_the_best_of_all_orders():
    near, far = strip(0, 12, 20, 4), strip(150, 162, 20, 3)
    cameras = np.concatenate([near[:2], far, near[2:]])
    squares = steps_between(cameras) ** 2

    def cost(order: tuple[int, ...] | list[int]) -> float:
        return sum(squares[a, b] for a, b in pairwise(order))

    assert cost(visit(cameras).tolist()) == pytest.approx(min(map(cost, permutations(range(7)))))


def test_a_step_is_way_in_radii_and_turn_in_radians():
    cameras = np.zeros((2, 3, 4))
    cameras[0, :, :3] = np.eye(3)
    cameras[1, :, :3] = Rotation.from_rotvec([0, 0.3, 0]).as_matrix()
    cameras[1, :, 3] = 4, 0, 0
    np.testing.assert_allclose(steps_between(cameras), [[0, 2.3], [2.3, 0]], atol=1e-7)
