# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""Where to look along a ray, in Triton: bins of each ray first, then every edge on its own.

A ray's 128 bins read three cells each from the density grid, which the L2 cache holds, and give 512 bytes of running
shares; an edge finds its bin among them in seven steps.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from nndl_suite.nerf.gpu.plain import FLOOR
from nndl_suite.nerf.kernels import marching
from nndl_suite.nerf.sampling import Reach

_RAYS = 4
_BLOCK = 256
_CELLS = 1024
_GRID, _BINS = tl.constexpr(marching.GRID), tl.constexpr(marching.BINS)
_HALVINGS = tl.constexpr(int(math.log2(marching.BINS)))
_MOST_DEPTH = tl.constexpr(float(marching.MOST_DEPTH))
_FLOOR = tl.constexpr(FLOOR)


@triton.jit
def _scale(x, y, z, bound, BALL: tl.constexpr):
    """What a point is multiplied by on its way into the unit cube; see `kernels.marching.contract`."""
    if BALL:
        factor = tl.zeros_like(x) + 0.5 / bound
    else:
        norm = tl.maximum(tl.sqrt(x * x + y * y + z * z), 1.0)
        factor = 0.25 * (2.0 - 1.0 / norm) / norm
    return factor


@triton.jit
def place_of(distance, knee):
    """See `kernels.marching.place_of`."""
    return tl.where(distance < knee, 0.5 * distance / knee, 1.0 - 0.5 * knee / distance)


@triton.jit
def _distance_at(place, knee):
    return tl.where(place < 0.5, 2.0 * place * knee, 0.5 * knee / tl.maximum(1.0 - place, 1e-30))


@triton.jit
def _cell(place):
    return tl.minimum(tl.maximum((place * _GRID).to(tl.int32), 0), _GRID - 1)


@triton.jit
def _grid_cell(x, y, z):
    return (_cell(z) * _GRID + _cell(y)) * _GRID + _cell(x)


@triton.jit
def _ray(origins, directions, ray, here):
    ox = tl.load(origins + 3 * ray, mask=here, other=1.0)
    oy = tl.load(origins + 3 * ray + 1, mask=here, other=0.0)
    oz = tl.load(origins + 3 * ray + 2, mask=here, other=0.0)
    dx = tl.load(directions + 3 * ray, mask=here, other=1.0)
    dy = tl.load(directions + 3 * ray + 1, mask=here, other=0.0)
    dz = tl.load(directions + 3 * ray + 2, mask=here, other=0.0)
    return ox, oy, oz, dx, dy, dz


@triton.jit
def _stretch(ox, oy, oz, dx, dy, dz, near, far, bound, BALL: tl.constexpr):
    """See `kernels.marching.inside_ball`."""
    first, last = tl.zeros_like(ox) + near, tl.zeros_like(ox) + far
    if BALL:
        along = -(ox * dx + oy * dy + oz * dz)
        depth = along * along - (ox * ox + oy * oy + oz * oz) + bound * bound
        half = tl.sqrt(tl.maximum(depth, 0.0))
        meets = depth > 0.0
        entry = tl.maximum(first, along - half)
        last = tl.where(meets, tl.maximum(entry, tl.minimum(last, along + half)), near)
        first = tl.where(meets, entry, near)
    return first, last


@triton.jit
def _depth(grid, ox, oy, oz, dx, dy, dz, first, width, bins, here, knee, bound, BALL: tl.constexpr):
    """The optical depth that the grid sees in the bins, each cut off."""
    left = _distance_at(first + width * bins, knee)
    right = _distance_at(first + width * (bins + 1), knee)
    middle = 0.5 * (left + right)
    x, y, z = ox + middle * dx, oy + middle * dy, oz + middle * dz
    scale = _scale(x, y, z, bound, BALL)
    cell = _grid_cell(0.5 + scale * x, 0.5 + scale * y, 0.5 + scale * z)
    return tl.minimum(tl.load(grid + cell, mask=here, other=0.0) * (right - left), _MOST_DEPTH)


