"""Multi-resolution hash encoding on tensors; see `kernels.hash_grid` for the CPU's."""

from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.gpu.chosen import kernels
from nndl_suite.nerf.kernels.hash_grid import HashLayout


def encode(
    points: Float32[Tensor, "3 n"], table: Float32[Tensor, "rows 2"], layout: HashLayout
) -> Float32[Tensor, "2l n"]:
    """The features of points in the unit cube."""
    return kernels("hash_grid", points).encode(points, table, layout)


def encode_backward(
    points: Float32[Tensor, "3 n"],
    grad_encoding: Float32[Tensor, "2l n"],
    layout: HashLayout,
    grad_table: Float32[Tensor, "rows 2"],
) -> None:
    """Add the gradient with respect to the table to `grad_table`; on CUDA in no fixed order, so to rounding."""
    kernels("hash_grid", points).encode_backward(points, grad_encoding, layout, grad_table)
