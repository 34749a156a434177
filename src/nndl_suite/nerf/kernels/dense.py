# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Small dense layers on a tile of samples that stays in the cache.

A tile holds `TILE` samples, feature after feature: entry `i * TILE + s` is feature i of sample s, so that the inner
loops run along samples in vector registers. Four outputs by four inputs are handled at once, hence widths are
multiples of 4. On two cores this does two to four times the float32 rate of a general matrix product at such widths.

Indices are unsigned because numba would otherwise check every one for Python's negative indexing, and not vectorise.
"""

import numpy as np
from numba import njit

TILE = 96
"""Samples in a tile: a multiple of the vector width, and divisible by 16, 24, 32 and 48 samples a ray."""
_T = TILE
_T1, _T2, _T3 = np.uint32(TILE), np.uint32(2 * TILE), np.uint32(3 * TILE)
_FAST = {"contract", "reassoc", "nsz"}


@njit(cache=True, fastmath=_FAST)
def dense(weights, width_in, width_out, inputs, outputs):
    """`outputs = weights @ inputs`, weights row after row: float32 [width_out * width_in]."""
    for o in range(0, width_out, 4):
        for s in range(4 * _T):
            outputs[np.uint32(o * _T + s)] = np.float32(0)
        for i in range(0, width_in, 4):
            a = o * width_in + i
            b, c, d = a + width_in, a + 2 * width_in, a + 3 * width_in
            a0, a1, a2, a3 = weights[a], weights[a + 1], weights[a + 2], weights[a + 3]
            b0, b1, b2, b3 = weights[b], weights[b + 1], weights[b + 2], weights[b + 3]
            c0, c1, c2, c3 = weights[c], weights[c + 1], weights[c + 2], weights[c + 3]
            d0, d1, d2, d3 = weights[d], weights[d + 1], weights[d + 2], weights[d + 3]
            for s in range(_T):
                p, q = np.uint32(o * _T + s), np.uint32(i * _T + s)
                x0, x1, x2, x3 = inputs[q], inputs[q + _T1], inputs[q + _T2], inputs[q + _T3]
                outputs[p] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                outputs[p + _T1] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                outputs[p + _T2] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                outputs[p + _T3] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@njit(cache=True, fastmath=_FAST)
def dense_weight_grad(grad_outputs, inputs, width_in, width_out, grad_weights):
    """`grad_weights += grad_outputs @ inputs.T`, the sum over the tile's samples."""
    for o in range(0, width_out, 4):
        for i in range(0, width_in, 4):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
            c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = np.float32(0)
            for s in range(_T):
                p, q = np.uint32(o * _T + s), np.uint32(i * _T + s)
                x0, x1, x2, x3 = inputs[q], inputs[q + _T1], inputs[q + _T2], inputs[q + _T3]
                g0, g1, g2, g3 = grad_outputs[p], grad_outputs[p + _T1], grad_outputs[p + _T2], grad_outputs[p + _T3]
                a0 += g0 * x0
                a1 += g0 * x1
                a2 += g0 * x2
                a3 += g0 * x3
                b0 += g1 * x0
                b1 += g1 * x1
                b2 += g1 * x2
                b3 += g1 * x3
                c0 += g2 * x0
                c1 += g2 * x1
                c2 += g2 * x2
                c3 += g2 * x3
                d0 += g3 * x0
                d1 += g3 * x1
                d2 += g3 * x2
                d3 += g3 * x3
            a = o * width_in + i
            b, c, d = a + width_in, a + 2 * width_in, a + 3 * width_in
            grad_weights[a] += a0
            grad_weights[a + 1] += a1
            grad_weights[a + 2] += a2
            grad_weights[a + 3] += a3
            grad_weights[b] += b0
            grad_weights[b + 1] += b1
            grad_weights[b + 2] += b2
            grad_weights[b + 3] += b3
            grad_weights[c] += c0
            grad_weights[c + 1] += c1
            grad_weights[c + 2] += c2
            grad_weights[c + 3] += c3
            grad_weights[d] += d0
            grad_weights[d + 1] += d1
            grad_weights[d + 2] += d2
            grad_weights[d + 3] += d3


@njit(cache=True, fastmath=_FAST)
def relu(values):
    """Rectify in place."""
    for i in range(values.shape[0]):
        values[i] = max(values[i], np.float32(0))


@njit(cache=True, fastmath=_FAST)
def relu_backward(values, grads):
    """Clear, in place, the gradients where the rectified `values` are zero."""
    for i in range(values.shape[0]):
        grads[i] = grads[i] if values[i] > np.float32(0) else np.float32(0)
