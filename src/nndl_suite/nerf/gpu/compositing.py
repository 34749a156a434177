"""Volume rendering of rays for pictures, on tensors; see `kernels.composite` for the CPU's."""

from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.gpu.chosen import kernels


def composite(
    density: Float32[Tensor, "n"],
    rgb: Float32[Tensor, "n 3"],
    edges: Float32[Tensor, "r s+1"],
    *,
    background: Float32[Tensor, "3"] | None,
) -> tuple[Float32[Tensor, "r 3"], Float32[Tensor, "r"], Float32[Tensor, "r"]]:
    """Render rays, each of s consecutive samples.

    Args:
        density, rgb: Of the samples.
        edges: Distances.
        background: Behind all samples; None: the last sample takes all the light that is left.

    Returns:
        Colours; the distance at which half the light is stopped, or the last edge; the share of light that the
        samples stop.
    """
    return kernels("rays", density).composite(density, rgb, edges, background=background)
