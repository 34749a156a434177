# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Where to look along a ray: bins read from the density grid, samples drawn where they say that light stops."""

import numpy as np
from numba import njit, prange

GRID = 128
"""Cells along each axis of the density grid, which spans the cube (see `contract`)."""
BINS = 128
"""Coarse bins along a ray."""
MOST_DEPTH = np.float32(0.5)
"""What a bin may count for, in optical depth. A cell that a silhouette cuts is opaque to the grid, yet rays pass
through the empty part of it, and some samples must go on to what lies behind. Inside a solid, a few bins together stop
the rest."""
_EXACT = {"contract", "nsz"}
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


@njit(cache=True, inline="always")
def contract(x, y, z, bound):
    """A point's place in the unit cube.

    Where `bound` is infinite, all of space goes into the ball of radius 2 (Mip-NeRF 360, arXiv 2111.12077, eq. 10),
    and that fills the cube. Otherwise the ball of radius `bound` fills it, and nothing is bent.
    """
    if bound < np.inf:
        factor = _HALF / bound
    else:
        norm = np.sqrt(x * x + y * y + z * z)
        factor = np.float32(0.25) * (_ONE if norm <= _ONE else (_TWO - _ONE / norm) / norm)
    return _HALF + factor * x, _HALF + factor * y, _HALF + factor * z


@njit(cache=True, inline="always")
def inside_ball(origin, direction, near, far, bound):
    """The stretch of a ray between `near` and `far` that lies in the ball of radius `bound`; of no length outside."""
    if bound == np.inf:
        return near, far
    along = -(origin[0] * direction[0] + origin[1] * direction[1] + origin[2] * direction[2])
    square = origin[0] * origin[0] + origin[1] * origin[1] + origin[2] * origin[2]
    depth = along * along - square + bound * bound
    if depth <= np.float32(0):
        return near, near
    half = np.sqrt(depth)
    first, last = max(near, along - half), min(far, along + half)
    return first, max(first, last)


@njit(cache=True, inline="always")
def place_of(distance, knee):
    """A ray's distances onto [0, 1): linear up to the knee, which lies at 0.5, then linear in 1 / distance."""
    return _HALF * distance / knee if distance < knee else _ONE - _HALF * knee / distance


@njit(cache=True, inline="always")
def distance_at(place, knee):
    """The inverse of `place_of`."""
    return _TWO * place * knee if place < _HALF else _HALF * knee / (_ONE - place)


@njit(cache=True, inline="always")
def grid_cell(x, y, z):
    """The density grid's flat cell that holds a point of the unit cube."""
    n = np.float32(GRID)
    last = np.uint32(GRID - 1)
    i = min(np.uint32(x * n), last)
    j = min(np.uint32(y * n), last)
    k = min(np.uint32(z * n), last)
    return np.uint32((k * np.uint32(GRID) + j) * np.uint32(GRID) + i)


@njit(cache=True, fastmath=_EXACT, error_model="numpy")
def _bin_shares(origin, direction, grid, first, width, knee, bound, uniform, shares):
    """Fill `shares` with the part of the samples that each bin of one ray gets; they sum to 1.

    Returns the optical depth of all bins together.
    """
    left = distance_at(first, knee)
    for b in range(BINS):  # optical depths first: this loop has no order, and runs in vector registers
        right = distance_at(first + width * np.float32(b + 1), knee)
        middle = _HALF * (left + right)
        x, y, z = contract(
            origin[0] + middle * direction[0],
            origin[1] + middle * direction[1],
            origin[2] + middle * direction[2],
            bound,
        )
        shares[b] = min(grid[grid_cell(x, y, z)] * (right - left), MOST_DEPTH)
        left = right
    transmittance, whole = _ONE, np.float32(0)
    for b in range(BINS):
        depth = shares[b]
        whole += depth
        # exp(-depth) to 1.5 % for depths up to MOST_DEPTH, which is near enough for a guess
        passed = transmittance / (_ONE + depth * (_ONE + _HALF * depth))
        shares[b] = transmittance - passed
        transmittance = passed
    # a surface may lie just outside the bin that holds most of it: each bin takes the largest of itself and its
    # neighbours
    total = np.float32(0)
    before = shares[0]
    for b in range(BINS):
        here = shares[b]
        after = shares[b + 1] if b + 1 < BINS else here
        shares[b] = max(before, here, after)
        total += shares[b]
        before = here
    floor = np.float32(1e-3)  # where the grid sees nothing at all, samples spread evenly
    scale = (_ONE - uniform) / (total + floor)
    rest = (uniform + floor * scale) / np.float32(BINS)
    for b in range(BINS):
        shares[b] = shares[b] * scale + rest
    return whole


