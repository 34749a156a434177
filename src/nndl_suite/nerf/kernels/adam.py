# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Adam (arXiv 1412.6980) that leaves alone what a step did not touch."""

import numpy as np
from numba import njit

_BLOCK = 32
_BETA1 = 0.9
_BETA2 = 0.99
_EPSILON = np.float32(1e-15)
"""So small because a hash row's gradient may be tiny and still all the information there is (arXiv 2201.05989)."""


@njit(cache=True, fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
def adam_touched(values, grads, first, second, rate, decay, step):
    """One step in place on the entries whose gradient is not zero; clears the gradients.

    Args:
        values, grads, first, second: float32 [n]: entries, their gradients, and the two running moments.
        rate: float32 learning rate.
        decay: float32 weight of the L2 penalty `decay / 2 * values**2`, on touched entries only.
        step: Steps done before this one, for the correction of the moments' start at zero.
    """
    one = np.float32(1)
    zero = np.float32(0)
    beta1, beta2 = np.float32(_BETA1), np.float32(_BETA2)
    start1 = np.float32(1.0 / (1.0 - _BETA1 ** (step + 1)))
    start2 = np.float32(1.0 / (1.0 - _BETA2 ** (step + 1)))
    for block in range(0, values.shape[0], _BLOCK):
        end = min(block + _BLOCK, values.shape[0])
        anything = zero
        for i in range(block, end):
            anything += abs(grads[i])
        if anything == zero:
            continue  # most of a large table most of the time: reading the gradients is all it costs
        for i in range(block, end):
            grad = grads[i]
            touched = grad != zero
            grad += decay * values[i]
            m = beta1 * first[i] + (one - beta1) * grad
            v = beta2 * second[i] + (one - beta2) * grad * grad
            change = rate * (m * start1) / (np.sqrt(v * start2) + _EPSILON)
            # written as selections, not as a branch, so that the loop runs in vector registers
            first[i] = m if touched else first[i]
            second[i] = v if touched else second[i]
            values[i] -= change if touched else zero
            grads[i] = zero
