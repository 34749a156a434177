"""The gradient with respect to cameras on tensors, against autograd on cameras that move."""

import math

import numpy as np
import pytest
import torch
from gpu_cases import BIG, LAYOUT, apart, camera_rays

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.pose_gradient import pose_gradient
from nndl_suite.nerf.kernels import pose_gradient as on_cpu
from nndl_suite.nerf.kernels import reference

BOUNDS = [math.inf, 60.0]


def _case(seed: int, rays: int, samples: int, bound: float, device: str = "cpu") -> tuple[torch.Tensor, ...]:
    origins, directions = camera_rays(seed, rays)
    rng = np.random.default_rng(seed)
    edges = np.sort(np.exp(rng.uniform(math.log(0.05), math.log(50), (rays, samples + 1))), axis=1)
    edges = torch.from_numpy(edges.astype(np.float32))
    still = torch.zeros(rays, 6, dtype=torch.float64)
    points = reference.points_of_moved_rays(still, origins.double(), directions.double(), edges.double(), bound)
    points = points.T.float().contiguous()
    grad = torch.from_numpy(rng.normal(size=(32, points.shape[1])).astype(np.float32))
    grad[:, ::5] = 0
    return tuple(tensor.to(device) for tensor in (points, grad, origins, directions, edges))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("rays", "samples"), [(9, 8), (5, 24), (2, 48)])
def test_it_is_the_references(rays: int, samples: int, bound: float):
    points, grad, *rest = _case(rays, rays, samples, bound)
    table = torch.from_numpy(np.random.default_rng(1).normal(size=(LAYOUT.rows, 2)).astype(np.float32))
    moves = torch.zeros(rays, 6, dtype=torch.float64, requires_grad=True)
    moved = reference.points_of_moved_rays(moves, *(tensor.double() for tensor in rest), bound)
    features = reference.encode(moved, table.double(), LAYOUT.cells, LAYOUT.starts)
    (features * grad.T.double()).sum().backward()
    assert moves.grad is not None
    ours = pose_gradient(points, grad, table, LAYOUT, *rest, bound=bound)
    assert apart(ours[:, :3], moves.grad[:, :3]) < 1e-4  # float32 points lie to 1e-5 of a cell
    assert apart(ours[:, 3:], moves.grad[:, 3:]) < 1e-4
    expected = np.empty((rays, 6), np.float32)
    on_cpu.pose_gradient(
        points.numpy(), grad.numpy(), table.numpy(), LAYOUT.cells, LAYOUT.starts,
        tuple(tensor.numpy() for tensor in rest), np.float32(bound), 2, expected,
    )  # fmt: skip
    assert apart(ours, torch.from_numpy(expected)) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("samples", [24, 48])
def test_on_a_gpu(samples: int, bound: float):
    points, grad, *rest = _case(3, 2**16 // samples + 1, samples, bound, "cuda")
    table = torch.randn(BIG.rows, 2, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    ours = pose_gradient(points, grad, table, BIG, *rest, bound=bound)
    assert apart(ours, plain.pose_gradient(points, grad, table, BIG, *rest, bound=bound)) < 1e-4
    again = pose_gradient(points, grad, table, BIG, *rest, bound=bound)
    assert torch.equal(ours, again)
