"""Where to look along a ray, and the density grid that knows, on tensors; see `kernels.marching` for the CPU's."""

from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.gpu.chosen import kernels
from nndl_suite.nerf.sampling import Reach


def march(
    origins: Float32[Tensor, "r 3"],
    directions: Float32[Tensor, "r 3"],
    grid: Float32[Tensor, "g"],
    jitter: Float32[Tensor, "r s+1"],
    *,
    reach: Reach,
    uniform: float,
) -> tuple[Float32[Tensor, "r s+1"], Float32[Tensor, "3 n"], Float32[Tensor, "r"]]:
    """Cut each ray into intervals that are short where the density grid says that light stops.

    Args:
        origins, directions: Field frame; unit directions.
        grid: GRID^3 densities of the cube, x fastest.
        jitter: In [0, 1): where in its own stretch of equal share each edge falls.
        reach: The field's.
        uniform: The part of the samples that is spread evenly whatever the grid says.

    Returns:
        The rising distances that bound the intervals; the intervals' middles in the unit cube, n = r * s, ray after
        ray; the optical depth that the grid sees along each ray, each bin's cut off at `MOST_DEPTH`.
    """
    return kernels("marching", grid).march(origins, directions, grid, jitter, reach=reach, uniform=uniform)


def splat(
    points: Float32[Tensor, "3 n"],
    density: Float32[Tensor, "n"],
    grid: Float32[Tensor, "g"],
    *,
    rise: float,
    fall: float,
) -> None:
    """Move the grid's cells under `points` towards `density`, by the part `rise` upwards, `fall` downwards.

    On the CPU samples move their cell one after the other. Here all look at the cell as it was: it moves by the sum of
    their moves where their parts come to less than 1 together, else to the mean of their densities weighted by parts.
    Where no two samples share a cell, that is the same. Samples outside the cube move none.
    """
    kernels("marching", grid).splat(points, density, grid, rise=rise, fall=fall)
