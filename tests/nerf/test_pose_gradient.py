"""The gradient with respect to cameras: against autograd, and against the loss of cameras that were really moved."""

import math

import numba
import numpy as np
import pytest
import torch

from nndl_suite.nerf.kernels import reference
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.kernels.hash_grid import encode, hash_layout
from nndl_suite.nerf.kernels.nets import ENCODED, WEIGHTS
from nndl_suite.nerf.kernels.pose_gradient import pose_gradient
from nndl_suite.nerf.kernels.tiles import shade_and_learn

F = np.float32
SAMPLES, RAYS = 24, 2 * TILE // 24
LAYOUT = hash_layout(ENCODED // 2, coarsest=4, finest=64, log2_rows=9)  # direct and hashed levels
BOUNDS = [math.inf, 60.0]


def _double(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float64))


def _rays(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From cameras at distance 1, past the origin, far out."""
    rng = np.random.default_rng(seed)
    origins, aims = rng.normal(size=(RAYS, 3)), 0.3 * rng.normal(size=(RAYS, 3))
    origins /= np.linalg.norm(origins, axis=1, keepdims=True)
    directions = (aims - origins) / np.linalg.norm(aims - origins, axis=1, keepdims=True)
    edges = np.sort(np.exp(rng.uniform(math.log(0.05), math.log(50), (RAYS, SAMPLES + 1))), axis=1)
    return origins.astype(F), directions.astype(F), edges.astype(F)


def _points(rays: tuple[np.ndarray, np.ndarray, np.ndarray], bound: float) -> np.ndarray:
    still = torch.zeros(RAYS, 6, dtype=torch.float64)
    points = reference.points_of_moved_rays(still, *(_double(array) for array in rays), bound)
    return np.ascontiguousarray(points.T.numpy(), F)


def _table(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(LAYOUT.rows, 2)).astype(F)


def _gradient(points, grad_encoding, table, rays, bound, chunks=2) -> np.ndarray:
    out = np.full((RAYS, 6), np.nan, F)
    pose_gradient(points, grad_encoding, table, LAYOUT.cells, LAYOUT.starts, rays, F(bound), chunks, out)
    return out


@pytest.mark.parametrize("bound", BOUNDS)
def test_it_is_the_references(bound: float):
    rays, table = _rays(0), _table(1)
    points = _points(rays, bound)
    grad = np.random.default_rng(2).normal(size=(ENCODED, points.shape[1])).astype(F)
    grad[:, ::5] = 0
    moves = torch.zeros(RAYS, 6, dtype=torch.float64, requires_grad=True)
    moved = reference.points_of_moved_rays(moves, *(_double(array) for array in rays), bound)
    features = reference.encode(moved, _double(table), LAYOUT.cells, LAYOUT.starts)
    (features * _double(grad.T)).sum().backward()
    assert moves.grad is not None
    ours, scale = _gradient(points, grad, table, rays, bound), moves.grad.abs().mean(dim=0)
    np.testing.assert_allclose(ours / scale.numpy(), (moves.grad / scale).numpy(), atol=2e-3)


@pytest.mark.parametrize("bound", BOUNDS)
def test_it_foretells_the_loss_of_cameras_that_move(bound: float):
    """Central differences in float64, edges and directions of view held fast, with part of the rays out of the ball."""
    rays, rng = _rays(3), np.random.default_rng(4)
    table, weights = 0.3 * _table(5), rng.normal(scale=0.15, size=WEIGHTS).astype(F)
    target, gain = rng.random((RAYS, 3), dtype=F), np.ones((RAYS, 3), F)
    points = _points(rays, bound)
    n = points.shape[1]
    assert (np.linalg.norm(rays[0] + rays[2][:, -1:] * rays[1], axis=1) > 5).any()
    encoding, grad_encoding = np.empty((ENCODED, n), F), np.empty((ENCODED, n), F)
    encode(points, table, LAYOUT.cells, LAYOUT.starts, encoding)
    out = (np.empty(n, F), grad_encoding, np.empty((RAYS, 3), F), np.empty((RAYS, 2), F))
    shade_and_learn(
        weights, (encoding, rays[2], rays[1], target, np.zeros_like(target), np.zeros(RAYS, F), gain),
        (True, F(2), F(0), F(1e-6), F(0)), out, np.empty((2, WEIGHTS), F),
    )  # fmt: skip
    ours = _gradient(points, grad_encoding, table, rays, bound)

    origins, directions, edges = (_double(array) for array in rays)

    def losses(moves: torch.Tensor) -> torch.Tensor:
        moved = reference.points_of_moved_rays(moves, origins, directions, edges, bound)
        features = reference.encode(moved, _double(table), LAYOUT.cells, LAYOUT.starts)
        density, rgb = reference.shade(_double(weights), features, directions.repeat_interleave(SAMPLES, dim=0))
        seen = reference.render(density.view(RAYS, -1), rgb.view(RAYS, SAMPLES, 3), edges, None)
        return ((seen - _double(target)) ** 2).mean(dim=1)

    step = 1e-6
    measured = torch.zeros(RAYS, 6, dtype=torch.float64)
    for axis in range(6):
        moves = torch.zeros(RAYS, 6, dtype=torch.float64)
        moves[:, axis] = step
        measured[:, axis] = (losses(moves) - losses(-moves)) / (2 * step)
    scale = measured.abs().mean(dim=0).numpy()
    np.testing.assert_allclose(ours / scale, measured.numpy() / scale, atol=0.02)


def test_neither_threads_nor_chunks_change_anything():
    rays, table = _rays(6), _table(7)
    points = _points(rays, math.inf)
    grad = np.random.default_rng(8).normal(size=(ENCODED, points.shape[1])).astype(F)
    before = numba.get_num_threads()
    found: list[np.ndarray] = []
    for threads, chunks in ((1, 1), (min(2, numba.config.NUMBA_NUM_THREADS), 3)):
        numba.set_num_threads(threads)
        found.append(_gradient(points, grad, table, rays, math.inf, chunks))
    numba.set_num_threads(before)
    np.testing.assert_array_equal(*found)
