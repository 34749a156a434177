"""Seconds of steps on a GPU, and what the card does at best."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from nndl_suite.training.files import Json

WARM_STEPS = 10


def seconds_a_step(step: Callable[[int], object], seconds: float) -> float:
    """Mean over about `seconds`; the device is waited for at the beginning and the end only."""
    for index in range(WARM_STEPS):
        step(index)
    torch.cuda.synchronize()
    start = time.perf_counter()
    step(WARM_STEPS)
    torch.cuda.synchronize()
    count = max(5, round(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for index in range(count):
        step(WARM_STEPS + 1 + index)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def ceilings() -> dict[str, Json]:
    """What the card does at best: bf16 products of random matrices, and a copy (bytes read and written)."""
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16).unbind()
    product = seconds_a_step(lambda _: a @ b, 0.5)
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    copy = seconds_a_step(lambda _: target.copy_(source), 0.5)
    return {
        "gpu": torch.cuda.get_device_name(),
        "bf16_tflops": 2 * 8192**3 / product / 1e12,
        "copy_tb_per_second": 2 * source.nbytes / copy / 1e12,
    }
