# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""Hash encoding in Triton: a program does one level of a block of points.

Levels are the slow axis of the launch, so that one level's table (2 MB at 2**18 rows) stays in the L2 cache while all
points pass. A point costs about 16 * 64 bytes of it and 12 * 16 bytes of coordinates, and gives 128; the backward pass
adds 16 * 8 pairs of numbers, which is what a step of training waits for.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from nndl_suite.nerf.kernels.hash_grid import FEATURES, HashLayout

_BLOCK = 256
_BACKWARD = 128
"""One point a thread of four warps: pairs to add then lie where their point does, and no thread waits for another."""
_PRIME_Y = tl.constexpr(2654435761)
_PRIME_Z = tl.constexpr(805459861)


@lru_cache(maxsize=16)
def _on_device(levels: tuple[tuple[int, int, int, int], ...], device: torch.device) -> Tensor:
    return torch.tensor(levels, dtype=torch.int32, device=device)


def level_rows(layout: HashLayout, device: torch.device) -> Tensor:
    """What kernels need to know of the levels, int32 [l, 4]: cells, first row, rows - 1, whether each vertex has one.

    Kept on the device, since a copy in each step would have to wait for it.
    """
    cells, starts = layout.cells.tolist(), layout.starts.tolist()
    levels = (
        (cell, start, end - start - 1, int((cell + 1) ** 3 <= end - start))
        for cell, start, end in zip(cells, starts, starts[1:], strict=False)
    )
    return _on_device(tuple(levels), device)


def row_pairs(table: Tensor) -> Tensor:
    """The table with both numbers of a row in one of 64 bits, which a kernel then reads at once."""
    return table.view(torch.int64)


@triton.jit
def place_in_cell(place, cells):
    """The cell along one axis that holds `place` in [0, 1], and where in it that is."""
    scaled = tl.minimum(tl.maximum(place, 0.0), 1.0) * cells.to(tl.float32)
    index = tl.minimum(scaled.to(tl.int32), cells - 1)
    return index, scaled - index.to(tl.float32)


@triton.jit
def vertex_row(x, y, z, cells, most, direct):
    """The row of a vertex, from its level's first; 32 bits wrap as on the CPU."""
    side = cells + 1
    hashed = x.to(tl.uint32) ^ (y.to(tl.uint32) * _PRIME_Y) ^ (z.to(tl.uint32) * _PRIME_Z)
    return tl.where(direct != 0, x + side * (y + side * z), (hashed & most.to(tl.uint32)).to(tl.int32))


@triton.jit
def unpack(pair):
    """Both float32 numbers of a row that was read as one of 64 bits."""
    low = pair.to(tl.int32).to(tl.float32, bitcast=True)
    return low, (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _encode(points, pairs, levels, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    level = tl.program_id(1)
    cells, start = tl.load(levels + 4 * level), tl.load(levels + 4 * level + 1)
    most, direct = tl.load(levels + 4 * level + 2), tl.load(levels + 4 * level + 3)
    here = at < n
    ix, fx = place_in_cell(tl.load(points + at, mask=here, other=0.0), cells)
    iy, fy = place_in_cell(tl.load(points + n + at, mask=here, other=0.0), cells)
    iz, fz = place_in_cell(tl.load(points + 2 * n + at, mask=here, other=0.0), cells)
    total0 = tl.zeros([BLOCK], tl.float32)
    total1 = tl.zeros([BLOCK], tl.float32)
    for corner in tl.static_range(8):
        dx, dy, dz = corner % 2, corner // 2 % 2, corner // 4
        share = (fx * dx + (1 - fx) * (1 - dx)) * (fy * dy + (1 - fy) * (1 - dy)) * (fz * dz + (1 - fz) * (1 - dz))
        row = vertex_row(ix + dx, iy + dy, iz + dz, cells, most, direct)
        low, high = unpack(tl.load(pairs + start + row, mask=here, other=0))
        total0 += share * low
        total1 += share * high
    tl.store(out + 2 * level * n + at, total0, mask=here)
    tl.store(out + (2 * level + 1) * n + at, total1, mask=here)


@triton.jit
def _encode_backward(points, grads, levels, grad_table, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    level = tl.program_id(1)
    cells, start = tl.load(levels + 4 * level), tl.load(levels + 4 * level + 1)
    most, direct = tl.load(levels + 4 * level + 2), tl.load(levels + 4 * level + 3)
    here = at < n
    grad0 = tl.load(grads + 2 * level * n + at, mask=here, other=0.0)
    grad1 = tl.load(grads + (2 * level + 1) * n + at, mask=here, other=0.0)
    here = (grad0 != 0.0) | (grad1 != 0.0)
    ix, fx = place_in_cell(tl.load(points + at, mask=here, other=0.0), cells)
    iy, fy = place_in_cell(tl.load(points + n + at, mask=here, other=0.0), cells)
    iz, fz = place_in_cell(tl.load(points + 2 * n + at, mask=here, other=0.0), cells)
    both = tl.join(grad0, grad1)  # [BLOCK, 2]: from compute capability 9 a pair is added at once
    feature = tl.arange(0, 2)[None, :]
    for corner in tl.static_range(8):
        dx, dy, dz = corner % 2, corner // 2 % 2, corner // 4
        share = (fx * dx + (1 - fx) * (1 - dx)) * (fy * dy + (1 - fy) * (1 - dy)) * (fz * dz + (1 - fz) * (1 - dz))
        row = start + vertex_row(ix + dx, iy + dy, iz + dz, cells, most, direct)
        tl.atomic_add(grad_table + row[:, None] * 2 + feature, share[:, None] * both, mask=here[:, None], sem="relaxed")


def encode(points: Tensor, table: Tensor, layout: HashLayout) -> Tensor:
    """See `hash_grid.encode`."""
    n, levels = points.shape[1], len(layout.cells)
    out = torch.empty(FEATURES * levels, n, device=points.device)
    blocks = triton.cdiv(n, _BLOCK), levels
    _encode[blocks](points, row_pairs(table), level_rows(layout, points.device), out, n, BLOCK=_BLOCK)
    return out


def encode_backward(points: Tensor, grad_encoding: Tensor, layout: HashLayout, grad_table: Tensor) -> None:
    """See `hash_grid.encode_backward`."""
    n = points.shape[1]
    blocks = triton.cdiv(n, _BACKWARD), len(layout.cells)
    _encode_backward[blocks](
        points, grad_encoding, level_rows(layout, points.device), grad_table, n, BLOCK=_BACKWARD
    )  # fmt: skip