@triton.jit
def _march_bins(
    origins, directions, grid, upto, stretch, thickness, rays, near, far, knee, bound, uniform,
    BALL: tl.constexpr, RAYS: tl.constexpr,
):  # fmt: skip
    """Fill `upto` [r, BINS], the shares up to the end of each bin, `stretch` [r, 2], where bins begin and how wide
    they are (see `place_of`), and `thickness` [r]."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    here = ray < rays
    ox, oy, oz, dx, dy, dz = _ray(origins, directions, ray, here)
    start, end = _stretch(ox, oy, oz, dx, dy, dz, near, far, bound, BALL)
    first = place_of(start, knee)
    width = (place_of(end, knee) - first) / _BINS
    bins = tl.arange(0, _BINS)[None, :]
    depth = _depth(grid, ox, oy, oz, dx, dy, dz, first, width, bins, here, knee, bound, BALL)
    # what a bin stops of the light that comes to it is q / (1 + q) by the guess that the CPU makes; a bin's neighbours
    # are asked again, for no thread sees what another found
    q = depth * (1.0 + 0.5 * depth)
    passed = tl.cumprod(1.0 / (1.0 + q), axis=1)
    share = passed * q
    earlier = _depth(grid, ox, oy, oz, dx, dy, dz, first, width, bins - 1, here & (bins > 0), knee, bound, BALL)
    before = passed * (1.0 + q) * earlier * (1.0 + 0.5 * earlier)
    later = _depth(grid, ox, oy, oz, dx, dy, dz, first, width, bins + 1, here & (bins < _BINS - 1), knee, bound, BALL)
    q = later * (1.0 + 0.5 * later)
    share = tl.maximum(tl.maximum(share, before), passed * q / (1.0 + q))
    scale = (1.0 - uniform) / (tl.sum(share, axis=1) + _FLOOR)
    share = share * scale[:, None] + ((uniform + scale * _FLOOR) / _BINS)[:, None]
    tl.store(upto + ray * _BINS + bins, tl.cumsum(share, axis=1), mask=here)
    tl.store(stretch + 2 * ray, first, mask=here)
    tl.store(stretch + 2 * ray + 1, width, mask=here)
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    tl.store(thickness + ray, tl.sum(depth, axis=1), mask=ray < rays)


@triton.jit
def _edge(upto, stretch, jitter, ray, k, samples, here, knee):
    """The distance of a ray's edge `k`."""
    offset = tl.load(jitter + ray * (samples + 1) + k, mask=here, other=0.5)
    target = (k.to(tl.float32) + offset) / (samples + 1)
    found = tl.zeros_like(k)  # bins that end before the target
    for i in tl.static_range(_HALVINGS):
        step = _BINS >> (i + 1)
        less = tl.load(upto + ray * _BINS + found + step - 1, mask=here, other=0.0) < target
        found += tl.where(less, step, 0)
    below = tl.load(upto + ray * _BINS + found - 1, mask=here & (found > 0), other=0.0)
    share = tl.load(upto + ray * _BINS + found, mask=here, other=1.0) - below
    inside = tl.minimum(tl.maximum((target - below) / share, 0.0), 1.0)
    first = tl.load(stretch + 2 * ray, mask=here, other=0.0)
    width = tl.load(stretch + 2 * ray + 1, mask=here, other=0.0)
    return _distance_at(first + width * (found.to(tl.float32) + inside), knee)


@triton.jit
def _march_edges(
    origins, directions, upto, stretch, jitter, edges, points, rays, samples, knee, bound,
    BALL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray = at // (samples + 1)
    k = at - ray * (samples + 1)
    here = ray < rays
    edge = _edge(upto, stretch, jitter, ray, k, samples, here, knee)
    tl.store(edges + at, edge, mask=here)
    here = here & (k < samples)
    middle = 0.5 * (edge + _edge(upto, stretch, jitter, ray, k + 1, samples, here, knee))
    ox, oy, oz, dx, dy, dz = _ray(origins, directions, ray, here)
    x, y, z = ox + middle * dx, oy + middle * dy, oz + middle * dz
    scale = _scale(x, y, z, bound, BALL)
    out = points + ray * samples + k
    tl.store(out, 0.5 + scale * x, mask=here)
    tl.store(out + rays * samples, 0.5 + scale * y, mask=here)
    tl.store(out + 2 * rays * samples, 0.5 + scale * z, mask=here)


@triton.jit
def _sum_moves(points, density, grid, parts, moves, n, rise, fall, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < n
    x = tl.load(points + at, mask=here, other=-1.0)
    y = tl.load(points + n + at, mask=here, other=-1.0)
    z = tl.load(points + 2 * n + at, mask=here, other=-1.0)
    here = (x >= 0.0) & (x <= 1.0) & (y >= 0.0) & (y <= 1.0) & (z >= 0.0) & (z <= 1.0)
    cell = _grid_cell(x, y, z)
    gap = tl.load(density + at, mask=here, other=0.0) - tl.load(grid + cell, mask=here, other=0.0)
    part = tl.where(gap > 0.0, rise, fall)
    tl.atomic_add(parts + cell, part, mask=here, sem="relaxed")
    tl.atomic_add(moves + cell, part * gap, mask=here, sem="relaxed")


@triton.jit
def _move(parts, moves, grid, cells, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part = tl.load(parts + at, mask=at < cells, other=0.0)
    touched = part > 0.0
    old = tl.load(grid + at, mask=touched, other=0.0)
    move = tl.load(moves + at, mask=touched, other=0.0)
    tl.store(grid + at, old + move / tl.maximum(part, 1.0), mask=touched)


def march(
    origins: Tensor, directions: Tensor, grid: Tensor, jitter: Tensor, *, reach: Reach, uniform: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See `marching.march`."""
    near, far, knee, bound = (float(length) for length in reach)
    ball = bound < math.inf
    bound = bound if ball else 1.0
    rays, samples = len(jitter), jitter.shape[1] - 1
    upto, stretch, thickness = grid.new_empty(rays, marching.BINS), grid.new_empty(rays, 2), grid.new_empty(rays)
    _march_bins[(triton.cdiv(rays, _RAYS),)](
        origins, directions, grid, upto, stretch, thickness, rays, near, far, knee, bound, float(uniform),
        BALL=ball, RAYS=_RAYS,
    )  # fmt: skip
    edges, points = torch.empty_like(jitter), grid.new_empty(3, rays * samples)
    _march_edges[(triton.cdiv(edges.numel(), _BLOCK),)](
        origins, directions, upto, stretch, jitter, edges, points, rays, samples, knee, bound, BALL=ball, BLOCK=_BLOCK
    )
    return edges, points, thickness


def splat(points: Tensor, density: Tensor, grid: Tensor, *, rise: float, fall: float) -> None:
    """See `marching.splat`."""
    n, cells = len(density), len(grid)
    parts, moves = torch.zeros_like(grid), torch.zeros_like(grid)
    _sum_moves[(triton.cdiv(n, _BLOCK),)](
        points, density, grid, parts, moves, n, float(rise), float(fall), BLOCK=_BLOCK
    )
    _move[(triton.cdiv(cells, _CELLS),)](parts, moves, grid, cells, BLOCK=_CELLS)
