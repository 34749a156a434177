"""Hash encoding on tensors against its formula in float64, and on a GPU against plain torch in float64."""

import numpy as np
import pytest
import torch
from gpu_cases import BIG, LAYOUT, apart, grid_case

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.hash_grid import encode, encode_backward
from nndl_suite.nerf.kernels import hash_grid, reference


@pytest.mark.parametrize("n", [2, 300, 513])
def test_encoding_is_the_reference(n: int):
    points, table, _, _ = grid_case(n, n)
    expected = reference.encode(points.T.double(), table.double(), LAYOUT.cells, LAYOUT.starts)
    assert apart(encode(points, table, LAYOUT), expected.T) < 1e-5


def test_encoding_is_the_cpu_kernels():
    points, table, _, _ = grid_case(1, 200)
    expected = np.empty((32, 200), np.float32)
    hash_grid.encode(points.numpy(), table.numpy(), LAYOUT.cells, LAYOUT.starts, expected)
    assert apart(encode(points, table, LAYOUT), torch.from_numpy(expected)) < 1e-6


@pytest.mark.parametrize("n", [40, 300])
def test_backward_adds_the_references_gradient(n: int):
    points, table, grad, grad_table = grid_case(n, n)
    exact = table.double().requires_grad_()
    features = reference.encode(points.T.double(), exact, LAYOUT.cells, LAYOUT.starts)
    (features * grad.T.double()).sum().backward()
    assert exact.grad is not None
    encode_backward(points, grad, LAYOUT, grad_table)
    assert apart(grad_table, exact.grad) < 1e-5
    encode_backward(points, grad, LAYOUT, grad_table)
    assert apart(grad_table, 2 * exact.grad) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("n", [2**16, 2**16 + 77])
def test_on_a_gpu(n: int):
    points, table, grad, grad_table = grid_case(3, n, BIG, "cuda")
    exact = torch.zeros_like(grad_table, dtype=torch.float64)
    plain.encode_backward(points.double(), grad.double(), BIG, exact)
    encode_backward(points, grad, BIG, grad_table)
    assert apart(grad_table, exact) < 1e-4  # float32 places points in cells of 1 / 2048 to 1e-4 of a cell
    assert apart(encode(points, table, BIG), plain.encode(points.double(), table.double(), BIG)) < 1e-4
    assert apart(encode(points, table, BIG), plain.encode(points, table, BIG)) < 5e-5  # fused products
