# ruff: noqa: PLR0913
# A kernel takes what it reads, tensor by tensor.
"""How the loss changes with the cameras, on tensors; see `kernels.pose_gradient` for the CPU's."""

from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.gpu.chosen import kernels
from nndl_suite.nerf.kernels.hash_grid import HashLayout


def pose_gradient(
    points: Float32[Tensor, "3 n"],
    grad_encoding: Float32[Tensor, "2l n"],
    table: Float32[Tensor, "rows 2"],
    layout: HashLayout,
    origins: Float32[Tensor, "r 3"],
    directions: Float32[Tensor, "r 3"],
    edges: Float32[Tensor, "r s+1"],
    *,
    bound: float,
) -> Float32[Tensor, "r 6"]:
    """The gradient of a loss with respect to a shift of each ray's origin, and a turn of the ray about it.

    Args:
        points: In the unit cube, from `march`.
        grad_encoding: From `shade_and_learn`.
        table, layout: As `encode` takes them.
        origins, directions, edges: As `march` took and gave them.
        bound: The radius that bounds the field, or infinity.

    Returns:
        Shift (x, y, z, field units), then turn (axis times angle in radians, the field's axes).
    """
    return kernels("pose_gradient", points).pose_gradient(
        points, grad_encoding, table, layout, origins, directions, edges, bound=bound
    )
