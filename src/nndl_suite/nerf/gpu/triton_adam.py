# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""Adam in Triton: reads 4 bytes of an entry that has no gradient, and reads and writes 32 of one that has."""

import triton
import triton.language as tl
from torch import Tensor

from nndl_suite.nerf.gpu.plain import starts

_BLOCK = 1024
_BETA1, _BETA2 = tl.constexpr(0.9), tl.constexpr(0.99)
_EPSILON = tl.constexpr(1e-15)


@triton.jit
def _adam(values, grads, first, second, pace, n, rate, decay, BLOCK: tl.constexpr):
    rate *= tl.load(pace)
    start1, start2 = tl.load(pace + 1), tl.load(pace + 2)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    grad = tl.load(grads + at, mask=at < n, other=0.0)
    touched = grad != 0.0
    value = tl.load(values + at, mask=touched, other=0.0)
    grad += decay * value
    m = tl.load(first + at, mask=touched, other=0.0) * _BETA1 + grad * (1 - _BETA1)
    v = tl.load(second + at, mask=touched, other=0.0) * _BETA2 + grad * grad * (1 - _BETA2)
    value -= rate * (m * start1) / (tl.sqrt(v * start2) + _EPSILON)
    tl.store(first + at, m, mask=touched)
    tl.store(second + at, v, mask=touched)
    tl.store(values + at, value, mask=touched)
    tl.store(grads + at, tl.zeros_like(grad), mask=touched)


def adam_touched(
    values: Tensor, grads: Tensor, first: Tensor, second: Tensor, *, rate: float, step: int, decay: float
) -> None:
    """See `adam.adam_touched`."""
    adam_paced(values, grads, first, second, values.new_tensor([1.0, *starts(step)]), rate=rate, decay=decay)


def adam_paced(
    values: Tensor, grads: Tensor, first: Tensor, second: Tensor, pace: Tensor, *, rate: float, decay: float
) -> None:
    """See `adam.adam_paced`."""
    n = values.numel()
    _adam[(triton.cdiv(n, _BLOCK),)](
        values, grads, first, second, pace, n, float(rate), float(decay), BLOCK=_BLOCK
    )  # fmt: skip
