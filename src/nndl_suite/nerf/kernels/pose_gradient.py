# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""How the loss changes with the cameras: from the encoding's gradient back to the points, the rays and their photos.

A ray's distances stay where they are: its samples are at o + t d with t fixed, o moves with the camera, d turns with
it (as in BARF, arXiv 2104.06405). What the colour net makes of a new direction of view is left out: it is small beside
what moves.
"""

import numpy as np
from numba import njit, prange

from nndl_suite.nerf.kernels.hash_grid import cell_of, corner_rows

_EXACT = {"contract", "nsz"}
_ONE, _HALF, _QUARTER = np.float32(1), np.float32(0.5), np.float32(0.25)


@njit(cache=True, fastmath=_EXACT)
def _add_level(points, grad_out, table, cells, start, slopes):
    """Add a level's part of the gradient with respect to the points `start ...` to `slopes` [3, m]."""
    rows = table.shape[0]
    scale, zero = np.float32(cells), np.float32(0)
    for i in range(slopes.shape[1]):
        n = start + i
        g0, g1 = grad_out[0, n], grad_out[1, n]
        if g0 == zero and g1 == zero:
            continue
        ix, fx = cell_of(points[0, n], cells)
        iy, fy = cell_of(points[1, n], cells)
        iz, fz = cell_of(points[2, n], cells)
        r0, r1, r2, r3, r4, r5, r6, r7 = corner_rows(ix, iy, iz, cells, rows)
        gx, gy, gz = _ONE - fx, _ONE - fy, _ONE - fz
        v0 = g0 * table[r0, 0] + g1 * table[r0, 1]
        v1 = g0 * table[r1, 0] + g1 * table[r1, 1]
        v2 = g0 * table[r2, 0] + g1 * table[r2, 1]
        v3 = g0 * table[r3, 0] + g1 * table[r3, 1]
        v4 = g0 * table[r4, 0] + g1 * table[r4, 1]
        v5 = g0 * table[r5, 0] + g1 * table[r5, 1]
        v6 = g0 * table[r6, 0] + g1 * table[r6, 1]
        v7 = g0 * table[r7, 0] + g1 * table[r7, 1]
        slopes[0, i] += scale * (
            gz * (gy * (v1 - v0) + fy * (v3 - v2)) + fz * (gy * (v5 - v4) + fy * (v7 - v6))
        )  # fmt: skip
        slopes[1, i] += scale * (
            gz * (gx * (v2 - v0) + fx * (v3 - v1)) + fz * (gx * (v6 - v4) + fx * (v7 - v5))
        )  # fmt: skip
        slopes[2, i] += scale * (
            gy * (gx * (v4 - v0) + fx * (v5 - v1)) + fy * (gx * (v6 - v2) + fx * (v7 - v3))
        )  # fmt: skip


@njit(cache=True, fastmath=_EXACT, error_model="numpy")
def _to_ray(slopes, first, origin, direction, edges, bound, out):
    """Sum a ray's gradients, taken out of the unit cube: those of its origin to `out[:3]`, of its turn to `out[3:]`."""
    out[:] = np.float32(0)
    dx, dy, dz = direction
    for k in range(edges.shape[0] - 1):
        t = _HALF * (edges[k] + edges[k + 1])
        x, y, z = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
        gx, gy, gz = slopes[0, first + k], slopes[1, first + k], slopes[2, first + k]
        if bound < np.inf:
            factor, radial = _HALF / bound, np.float32(0)
        else:  # the transpose of the Jacobian of `marching.contract`: factor * identity + radial * p p^T
            factor, radial = _QUARTER, np.float32(0)
            norm = np.sqrt(x * x + y * y + z * z)
            if norm > _ONE:
                inverse = _ONE / norm
                factor = _QUARTER * (np.float32(2) - inverse) * inverse
                radial = _HALF * (inverse - _ONE) * inverse * inverse * inverse
        radial *= x * gx + y * gy + z * gz
        gx, gy, gz = factor * gx + radial * x, factor * gy + radial * y, factor * gz + radial * z
        out[0] += gx
        out[1] += gy
        out[2] += gz
        out[3] += t * (dy * gz - dz * gy)
        out[4] += t * (dz * gx - dx * gz)
        out[5] += t * (dx * gy - dy * gx)


@njit(parallel=True, cache=True)
def pose_gradient(points, grad_encoding, table, cells, starts, rays, bound, chunks, out):
    """The gradient of a loss with respect to a shift of each ray's origin, and a turn of the ray about it.

    A ray's sums run over its samples in their order, and each sample's over the levels, so the bits do not depend on
    the number of threads.

    Args:
        points: float32 [3, r * s] in the unit cube, from `march`.
        grad_encoding: float32 [2 * l, r * s], from `shade_and_learn`.
        table, cells, starts: As `encode` takes them.
        rays: `origins` and `directions` [r, 3] and `edges` [r, s+1], float32, as `march` took and gave them.
        bound: float32, the radius that bounds the field, or infinity; see `marching.contract`.
        chunks: Pieces that the work is cut into; any number gives the same bits.
        out: float32 [r, 6], filled: shift (x, y, z, field units), then turn (axis times angle in radians, the field's
            axes).
    """
    origins, directions, edges = rays
    count, samples = origins.shape[0], edges.shape[1] - 1
    slopes = np.zeros((3, count * samples), np.float32)
    for level in range(cells.shape[0]):  # one after the other, so that a level's table stays in the cache
        rows = table[starts[level] : starts[level + 1]]
        grads = grad_encoding[2 * level : 2 * level + 2]
        for chunk in prange(chunks):
            first, end = chunk * count // chunks * samples, (chunk + 1) * count // chunks * samples
            _add_level(points, grads, rows, cells[level], first, slopes[:, first:end])
    for r in prange(count):
        _to_ray(slopes, r * samples, origins[r], directions[r], edges[r], bound, out[r])
