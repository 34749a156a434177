"""Marching on tensors is the CPU's kernel; splatting is what it says."""

import math

import numpy as np
import pytest
import torch
from gpu_cases import BALL, UNBOUNDED, apart, camera_rays

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.marching import march, splat
from nndl_suite.nerf.kernels import marching
from nndl_suite.nerf.kernels.marching import GRID
from nndl_suite.nerf.sampling import Rays, Reach, place_samples


def _scene(seed: int, device: str = "cpu") -> torch.Tensor:
    """Mostly air, some of it thin, some opaque."""
    rng = np.random.default_rng(seed)
    blocks = np.where(rng.random((16, 16, 16)) < 0.2, rng.exponential(size=(16, 16, 16)) ** 4 * 10, 0.01)
    return torch.from_numpy(blocks.repeat(8, 0).repeat(8, 1).repeat(8, 2).astype(np.float32).ravel()).to(device)


@pytest.mark.parametrize("reach", [UNBOUNDED, BALL, (0.3, 5.0, 1.5, math.inf)])
@pytest.mark.parametrize(("rays", "samples"), [(7, 8), (5, 24), (3, 48)])
def test_edges_are_those_of_the_cpu(rays: int, samples: int, reach: Reach):
    origins, directions = camera_rays(samples, rays)
    if reach is BALL:  # from outside, from within, past the ball, and along an axis
        origins = origins * torch.linspace(0.5, 3, rays)[:, None]
        directions[1] = torch.tensor([0.6, 0.0, 0.8])
        origins[1] = torch.tensor([0.0, 3.0, 0.0])
    grid, jitter = _scene(0), torch.rand(rays, samples + 1, generator=torch.Generator().manual_seed(1))
    edges, points, thickness = march(origins, directions, grid, jitter, reach=reach, uniform=0.1)
    expected = place_samples(
        Rays(origins.numpy(), directions.numpy()), jitter.numpy(), grid=grid.numpy(), reach=reach, uniform=0.1
    )
    np.testing.assert_allclose(edges.numpy(), expected.edges, rtol=3e-4)  # sums of shares in another order
    np.testing.assert_allclose(points.numpy(), expected.points, atol=1e-4)
    np.testing.assert_allclose(thickness.numpy(), expected.thickness, rtol=1e-4, atol=1e-6)
    assert edges.is_contiguous()
    assert points.is_contiguous()


def test_without_knowledge_samples_spread_over_the_whole_ray():
    origins, directions = torch.tensor([[-1.0, 0.01, 0.01]]), torch.tensor([[1.0, 0, 0]])
    edges, points, thickness = march(
        origins, directions, torch.zeros(GRID**3), torch.full((1, 25), 0.5), reach=UNBOUNDED, uniform=0.0
    )
    assert (edges.diff(dim=1) > 0).all()
    assert edges[0, 0] < 0.2
    assert edges[0, -1] > 10
    assert points.min() >= 0
    assert points.max() <= 1
    assert thickness[0] == 0


def _samples_in_cells(seed: int, n: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points in few cells, so that many share one; grid; densities, zero among them."""
    rng = np.random.default_rng(seed)
    points = 0.3 + 0.05 * rng.random((3, n))
    density = rng.exponential(size=n) * (rng.random(n) < 0.8)
    grid = rng.exponential(size=GRID**3)
    return tuple(torch.from_numpy(a.astype(np.float32)).to(device) for a in (points, density, grid))


def test_a_cell_moves_by_the_sum_of_its_samples_moves_but_not_past_their_weighted_mean():
    points, density, grid = _samples_in_cells(0, 700)
    found: dict[int, list[float]] = {}
    for (x, y, z), value in zip(points.T.tolist(), density.tolist(), strict=True):
        cell = (math.floor(z * GRID) * GRID + math.floor(y * GRID)) * GRID + math.floor(x * GRID)
        found.setdefault(cell, []).append(value)
    expected = grid.double()
    for cell, values in found.items():
        old = float(grid[cell])
        parts = [0.5 if value > old else 0.1 for value in values]
        toward = sum(part * value for part, value in zip(parts, values, strict=True))
        expected[cell] = toward / sum(parts) if sum(parts) > 1 else old + toward - sum(parts) * old
    assert 20 < sum(len(values) > 2 for values in found.values()) < len(found)
    splat(points, density, grid, rise=0.5, fall=0.1)
    np.testing.assert_allclose(grid.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


def test_where_no_two_samples_share_a_cell_splatting_is_the_cpus():
    middles = (torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")).reshape(3, -1) * 20 + 3.5) / GRID
    points, density = middles.contiguous(), torch.rand(216, generator=torch.Generator().manual_seed(0)) * 3
    grid = torch.rand(GRID**3, generator=torch.Generator().manual_seed(1)) * 3
    expected = grid.numpy().copy()
    marching.splat(points.numpy(), density.numpy(), expected, np.float32(0.5), np.float32(0.1))
    splat(points, density, grid, rise=0.5, fall=0.1)
    np.testing.assert_allclose(grid.numpy(), expected, rtol=1e-6)


def test_samples_outside_the_cube_move_nothing():
    grid = torch.zeros(GRID**3)
    points = torch.tensor([[-0.01, 0.5, 1.0], [0.5, 1.2, 1.0], [0.5, 0.5, 1.0]])
    splat(points, torch.full((3,), 2.0), grid, rise=0.5, fall=0.1)
    assert grid[-1] == 1
    assert grid.sum() == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("reach", [UNBOUNDED, BALL])
@pytest.mark.parametrize("samples", [8, 24, 48, 96])
def test_on_a_gpu(samples: int, reach: Reach):
    rays = 2**16 // samples + 1
    origins, directions = camera_rays(2, rays, "cuda")
    grid = _scene(3, "cuda")
    jitter = torch.rand(rays, samples + 1, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    found = march(origins, directions, grid, jitter, reach=reach, uniform=0.1)
    expected = plain.march(origins, directions, grid, jitter, reach=reach, uniform=0.1)
    # a bin's middle on the wall of a cell may fall on either side of it, and move its whole ray
    same = ((found[0] - expected[0]).abs() <= 1e-3 * expected[0]).all(dim=1)
    assert same.float().mean() > 0.99
    assert apart(found[2][same], expected[2][same]) < 1e-4
    points = found[1].view(3, rays, samples)[:, same]
    assert apart(points, expected[1].view(3, rays, samples)[:, same]) < 1e-4
    again = march(origins, directions, grid, jitter, reach=reach, uniform=0.1)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_splatting_on_a_gpu():
    points, density, grid = _samples_in_cells(1, 2**16 + 5, "cuda")
    before, expected = grid.clone(), grid.clone()
    plain.splat(points, density, expected, rise=0.5, fall=0.1)
    splat(points, density, grid, rise=0.5, fall=0.1)
    assert apart(grid, expected) < 1e-6
    assert apart(grid, before) > 1e-4
