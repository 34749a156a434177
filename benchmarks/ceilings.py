"""What the machine can do at best, measured with as many threads as the kernels use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
import torch
from numba import njit, prange

LARGE, NARROW, TALL = 2048, 64, 2**16
COPIED_FLOATS = 2**26
GATHERED = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Rates of the machine."""

    threads: int
    sgemm_large_gflops: float
    """torch, 2048 x 2048 x 2048."""
    sgemm_narrow_gflops: float
    """torch, 65536 x 64 x 64: the shape of the networks' layers."""
    gather_g_per_s: float
    """Reads of two float32 at independent random rows of a table per thread, 1e9 a second."""
    gather_rows: int
    """Rows of each table: those of a hash level."""
    copy_gb_per_s: float
    """torch's copy of 256 MB, read and write counted."""


def best_seconds(work: Callable[[], object], repeats: int) -> float:
    """The shortest of a few timings, after one that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _sgemm_gflops(rows: int, inner: int, columns: int, repeats: int) -> float:
    a, b, out = torch.rand(rows, inner), torch.rand(inner, columns), torch.empty(rows, columns)
    return 2e-9 * rows * inner * columns / best_seconds(lambda: torch.mm(a, b, out=out), repeats)


@njit(parallel=True, fastmath=True)
def _gather(tables, count, sums):
    """Sums the rows that a multiplicative hash of the counter picks; independent reads, so many are under way."""
    mask = np.uint32(tables.shape[1] - 1)
    for thread in prange(tables.shape[0]):
        table = tables[thread]
        first, second = np.float32(0), np.float32(0)
        for i in range(count):
            h = np.uint32(i) * np.uint32(2654435761)
            h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(2246822519))
            row = np.uint32(h ^ (h >> np.uint32(13))) & mask
            first += table[row, 0]
            second += table[row, 1]
        sums[thread, 0], sums[thread, 1] = first, second


def _gathers_per_second(rows: int, count: int, repeats: int) -> float:
    threads = numba.get_num_threads()
    tables, sums = np.ones((threads, rows, 2), np.float32), np.empty((threads, 2), np.float32)
    return 1e-9 * threads * count / best_seconds(lambda: _gather(tables, count, sums), repeats)


def measure(*, gather_rows: int, effort: float) -> Ceilings:
    """Measure all of them.

    Args:
        gather_rows: Rows of a hash level, a power of two.
        effort: 1 takes about ten seconds; less, for a smoke run, does less work.
    """
    threads = numba.get_num_threads()
    torch.set_num_threads(threads)
    repeats = max(1, round(8 * effort))
    a = torch.rand(max(2**20, round(COPIED_FLOATS * effort)))
    b = torch.empty_like(a)
    return Ceilings(
        threads=threads,
        sgemm_large_gflops=_sgemm_gflops(LARGE, LARGE, LARGE, repeats),
        sgemm_narrow_gflops=_sgemm_gflops(TALL, NARROW, NARROW, repeats),
        gather_g_per_s=_gathers_per_second(gather_rows, max(2**20, round(GATHERED * effort)), repeats),
        gather_rows=gather_rows,
        copy_gb_per_s=1e-9 * 8 * len(a) / best_seconds(lambda: b.copy_(a), repeats),
    )
