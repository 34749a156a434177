# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Where to look along a ray: bins read from the density grid, samples drawn where they say that light stops."""

import numpy as np
from numba import njit, prange

GRID = 128
"""Cells along each axis of the density grid, which spans the contracted cube [-2, 2]^3."""
BINS = 128
"""Coarse bins along a ray."""
MOST_DEPTH = np.float32(0.5)
"""What a bin may count for, in optical depth. A cell that a silhouette cuts is opaque to the grid, yet rays pass
through the empty part of it, and some samples must go on to what lies behind. Inside a solid, a few bins together stop
the rest."""
_EXACT = {"contract", "nsz"}
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


@njit(cache=True, inline="always")
def contract(x, y, z):
    """Space into the ball of radius 2 (Mip-NeRF 360, arXiv 2111.12077, eq. 10), and that into the unit cube."""
    norm = np.sqrt(x * x + y * y + z * z)
    factor = _ONE if norm <= _ONE else (_TWO - _ONE / norm) / norm
    quarter = np.float32(0.25)
    return _HALF + quarter * factor * x, _HALF + quarter * factor * y, _HALF + quarter * factor * z


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
def _bin_shares(origin, direction, grid, near, far, knee, uniform, shares):
    """Fill `shares` with the part of the samples that each bin of one ray gets; they sum to 1."""
    first = place_of(near, knee)
    width = (place_of(far, knee) - first) / np.float32(BINS)
    transmittance = _ONE
    left = near
    for b in range(BINS):
        right = distance_at(first + width * np.float32(b + 1), knee)
        middle = _HALF * (left + right)
        x, y, z = contract(
            origin[0] + middle * direction[0], origin[1] + middle * direction[1], origin[2] + middle * direction[2]
        )
        passed = transmittance * np.exp(-min(grid[grid_cell(x, y, z)] * (right - left), MOST_DEPTH))
        shares[b] = transmittance - passed
        transmittance = passed
        left = right
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


@njit(parallel=True, cache=True, fastmath=_EXACT, error_model="numpy")
def march(origins, directions, grid, jitter, near, far, knee, uniform, edges, points):
    """Cut each ray into intervals that are short where the density grid says that light stops.

    Args:
        origins, directions: float32 [r, 3], field frame; unit directions.
        grid: float32 [GRID**3], densities in contracted space.
        jitter: float32 [r, s+1] in [0, 1): where in its own stretch of equal share each edge falls.
        near, far, knee: float32 distances; see `place_of`.
        uniform: float32, the part of the samples that is spread evenly whatever the grid says.
        edges: float32 [r, s+1], filled with rising distances.
        points: float32 [3, r * s], filled with the middles of the intervals, in the contracted unit cube.
    """
    samples = edges.shape[1] - 1
    for r in prange(origins.shape[0]):
        shares = np.empty(BINS, np.float32)
        origin, direction = origins[r], directions[r]
        _bin_shares(origin, direction, grid, near, far, knee, uniform, shares)
        first = place_of(near, knee)
        width = (place_of(far, knee) - first) / np.float32(BINS)
        b = 0
        below = np.float32(0)  # the share of all bins before b
        step = _ONE / np.float32(samples + 1)
        for k in range(samples + 1):
            target = (np.float32(k) + jitter[r, k]) * step
            while b < BINS - 1 and below + shares[b] < target:
                below += shares[b]
                b += 1
            inside = min(max((target - below) / shares[b], np.float32(0)), _ONE)
            edges[r, k] = distance_at(first + width * (np.float32(b) + inside), knee)
        for k in range(samples):
            middle = _HALF * (edges[r, k] + edges[r, k + 1])
            x, y, z = contract(
                origin[0] + middle * direction[0], origin[1] + middle * direction[1], origin[2] + middle * direction[2]
            )
            n = r * samples + k
            points[0, n], points[1, n], points[2, n] = x, y, z


@njit(cache=True)
def splat(points, density, grid, rise, fall):
    """Move the grid's cells under `points` [3, n] towards `density` [n], by the part `rise` upwards, `fall` downwards.

    Rising fast and falling slowly keeps a cell that a thin surface cuts, though most samples in it meet air.
    """
    for n in range(density.shape[0]):
        cell = grid_cell(points[0, n], points[1, n], points[2, n])
        gap = density[n] - grid[cell]
        grid[cell] += (rise if gap > 0 else fall) * gap
