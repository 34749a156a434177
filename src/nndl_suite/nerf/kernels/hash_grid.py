# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Multi-resolution hash encoding of points in the unit cube (Instant NGP, arXiv 2201.05989, section 3).

Levels are independent, so both passes run one level to a thread: a level's table stays in that core's cache, the
scatter of the backward pass has no races, and its sums have one order whatever the number of threads.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numba import njit, prange

from nndl_suite.nerf.kernels.adam import adam_touched

FEATURES = 2
"""Features per level; the kernels are unrolled for two."""
_PRIME_Y = np.uint32(2654435761)
_PRIME_Z = np.uint32(805459861)
_ONE = np.uint32(1)


@dataclass(frozen=True, slots=True)
class HashLayout:
    """Where each level lies in the table, and how fine it is."""

    cells: Int64[np.ndarray, "l"]
    """Cells along each axis of the unit cube."""
    starts: Int64[np.ndarray, "l+1"]
    """First table row of each level. A level with a row for every vertex is indexed directly, any other is hashed."""

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return int(self.starts[-1])


def hash_layout(levels: int, *, coarsest: int, finest: int, log2_rows: int) -> HashLayout:
    """Levels in geometric progression of resolution, none with more than `2**log2_rows` rows."""
    growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
    cells = np.floor(coarsest * growth ** np.arange(levels) + 1e-6).astype(np.int64)
    rows = np.minimum((cells + 1) ** 3, 2**log2_rows)
    return HashLayout(cells, np.concatenate([[0], np.cumsum(rows)]).astype(np.int64))


@njit(inline="always")
def corner_rows(ix, iy, iz, cells, rows):
    """The table rows of the cell's eight vertices (x fastest), relative to the level's first."""
    side = np.uint32(cells + 1)
    if np.int64(side) * np.int64(side) * np.int64(side) <= rows:
        base = ix + side * (iy + side * iz)
        plane = np.uint32(side * side)
        return (
            base,
            np.uint32(base + _ONE),
            np.uint32(base + side),
            np.uint32(base + side + _ONE),
            np.uint32(base + plane),
            np.uint32(base + plane + _ONE),
            np.uint32(base + plane + side),
            np.uint32(base + plane + side + _ONE),
        )
    mask = np.uint32(rows - 1)
    y0 = np.uint32(iy * _PRIME_Y)
    y1 = np.uint32(y0 + _PRIME_Y)
    z0 = np.uint32(iz * _PRIME_Z)
    z1 = np.uint32(z0 + _PRIME_Z)
    x1 = np.uint32(ix + _ONE)
    return (
        np.uint32((ix ^ y0 ^ z0) & mask),
        np.uint32((x1 ^ y0 ^ z0) & mask),
        np.uint32((ix ^ y1 ^ z0) & mask),
        np.uint32((x1 ^ y1 ^ z0) & mask),
        np.uint32((ix ^ y0 ^ z1) & mask),
        np.uint32((x1 ^ y0 ^ z1) & mask),
        np.uint32((ix ^ y1 ^ z1) & mask),
        np.uint32((x1 ^ y1 ^ z1) & mask),
    )


@njit(inline="always")
def cell_of(x, cells):
    """The cell along one axis that holds `x` in [0, 1], and the place in it."""
    scaled = min(max(x, np.float32(0)), np.float32(1)) * np.float32(cells)
    index = min(np.int32(scaled), np.int32(cells - 1))
    return np.uint32(index), scaled - np.float32(index)


@njit(fastmath={"contract", "nsz"})
def encode_level(points, table, cells, out):
    """`out[f, n]` = the trilinear blend of the level's features at point n."""
    rows = table.shape[0]
    one = np.float32(1)
    for n in range(points.shape[1]):
        ix, fx = cell_of(points[0, n], cells)
        iy, fy = cell_of(points[1, n], cells)
        iz, fz = cell_of(points[2, n], cells)
        r0, r1, r2, r3, r4, r5, r6, r7 = corner_rows(ix, iy, iz, cells, rows)
        gx, gy, gz = one - fx, one - fy, one - fz
        a, b, c, d = gy * gz, fy * gz, gy * fz, fy * fz
        out[0, n] = (
            a * (gx * table[r0, 0] + fx * table[r1, 0])
            + b * (gx * table[r2, 0] + fx * table[r3, 0])
            + c * (gx * table[r4, 0] + fx * table[r5, 0])
            + d * (gx * table[r6, 0] + fx * table[r7, 0])
        )
        out[1, n] = (
            a * (gx * table[r0, 1] + fx * table[r1, 1])
            + b * (gx * table[r2, 1] + fx * table[r3, 1])
            + c * (gx * table[r4, 1] + fx * table[r5, 1])
            + d * (gx * table[r6, 1] + fx * table[r7, 1])
        )


