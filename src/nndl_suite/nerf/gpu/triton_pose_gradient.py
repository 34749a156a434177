# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""The gradient with respect to cameras, in Triton: a program sums all levels of the samples of some whole rays.

A sample reads its 128 bytes of gradient and, like `encode`, 16 * 64 bytes of the table; there is nothing to race for.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from nndl_suite.nerf.gpu.triton_hash_grid import level_rows, place_in_cell, row_pairs, unpack, vertex_row
from nndl_suite.nerf.gpu.triton_rays import ray_blocks, ray_edges, ray_places
from nndl_suite.nerf.kernels.hash_grid import HashLayout


@triton.jit
def _value(pairs, row, grad0, grad1, here):
    low, high = unpack(tl.load(pairs + row, mask=here, other=0))
    return grad0 * low + grad1 * high


@triton.jit
def _slopes(points, grads, pairs, levels, at, here, n, LEVELS: tl.constexpr):
    """The gradient with respect to the points of the unit cube."""
    x = tl.load(points + at, mask=here, other=0.0)
    y = tl.load(points + n + at, mask=here, other=0.0)
    z = tl.load(points + 2 * n + at, mask=here, other=0.0)
    sx, sy, sz = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for level in range(LEVELS):
        cells, start = tl.load(levels + 4 * level), tl.load(levels + 4 * level + 1)
        most, direct = tl.load(levels + 4 * level + 2), tl.load(levels + 4 * level + 3)
        g0 = tl.load(grads + 2 * level * n + at, mask=here, other=0.0)
        g1 = tl.load(grads + (2 * level + 1) * n + at, mask=here, other=0.0)
        some = (g0 != 0.0) | (g1 != 0.0)
        ix, fx = place_in_cell(x, cells)
        iy, fy = place_in_cell(y, cells)
        iz, fz = place_in_cell(z, cells)
        v0 = _value(pairs, start + vertex_row(ix, iy, iz, cells, most, direct), g0, g1, some)
        v1 = _value(pairs, start + vertex_row(ix + 1, iy, iz, cells, most, direct), g0, g1, some)
        v2 = _value(pairs, start + vertex_row(ix, iy + 1, iz, cells, most, direct), g0, g1, some)
        v3 = _value(pairs, start + vertex_row(ix + 1, iy + 1, iz, cells, most, direct), g0, g1, some)
        v4 = _value(pairs, start + vertex_row(ix, iy, iz + 1, cells, most, direct), g0, g1, some)
        v5 = _value(pairs, start + vertex_row(ix + 1, iy, iz + 1, cells, most, direct), g0, g1, some)
        v6 = _value(pairs, start + vertex_row(ix, iy + 1, iz + 1, cells, most, direct), g0, g1, some)
        v7 = _value(pairs, start + vertex_row(ix + 1, iy + 1, iz + 1, cells, most, direct), g0, g1, some)
        gx, gy, gz = 1.0 - fx, 1.0 - fy, 1.0 - fz
        scale = cells.to(tl.float32)
        sx += scale * (gz * (gy * (v1 - v0) + fy * (v3 - v2)) + fz * (gy * (v5 - v4) + fy * (v7 - v6)))
        sy += scale * (gz * (gx * (v2 - v0) + fx * (v3 - v1)) + fz * (gx * (v6 - v4) + fx * (v7 - v5)))
        sz += scale * (gy * (gx * (v4 - v0) + fx * (v5 - v1)) + fy * (gx * (v6 - v2) + fx * (v7 - v3)))
    return sx, sy, sz


@triton.jit
def _pose_gradient(
    points, grads, pairs, levels, origins, directions, edges, out, rays, samples, n, bound,
    BALL: tl.constexpr, LEVELS: tl.constexpr, RAYS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """See `kernels.pose_gradient._to_ray` for what follows the slopes."""
    ray, k, here = ray_places(rays, samples, RAYS, PADDED)
    known = ray < rays
    gx, gy, gz = _slopes(points, grads, pairs, levels, ray[:, None] * samples + k, here, n, LEVELS)
    near, far = ray_edges(edges, ray, k, here, samples)
    t = 0.5 * (near + far)
    dx = tl.load(directions + 3 * ray, mask=known, other=0.0)[:, None]
    dy = tl.load(directions + 3 * ray + 1, mask=known, other=0.0)[:, None]
    dz = tl.load(directions + 3 * ray + 2, mask=known, other=0.0)[:, None]
    if BALL:
        gx, gy, gz = gx * (0.5 / bound), gy * (0.5 / bound), gz * (0.5 / bound)
    else:
        x = tl.load(origins + 3 * ray, mask=known, other=0.0)[:, None] + t * dx
        y = tl.load(origins + 3 * ray + 1, mask=known, other=0.0)[:, None] + t * dy
        z = tl.load(origins + 3 * ray + 2, mask=known, other=0.0)[:, None] + t * dz
        inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1.0)
        factor = 0.25 * (2.0 - inverse) * inverse
        radial = 0.5 * (inverse - 1.0) * inverse * inverse * inverse * (x * gx + y * gy + z * gz)
        gx, gy, gz = factor * gx + radial * x, factor * gy + radial * y, factor * gz + radial * z
    tl.store(out + 6 * ray, tl.sum(gx, axis=1), mask=known)
    tl.store(out + 6 * ray + 1, tl.sum(gy, axis=1), mask=known)
    tl.store(out + 6 * ray + 2, tl.sum(gz, axis=1), mask=known)
    tl.store(out + 6 * ray + 3, tl.sum(t * (dy * gz - dz * gy), axis=1), mask=known)
    tl.store(out + 6 * ray + 4, tl.sum(t * (dz * gx - dx * gz), axis=1), mask=known)
    tl.store(out + 6 * ray + 5, tl.sum(t * (dx * gy - dy * gx), axis=1), mask=known)


def pose_gradient(
    points: Tensor,
    grad_encoding: Tensor,
    table: Tensor,
    layout: HashLayout,
    origins: Tensor,
    directions: Tensor,
    edges: Tensor,
    *,
    bound: float,
) -> Tensor:
    """See `pose_gradient.pose_gradient`."""
    rays, samples = len(edges), edges.shape[1] - 1
    each, padded, blocks = ray_blocks(rays, samples)
    out = edges.new_empty(rays, 6)
    ball = bound < math.inf
    _pose_gradient[blocks](
        points, grad_encoding, row_pairs(table), level_rows(layout, table.device), origins, directions, edges, out,
        rays, samples, points.shape[1], float(bound) if ball else 1.0,
        BALL=ball, LEVELS=len(layout.cells), RAYS=each, PADDED=padded,
    )  # fmt: skip
    return out
