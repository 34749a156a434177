"""Each kernel against its formula in float64 (`kernels.reference`), gradients too."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.nerf.kernels import reference
from nndl_suite.nerf.kernels.adam import adam_touched
from nndl_suite.nerf.kernels.composite import composite, distortion, ray_weights, ray_weights_backward
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.kernels.hash_grid import encode, encode_backward_adam, hash_layout
from nndl_suite.nerf.kernels.marching import BINS, GRID, march, splat
from nndl_suite.nerf.kernels.nets import ENCODED, WEIGHTS, harmonics
from nndl_suite.nerf.kernels.tiles import shade, shade_and_learn

F = np.float32
seeds = st.integers(0, 2**31)


def _double(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float64)).requires_grad_()


# hash grid


@given(seeds, st.integers(1, 300), st.sampled_from([8, 11]))
def test_encoding_is_the_reference(seed: int, n: int, log2_rows: int):
    rng = np.random.default_rng(seed)
    layout = hash_layout(5, coarsest=4, finest=97, log2_rows=log2_rows)
    points, table = rng.random((3, n), dtype=F), rng.normal(size=(layout.rows, 2)).astype(F)
    out = np.empty((10, n), F)
    encode(points, table, layout.cells, layout.starts, out)
    expected = reference.encode(_double(points.T), _double(table), layout.cells, layout.starts)
    np.testing.assert_allclose(out.T, expected.detach(), atol=5e-5)


def test_encoding_backward_is_the_reference():
    rng = np.random.default_rng(1)
    layout = hash_layout(5, coarsest=4, finest=97, log2_rows=9)
    n = 500
    points, grad_out = rng.random((3, n), dtype=F), rng.normal(size=(10, n)).astype(F)
    grad_out[:, ::7] = 0
    table = np.zeros((layout.rows, 2), F)
    grad_table, first, second = np.zeros_like(table), np.zeros_like(table), np.zeros_like(table)
    encode_backward_adam(
        points, grad_out, layout.cells, layout.starts, grad_table, table, first, second, F(0), F(0), 0
    )  # fmt: skip
    wanted = _double(table)
    features = reference.encode(_double(points.T), wanted, layout.cells, layout.starts)
    (features * torch.from_numpy(grad_out.T.astype(np.float64))).sum().backward()
    np.testing.assert_allclose(grad_table, wanted.grad, atol=1e-4)


def test_one_pass_of_backward_and_adam_is_one_after_the_other():
    rng = np.random.default_rng(2)
    layout = hash_layout(5, coarsest=4, finest=97, log2_rows=9)
    points, grad_out = rng.random((3, 50), dtype=F), rng.normal(size=(10, 50)).astype(F)
    table = rng.normal(size=(layout.rows, 2)).astype(F)

    def run(rate: float) -> list[np.ndarray]:
        arrays = [np.zeros_like(table), table.copy(), np.zeros_like(table), np.zeros_like(table)]
        encode_backward_adam(points, grad_out, layout.cells, layout.starts, *arrays, F(rate), F(0.1), 3)
        return arrays

    grad, values, first, second = run(0)
    np.testing.assert_array_equal(values, table)
    adam_touched(*(a.reshape(-1) for a in (values, grad, first, second)), F(0.01), F(0.1), 3)
    for ours, expected in zip(run(0.01), (grad, values, first, second), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert not grad.any()


def test_coarse_levels_have_a_row_for_every_vertex():
    layout = hash_layout(16, coarsest=16, finest=2048, log2_rows=17)
    assert layout.cells[0] == 16
    assert layout.cells[-1] == 2048
    assert np.diff(layout.starts)[0] == 17**3
    assert np.diff(layout.starts).max() == 2**17


# Adam


def test_adam_is_torchs_on_touched_entries_and_nothing_on_others():
    rng = np.random.default_rng(0)
    start = rng.normal(size=40).astype(F)
    values, first, second = start.copy(), np.zeros(40, F), np.zeros(40, F)
    ours = torch.from_numpy(start[:20].astype(np.float64)).requires_grad_()
    optimiser = torch.optim.Adam([ours], lr=0.01, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.2)
    for step in range(5):
        grads = np.concatenate([rng.normal(size=20), np.zeros(20)]).astype(F)
        ours.grad = torch.from_numpy(grads[:20].astype(np.float64))
        optimiser.step()
        adam_touched(values, grads, first, second, F(0.01), F(0.2), step)
        assert not grads.any()
    np.testing.assert_allclose(values[:20], ours.detach(), rtol=1e-5)
    np.testing.assert_array_equal(values[20:], start[20:])
    assert not first[20:].any()


# volume rendering


def _fog(rng: np.random.Generator, rays: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.cumsum(rng.random((rays, samples + 1)) + 0.01, axis=1).astype(F)
    return rng.exponential(size=(rays, samples)).astype(F), edges


@given(seeds, st.integers(1, 60))
def test_weights_and_transmittance_sum_to_one(seed: int, samples: int):
    density, edges = _fog(np.random.default_rng(seed), 1, samples)
    weights = np.empty(samples, F)
    left_over = ray_weights(density[0], edges[0], weights)
    assert weights.min() >= 0
    assert weights.sum() + left_over == pytest.approx(1, abs=1e-5)
    expected, behind = reference.ray_weights(_double(density), _double(edges))
    np.testing.assert_allclose(weights, expected.detach()[0], atol=1e-5)
    assert left_over == pytest.approx(float(behind.detach()), abs=1e-5)


@given(seeds, st.integers(1, 40), st.floats(0.01, 5))
def test_even_fog_obeys_beer_lambert_however_it_is_cut(seed: int, samples: int, density: float):
    inner = np.sort(np.random.default_rng(seed).random(samples - 1))
    edges = np.concatenate([[0], inner, [1]]).astype(F)
    left_over = ray_weights(np.full(samples, density, F), edges, np.empty(samples, F))
    assert left_over == pytest.approx(math.exp(-density), rel=1e-4)


@given(seeds, st.integers(1, 40))
def test_gradients_of_weights_and_distortion_are_the_references(seed: int, samples: int):
    rng = np.random.default_rng(seed)
    density, edges = _fog(rng, 1, samples)
    wanted_weights, wanted_left_over = rng.normal(size=samples).astype(F), F(rng.normal())
    weights, grad_weights, grad_density = np.empty(samples, F), wanted_weights.copy(), np.empty(samples, F)
    left_over = ray_weights(density[0], edges[0], weights)
    loss = distortion(weights, edges[0], grad_weights, F(0.3))
    ray_weights_backward(density[0], edges[0], weights, left_over, grad_weights, wanted_left_over, grad_density)

    sigma = _double(density)
    exact, behind = reference.ray_weights(sigma, _double(edges))
    spread = reference.distortion(exact, _double(edges))
    ((exact * _double(wanted_weights)).sum() + behind.sum() * float(wanted_left_over) + 0.3 * spread.sum()).backward()
    assert loss == pytest.approx(float(spread.detach()), rel=1e-3, abs=1e-4)
    np.testing.assert_allclose(grad_density, sigma.grad[0], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("open_end", [True, False])
def test_composite_is_the_reference(open_end: bool):
    rng = np.random.default_rng(3)
    density, edges = _fog(rng, 20, 8)
    rgb, background = rng.random((20, 8, 3)).astype(F), np.array([0.1, 0.5, 0.9], F)
    seen, depth, opacity = np.empty((20, 3), F), np.empty(20, F), np.empty(20, F)
    composite(density.ravel(), rgb.reshape(-1, 3), edges, open_end, background, seen, depth, opacity)
    behind = None if open_end else _double(background).expand(20, 3)
    expected = reference.render(_double(density), _double(rgb), _double(edges), behind)
    np.testing.assert_allclose(seen, expected.detach(), atol=1e-5)


def test_depth_is_where_half_the_light_is_stopped():
    edges = np.array([[1, 2, 3, 4]], F)
    rgb, seen, depth, opacity = np.zeros((3, 3), F), np.empty((1, 3), F), np.empty(1, F), np.empty(1, F)
    for density, expected in (((0, 1e4, 0), 2.0), ((0, 0, 0), 4.0), ((0.8, 0, 0), None)):
        composite(np.array(density, F), rgb, edges, True, np.zeros(3, F), seen, depth, opacity)
        if expected is None:
            assert 1.8 < depth[0] < 2
        else:
            assert depth[0] == pytest.approx(expected, abs=0.51 if density[1] else 1e-6)
        assert opacity[0] == pytest.approx(1 - math.exp(-sum(density)), abs=1e-6)


# the nets


def test_harmonics_are_the_reference_and_orthonormal():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20_000, 3))
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(F)
    out = np.empty((len(directions), 16), F)
    for direction, row in zip(directions, out, strict=True):
        harmonics(direction, row)
    np.testing.assert_allclose(out, reference.harmonics(_double(directions)).detach(), atol=1e-5)
    gram = 4 * math.pi * (out.T @ out) / len(out)
    np.testing.assert_allclose(gram, np.eye(16), atol=0.06)


def _random_net(rng: np.random.Generator, rays: int, samples: int) -> dict[str, np.ndarray]:
    directions = rng.normal(size=(rays, 3))
    return {
        "weights": (rng.normal(size=WEIGHTS) * 0.25).astype(F),
        "encoding": rng.normal(size=(ENCODED, rays * samples)).astype(F),
        "directions": (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(F),
    }


@pytest.mark.parametrize(("rays", "samples"), [(8, 24), (5, 48), (1, 1), (97, 1), (200, 1)])
def test_shading_is_the_reference(rays: int, samples: int):
    net = _random_net(np.random.default_rng(rays), rays, samples)
    density, rgb = np.empty(rays * samples, F), np.empty((rays * samples, 3), F)
    shade(net["weights"], net["encoding"], net["directions"], 3, density, rgb)
    toward = _double(np.repeat(net["directions"], samples, axis=0))
    expected, colours = reference.shade(_double(net["weights"]), _double(net["encoding"].T), toward)
    np.testing.assert_allclose(density, expected.detach(), rtol=1e-4)
    np.testing.assert_allclose(rgb, colours.detach(), atol=1e-5)


@pytest.mark.parametrize("open_end", [True, False])
@pytest.mark.parametrize("samples", [24, 48])
def test_learning_follows_the_references_gradient(open_end: bool, samples: int):
    rng = np.random.default_rng(4)
    rays = 3 * TILE // samples
    net = _random_net(rng, rays, samples)
    edges = np.sort(rng.random((rays, samples + 1)) * 4 + 0.05, axis=1).astype(F)
    target, background = rng.random((rays, 3)).astype(F), rng.random((rays, 3)).astype(F)
    gain, through = np.exp(rng.normal(size=(rays, 3)) * 0.2).astype(F), rng.random(rays).astype(F)
    density, grad_encoding = np.empty(rays * samples, F), np.empty((ENCODED, rays * samples), F)
    gain_grad, losses, grad_weights = np.empty((rays, 3), F), np.empty((rays, 2), F), np.empty((2, WEIGHTS), F)
    shade_and_learn(
        net["weights"],
        (net["encoding"], edges, net["directions"], target, background, through, gain),
        (open_end, F(2), F(0.1), F(1e-6), F(9)),
        (density, grad_encoding, gain_grad, losses),
        grad_weights,
    )

    weights, encoding, log_gain = _double(net["weights"]), _double(net["encoding"]), _double(np.log(gain))
    toward = _double(np.repeat(net["directions"], samples, axis=0))
    sigma, rgb = reference.shade(weights, encoding.T, toward)
    sigma, rgb = sigma.view(rays, samples), rgb.view(rays, samples, 3)
    seen = reference.render(sigma, rgb, _double(edges), None if open_end else _double(background))
    error = (seen * log_gain.exp() - _double(target)).square().mean(dim=1)
    if not open_end:
        passed = reference.ray_weights(sigma, _double(edges))[1]
        error = error + (passed - _double(through)).square() / 12
    places = reference.place_of(_double(edges), 2.0)
    spread = reference.distortion(reference.ray_weights(sigma, _double(edges))[0], places)
    (error + 0.1 * spread).sum().backward()
    np.testing.assert_allclose(losses[:, 0], error.detach(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(losses[:, 1], spread.detach(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(density, sigma.detach().ravel(), rtol=1e-4)
    np.testing.assert_allclose(gain_grad, log_gain.grad, rtol=1e-3, atol=1e-5)
    for ours, exact in ((grad_weights.sum(axis=0), weights.grad), (grad_encoding, encoding.grad)):
        np.testing.assert_allclose(ours, exact, rtol=2e-3, atol=2e-4 * float(exact.abs().max()))


def test_the_number_of_chunks_changes_no_sample():
    rng = np.random.default_rng(5)
    net = _random_net(rng, 8, 24)
    found: list[np.ndarray] = []
    for chunks in (1, 5):
        density, rgb = np.empty(192, F), np.empty((192, 3), F)
        shade(net["weights"], net["encoding"], net["directions"], chunks, density, rgb)
        found.append(density)
    np.testing.assert_array_equal(*found)


def test_samples_close_to_the_camera_learn_more_slowly():
    rng = np.random.default_rng(6)
    net = _random_net(rng, 4, 24)
    edges = np.linspace(0.1, 0.2, 25, dtype=F)[None].repeat(4, axis=0)

    def gradient(close: float) -> np.ndarray:
        arrays = (np.empty(96, F), np.empty((ENCODED, 96), F), np.empty((4, 3), F), np.empty((4, 2), F))
        nothing, gain = np.zeros((4, 3), F), np.ones((4, 3), F)
        rays = (net["encoding"], edges, net["directions"], nothing, nothing, np.zeros(4, F), gain)
        shade_and_learn(net["weights"], rays, (True, F(2), F(0), F(close), F(0)), arrays, np.empty((1, WEIGHTS), F))
        return arrays[1]

    middles = (edges[0, 1:] + edges[0, :-1]) / 2
    slowed = np.tile(middles**2, 4)
    np.testing.assert_allclose(gradient(1.0), gradient(0.01) * slowed, rtol=2e-3, atol=1e-8)


def test_light_stopped_close_to_the_camera_costs_what_is_said():
    rng = np.random.default_rng(7)
    net = _random_net(rng, 4, 24)
    edges = np.linspace(0.3, 1.7, 25, dtype=F)[None].repeat(4, axis=0)
    target, gain = rng.random((4, 3)).astype(F), np.ones((4, 3), F)
    found = (np.empty(96, F), np.empty((ENCODED, 96), F), np.empty((4, 3), F), np.empty((4, 2), F))
    rays = (net["encoding"], edges, net["directions"], target, np.zeros_like(target), np.zeros(4, F), gain)
    shade_and_learn(net["weights"], rays, (True, F(2), F(0), F(1), F(0.7)), found, np.empty((1, WEIGHTS), F))

    encoding, far = _double(net["encoding"]), _double(edges)
    toward = _double(np.repeat(net["directions"], 24, axis=0))
    sigma, rgb = reference.shade(_double(net["weights"]), encoding.T, toward)
    sigma, rgb = sigma.view(4, 24), rgb.view(4, 24, 3)
    error = (reference.render(sigma, rgb, far, None) - _double(target)).square().mean(dim=1)
    middles = (far[:, 1:] + far[:, :-1]) / 2
    fog = (reference.ray_weights(sigma, far)[0] * (1 - middles).clamp_min(0)).sum(dim=1)
    (error + 0.7 * fog).sum().backward()
    slowed = middles.detach().clamp_max(1).square().ravel()
    expected = encoding.grad * slowed
    np.testing.assert_allclose(found[1], expected, rtol=2e-3, atol=2e-4 * float(expected.abs().max()))


# marching


def _march(
    grid: np.ndarray, *, samples: int = 24, uniform: float = 0.0, bound: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    origins, directions = np.array([[-1, 0.01, 0.01]], F), np.array([[1, 0, 0]], F)
    edges, points = np.empty((1, samples + 1), F), np.empty((3, samples), F)
    jitter = np.full((1, samples + 1), 0.5, F)
    march(
        origins, directions, grid, jitter, (F(0.05), F(100), F(2), F(bound)), F(uniform), edges, points, np.empty(1, F)
    )
    return edges, points


def test_without_knowledge_samples_spread_over_the_whole_ray():
    edges, points = _march(np.zeros(GRID**3, F))
    assert np.all(np.diff(edges) > 0)
    assert edges[0, 0] < 0.2
    assert edges[0, -1] > 10
    assert points.min() >= 0
    assert points.max() <= 1


def test_samples_gather_where_the_grid_says_that_light_stops():
    grid = np.zeros((GRID, GRID, GRID), F)  # z, y, x
    grid[:, :, GRID // 2 + 3 :] = 500  # a wall from x = 3 * 4 / 128
    edges, _ = _march(grid.ravel())
    wall = 1 + 3 * 4 / GRID
    inside = np.abs(edges - wall) < 3 * 4 / BINS
    assert inside.mean() > 0.7


def test_a_silhouette_leaves_samples_for_what_lies_behind():
    grid = np.zeros((GRID, GRID, GRID), F)
    grid[:, :, GRID // 2 + 3] = 1e4  # one opaque sheet of cells
    grid[:, :, GRID - 20 :] = 1e4  # and a wall far behind it
    edges, _ = _march(grid.ravel(), samples=48)
    sheet = 1 + 3.5 * 4 / GRID
    assert np.mean(np.abs(edges - sheet) < 0.15) > 0.4
    assert np.mean(edges > sheet + 0.2) > 0.1


def test_a_bin_beside_what_the_grid_knows_gets_samples_too():
    grid = np.zeros((GRID, GRID, GRID), F)
    grid[:, :, GRID // 2 + 3 :] = 500
    edges, _ = _march(grid.ravel(), samples=48)
    wall = 1 + 3 * 4 / GRID
    assert np.any((edges > wall - 4 / BINS) & (edges < wall - 0.2 / BINS))


def test_in_a_ball_samples_keep_to_it_and_fill_the_cube():
    grid = np.zeros(GRID**3, F)
    origins, directions = np.array([[-3, 0, 0.5], [-3, 0, 2.5], [0.2, 0, 0]], F), np.array([[1, 0, 0]] * 3, F)
    edges, points, thickness = np.empty((3, 25), F), np.empty((3, 72), F), np.empty(3, F)
    reach = (F(0.05), F(100), F(100), F(2))
    march(origins, directions, grid, np.full((3, 25), 0.5, F), reach, F(0.1), edges, points, thickness)
    half = math.sqrt(2**2 - 0.5**2)
    assert 3 - half < edges[0].min() < edges[0].max() < 3 + half
    assert np.ptp(edges[0]) > 1.8 * half
    assert np.ptp(edges[1]) == 0  # this ray passes the ball by
    assert 0.05 <= edges[2].min() < edges[2].max() < 1.8  # and this one starts inside
    x = -3 + (edges[0, 1:] + edges[0, :-1]) / 2
    np.testing.assert_allclose(points[:, :24], [0.5 + x / 4, np.full(24, 0.5), np.full(24, 0.625)], atol=1e-6)
    assert not thickness.any()


def test_thickness_is_what_the_grid_sees():
    grid = np.full(GRID**3, 0.3, F)
    edges, points, thickness = np.empty((1, 25), F), np.empty((3, 24), F), np.empty(1, F)
    rays = np.array([[-3, 0, 0]], F), np.array([[1, 0, 0]], F)
    reach = (F(0.05), F(100), F(100), F(1))
    march(*rays, grid, np.full((1, 25), 0.5, F), reach, F(0.1), edges, points, thickness)
    assert thickness[0] == pytest.approx(0.3 * 2, rel=1e-3)


def test_splatting_rises_fast_and_falls_slowly():
    grid = np.zeros(GRID**3, F)
    points = np.full((3, 1), 0.3, F)
    splat(points, np.array([8], F), grid, F(0.5), F(0.1))
    assert grid.max() == 4
    splat(points, np.array([0], F), grid, F(0.5), F(0.1))
    assert grid.max() == pytest.approx(3.6)
    assert np.count_nonzero(grid) == 1