@njit(inline="always")
def _add(grad, row, weight, g0, g1):
    grad[row, 0] += weight * g0
    grad[row, 1] += weight * g1


@njit(fastmath={"contract", "nsz"})
def _scatter_level(points, grad_out, cells, grad_table):
    """Add the gradient with respect to the level's rows to `grad_table`; points without gradient cost nothing."""
    rows = grad_table.shape[0]
    one, zero = np.float32(1), np.float32(0)
    for n in range(points.shape[1]):
        g0, g1 = grad_out[0, n], grad_out[1, n]
        if g0 == zero and g1 == zero:
            continue
        ix, fx = cell_of(points[0, n], cells)
        iy, fy = cell_of(points[1, n], cells)
        iz, fz = cell_of(points[2, n], cells)
        r0, r1, r2, r3, r4, r5, r6, r7 = corner_rows(ix, iy, iz, cells, rows)
        gx, gy, gz = one - fx, one - fy, one - fz
        a, b, c, d = gy * gz, fy * gz, gy * fz, fy * fz
        _add(grad_table, r0, a * gx, g0, g1)
        _add(grad_table, r1, a * fx, g0, g1)
        _add(grad_table, r2, b * gx, g0, g1)
        _add(grad_table, r3, b * fx, g0, g1)
        _add(grad_table, r4, c * gx, g0, g1)
        _add(grad_table, r5, c * fx, g0, g1)
        _add(grad_table, r6, d * gx, g0, g1)
        _add(grad_table, r7, d * fx, g0, g1)


@njit(inline="always")
def _interleaved(i, levels):
    """Even levels, then odd ones: threads take consecutive indices, and coarse levels are cheaper than fine ones."""
    half = (levels + 1) // 2
    return 2 * i if i < half else 2 * (i - half) + 1


@njit(parallel=True, cache=True, nogil=True)
def encode(points, table, cells, starts, out):
    """Write the features of `points` float32 [3, n] in the unit cube to `out` float32 [2 * l, n].

    `table` is float32 [rows, 2], laid out as `HashLayout(cells, starts)` says.
    """
    levels = cells.shape[0]
    for i in prange(levels):
        level = _interleaved(i, levels)
        rows = table[starts[level] : starts[level + 1]]
        encode_level(points, rows, cells[level], out[2 * level : 2 * level + 2])


@njit(parallel=True, cache=True)
def encode_backward_adam(points, grad_out, cells, starts, grad_table, table, first, second, rate, decay, step):
    """Add the gradient of `encode` to `grad_table`, do one Adam step on every touched entry, and clear the gradient.

    The two run level by level so that the gradient never leaves the cache. Where `rate` is 0 nothing but `grad_table`
    changes, and it is left as it is.

    Args:
        points: float32 [3, n].
        grad_out: float32 [2 * l, n], the gradient with respect to `out`.
        cells, starts: The layout.
        grad_table: float32 [rows, 2], zero on entry.
        table, first, second: float32 [rows, 2], the entries and their Adam moments.
        rate, decay: float32, the learning rate and the L2 weight of touched entries.
        step: Steps done before this one.
    """
    levels = cells.shape[0]
    for i in prange(levels):
        level = _interleaved(i, levels)
        a, b = starts[level], starts[level + 1]
        _scatter_level(points, grad_out[2 * level : 2 * level + 2], cells[level], grad_table[a:b])
        if rate > 0:
            adam_touched(
                table[a:b].reshape(-1),
                grad_table[a:b].reshape(-1),
                first[a:b].reshape(-1),
                second[a:b].reshape(-1),
                rate,
                decay,
                step,
            )
