"""Contraction, and the rays through pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.nerf.kernels import marching
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.sampling import contract, pixel_rays

F = np.float32


@given(st.integers(0, 2**31))
def test_contraction_is_invertible_and_ends_at_radius_two(seed: int):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(50, 3)) * 10 ** rng.uniform(-2, 3, size=(50, 1))
    inside = contract(points)
    assert np.linalg.norm(inside, axis=1).max() < 2
    norm = np.maximum(np.linalg.norm(inside, axis=1, keepdims=True), 1)
    np.testing.assert_allclose(inside / (norm * (2 - norm)), points, rtol=1e-6)
    near = np.linalg.norm(points, axis=1) <= 1
    np.testing.assert_array_equal(inside[near], points[near])


def test_contraction_is_continuous_with_slope_one_at_the_unit_sphere():
    direction = np.array([0.6, 0.0, 0.8])
    inner, outer = contract(np.stack([direction * (1 - 1e-6), direction * (1 + 1e-6)]))
    np.testing.assert_allclose(outer - inner, 2e-6 * direction, rtol=1e-3, atol=1e-12)


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-50, 50))
def test_the_kernels_contract_alike(x: float, y: float, z: float):
    cube = marching.contract(F(x), F(y), F(z), F(np.inf))
    np.testing.assert_allclose(4 * np.array(cube) - 2, contract(np.array([[x, y, z]]))[0], atol=1e-5)


@given(st.floats(0.001, 1e3), st.floats(0.1, 10))
def test_places_along_a_ray_rise_and_come_back(distance: float, knee: float):
    place = marching.place_of(F(distance), F(knee))
    assert 0 < place < 1
    assert marching.distance_at(place, F(knee)) == pytest.approx(distance, rel=1e-2)
    assert marching.place_of(F(distance * 1.01), F(knee)) > place


def test_pixels_of_photos_of_different_sizes_find_their_camera_and_pose():
    rng = np.random.default_rng(0)
    sizes = ((2, 3), (4, 2), (2, 3))
    turns = np.linalg.qr(rng.normal(size=(3, 3, 3)))[0]
    poses = np.concatenate([turns, rng.normal(size=(3, 3, 1))], axis=2).astype(F)
    directions = rng.normal(size=(6 + 8, 3)).astype(F)
    photos = PosedPhotos(
        names=("a", "b", "c"),
        sizes=sizes,
        pixels=np.zeros((20, 3), np.uint8),
        starts=np.array([0, 6, 14, 20]),
        camera_of=np.array([0, 1, 0]),
        directions=directions,
        direction_starts=np.array([0, 6, 14]),
        field_from_camera=poses,
    )
    rays, photo = pixel_rays(photos, np.arange(20))
    np.testing.assert_array_equal(photo, [0] * 6 + [1] * 8 + [2] * 6)
    own = np.concatenate([directions[:6], directions[6:], directions[:6]])
    for i in range(20):
        np.testing.assert_allclose(rays.directions[i], poses[photo[i]][:, :3] @ own[i], atol=1e-6)
        np.testing.assert_array_equal(rays.origins[i], poses[photo[i]][:, 3])