@njit(cache=True, fastmath=_EXACT, error_model="numpy")
def march_ray(origin, direction, grid, jitter, reach, uniform, shares, edges, points):
    """`march` for one ray: `jitter` and `edges` are [s+1], `points` [3, s]; `shares` [BINS] is scratch.

    Returns what `march` writes to `thickness`.
    """
    near, far, knee, bound = reach
    samples = edges.shape[0] - 1
    start, end = inside_ball(origin, direction, near, far, bound)
    first = place_of(start, knee)
    width = (place_of(end, knee) - first) / np.float32(BINS)
    thickness = _bin_shares(origin, direction, grid, first, width, knee, bound, uniform, shares)
    b = 0
    below = np.float32(0)  # the share of all bins before b
    step = _ONE / np.float32(samples + 1)
    for k in range(samples + 1):
        target = (np.float32(k) + jitter[k]) * step
        while b < BINS - 1 and below + shares[b] < target:
            below += shares[b]
            b += 1
        inside = min(max((target - below) / shares[b], np.float32(0)), _ONE)
        edges[k] = distance_at(first + width * (np.float32(b) + inside), knee)
    for k in range(samples):
        middle = _HALF * (edges[k] + edges[k + 1])
        points[0, k], points[1, k], points[2, k] = contract(
            origin[0] + middle * direction[0],
            origin[1] + middle * direction[1],
            origin[2] + middle * direction[2],
            bound,
        )
    return thickness


@njit(parallel=True, cache=True, nogil=True, fastmath=_EXACT, error_model="numpy")
def march(origins, directions, grid, jitter, reach, uniform, edges, points, thickness):
    """Cut each ray into intervals that are short where the density grid says that light stops.

    Args:
        origins, directions: float32 [r, 3], field frame; unit directions.
        grid: float32 [GRID**3], densities in the cube.
        jitter: float32 [r, s+1] in [0, 1): where in its own stretch of equal share each edge falls.
        reach: float32 distances near, far and knee (see `place_of`), and the radius that bounds the field, or infinity.
        uniform: float32, the part of the samples that is spread evenly whatever the grid says.
        edges: float32 [r, s+1], filled with rising distances.
        points: float32 [3, r * s], filled with the middles of the intervals, in the unit cube.
        thickness: float32 [r], filled with the optical depth that the grid sees along each ray, each bin's cut off at
            `MOST_DEPTH`.
    """
    samples = edges.shape[1] - 1
    for r in prange(origins.shape[0]):
        shares = np.empty(BINS, np.float32)
        thickness[r] = march_ray(
            origins[r], directions[r], grid, jitter[r], reach, uniform, shares, edges[r],
            points[:, r * samples : (r + 1) * samples],
        )  # fmt: skip


@njit(cache=True)
def splat(points, density, grid, rise, fall):
    """Move the grid's cells under `points` [3, n] towards `density` [n], by the part `rise` upwards, `fall` downwards.

    Rising fast and falling slowly keeps a cell that a thin surface cuts, though most samples in it meet air.
    """
    for n in range(density.shape[0]):
        cell = grid_cell(points[0, n], points[1, n], points[2, n])
        gap = density[n] - grid[cell]
        grid[cell] += (rise if gap > 0 else fall) * gap
