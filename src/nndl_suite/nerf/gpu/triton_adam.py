# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""Adam in Triton: reads 4 bytes of an entry that has no gradient, and reads and writes 32 of one that has."""

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
_BETA1, _BETA2 = tl.constexpr(0.9), tl.constexpr(0.99)
_EPSILON = tl.constexpr(1e-15)


@triton.jit
def _adam(values, grads, first, second, n, rate, decay, start1, start2, BLOCK: tl.constexpr):
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
    """See `adam.adam_touched`; what changes from step to step are floats, which Triton does not compile for."""
    start1, start2 = 1 / (1 - _BETA1.value ** (step + 1)), 1 / (1 - _BETA2.value ** (step + 1))
    n = values.numel()
    _adam[(triton.cdiv(n, _BLOCK),)](
        values, grads, first, second, n, float(rate), float(decay), start1, start2, BLOCK=_BLOCK
    )  # fmt: skip
