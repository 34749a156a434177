"""Pictures of fields whose look is known."""

import math

import numpy as np
import pytest

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.field import Field, FieldSettings, new_field
from nndl_suite.nerf.kernels.marching import GRID
from nndl_suite.nerf.kernels.nets import START_LOG_DENSITY, WEIGHTS
from nndl_suite.nerf.rendering import render_rays, render_view
from nndl_suite.nerf.sampling import Rays

F = np.float32
DENSITY = math.exp(START_LOG_DENSITY)


def _fog(background: tuple[float, float, float] | None) -> Field:
    """One density and mid-grey everywhere: all weights are zero, and sigmoid(0) = 0.5."""
    field = new_field(FieldSettings(log2_rows=8, finest=64, far=3.0, background=background), seed=0)
    assert field.weights.shape == (WEIGHTS,)
    field.weights[:] = 0
    field.grid[:] = 1e-2  # evenly a little, or rays would be taken to meet nothing
    return field


def _rays(count: int) -> Rays:
    toward = np.random.default_rng(0).normal(size=(count, 3))
    return Rays(np.zeros((count, 3), F), (toward / np.linalg.norm(toward, axis=1, keepdims=True)).astype(F))


@pytest.mark.parametrize("samples", [16, 32, 96])
def test_even_fog_obeys_beer_lambert_before_a_background(samples: int):
    seen = render_rays(_fog((1.0, 0.0, 0.0)), _rays(10), samples=samples)
    # without knowledge, samples cover the ray from near to far but for half a stretch at either end
    np.testing.assert_allclose(seen.opacity, 1 - np.exp(-2.95 * DENSITY), atol=0.06)
    np.testing.assert_allclose(seen.rgb[:, 0], 0.5 * seen.opacity + (1 - seen.opacity), atol=1e-5)
    np.testing.assert_allclose(seen.rgb[:, 1], 0.5 * seen.opacity, atol=1e-5)
    half = 0.05 + np.log(2) / DENSITY
    np.testing.assert_allclose(seen.depth, half if half < 3 else seen.depth, atol=0.12)


def test_where_the_scene_goes_on_the_last_sample_takes_the_rest():
    seen = render_rays(_fog(None), _rays(10))
    np.testing.assert_allclose(seen.rgb, 0.5, atol=1e-5)
    assert seen.opacity.max() < 0.97


def test_rays_that_meet_nothing_show_the_background():
    field = _fog((0.2, 0.4, 0.6))
    field.grid[:] = 0
    field.grid.reshape(GRID, GRID, GRID)[: GRID // 2] = 1.0  # the grid knows the half below z = 0
    rays = _rays(400)
    seen = render_rays(field, rays)
    below, above = rays.directions[:, 2] < -0.05, rays.directions[:, 2] > 0.05
    np.testing.assert_array_equal(seen.rgb[above], np.tile(np.array([0.2, 0.4, 0.6], F), (above.sum(), 1)))
    np.testing.assert_array_equal(seen.opacity[above], 0)
    assert seen.opacity[below].min() > 0.3
    alone = render_rays(field, Rays(rays.origins[below][:1], rays.directions[below][:1]))
    np.testing.assert_allclose(alone.rgb[0], seen.rgb[below][0], atol=1e-6)


def test_a_view_is_its_rays():
    field = new_field(FieldSettings(log2_rows=8, finest=64), seed=0)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(7, 5, 3))
    directions = (directions / np.linalg.norm(directions, axis=2, keepdims=True)).astype(F)
    pose = np.concatenate([np.linalg.qr(rng.normal(size=(3, 3)))[0], [[0.1], [0.2], [0.3]]], axis=1).astype(F)
    view = render_view(field, directions, pose)
    assert view.rgb.shape == (7, 5, 3)
    assert view.depth.shape == view.opacity.shape == (7, 5)
    ray = Rays(pose[None, :, 3].copy(), (pose[:, :3] @ directions[4, 2])[None])
    alone = render_rays(field, ray)
    np.testing.assert_allclose(view.rgb[4, 2], alone.rgb[0], atol=1e-5)
    np.testing.assert_allclose(view.depth[4, 2], alone.depth[0], rtol=1e-4)


def test_numbers_of_samples_that_do_not_fit_a_tile_are_refused():
    with pytest.raises(ConfigError, match="one of 8, 12, 16, 24, 32, 48, 96, got 20"):
        render_rays(_fog(None), _rays(1), samples=20)
