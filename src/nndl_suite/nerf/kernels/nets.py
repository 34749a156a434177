# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""The field's two small networks on one tile of samples.

The density net maps the encoding (32) over 64 rectified units to 16 numbers, the first of which is the log of the
density. The colour net sees these 16 and the spherical harmonics of the direction, has two rectified layers of 64,
and ends in a sigmoid. What the direction adds to its first layer is the same for every sample of a ray and is
computed once a ray.
"""

import numpy as np
from numba import njit

from nndl_suite.nerf.kernels.dense import TILE, dense, dense_weight_grad, relu, relu_backward

ENCODED = 32
"""Numbers that the encoding gives for a point."""
WIDTHS = (ENCODED, 64, 16, 64, 64, 4)
"""Numbers a sample has between layers; at the end three channels and an idle one, since `dense` works in fours."""
HARMONICS = 16
_LAYERS = 5
GEOMETRY = 2  # where in WIDTHS the density net ends
COLOUR = 3  # and where the first layer of the colour net does
OUT = 5
START_LOG_DENSITY = np.float32(-1)
"""Added to what the density net gives, so that space which no photo shows stays as thin as a new field."""
MAX_LOG_DENSITY = np.float32(11)
_FAST = {"contract", "reassoc", "nsz"}

SHAPES = tuple((WIDTHS[i + 1], WIDTHS[i]) for i in range(_LAYERS)) + ((WIDTHS[COLOUR], HARMONICS),)
"""Rows and columns of the matrices in the flat vector of weights; the last is what the direction adds."""
_W = tuple(int(n) for n in np.cumsum([0] + [rows * columns for rows, columns in SHAPES]))
WEIGHTS = _W[-1]
AT = tuple(int(n) * TILE for n in np.cumsum((0, *WIDTHS)))  # where each layer's numbers lie in a tile


@njit(cache=True, fastmath=_FAST)
def harmonics(direction, out):
    """The real spherical harmonics of a unit direction up to degree 3, 16 numbers."""
    x, y, z = direction[0], direction[1], direction[2]
    f = np.float32
    xx, yy, zz = x * x, y * y, z * z
    one = f(1)
    out[0] = f(0.28209479177387814)
    out[1] = f(-0.48860251190291987) * y
    out[2] = f(0.48860251190291987) * z
    out[3] = f(-0.48860251190291987) * x
    out[4] = f(1.0925484305920792) * x * y
    out[5] = f(-1.0925484305920792) * y * z
    out[6] = f(0.31539156525252005) * (f(3) * zz - one)
    out[7] = f(-1.0925484305920792) * x * z
    out[8] = f(0.5462742152960396) * (xx - yy)
    out[9] = f(-0.5900435899266435) * y * (f(3) * xx - yy)
    out[10] = f(2.890611442640554) * x * y * z
    out[11] = f(-0.4570457994644658) * y * (f(5) * zz - one)
    out[12] = f(0.3731763325901154) * z * (f(5) * zz - f(3))
    out[13] = f(-0.4570457994644658) * x * (f(5) * zz - one)
    out[14] = f(1.445305721320277) * z * (xx - yy)
    out[15] = f(-0.5900435899266435) * x * (xx - f(3) * yy)


@njit(cache=True, fastmath=_FAST)
def forward(weights, basis, per_ray, tile, density):
    """Run one tile through both nets.

    `tile` [sum(WIDTHS) * TILE] holds the encoding and gets the rest, the colours last; `density` is [TILE]; `basis` is
    [TILE // per_ray, 16], the harmonics of each ray's direction.
    """
    for i in range(_LAYERS):
        inputs, outputs = tile[AT[i] : AT[i + 1]], tile[AT[i + 1] : AT[i + 2]]
        dense(weights[_W[i] : _W[i + 1]], WIDTHS[i], WIDTHS[i + 1], inputs, outputs)
        if i + 1 == COLOUR:
            _add_direction(weights[_W[_LAYERS] :], basis, per_ray, outputs)
        if i + 1 != GEOMETRY and i + 1 != OUT:
            relu(outputs)
    one = np.float32(1)
    for s in range(AT[OUT], AT[OUT] + 3 * TILE):
        tile[s] = one / (one + np.exp(-tile[s]))
    for s in range(TILE):
        density[s] = np.exp(min(tile[AT[GEOMETRY] + s] + START_LOG_DENSITY, MAX_LOG_DENSITY))


@njit(cache=True, fastmath=_FAST)
def _add_direction(weights, basis, per_ray, outputs):
    for ray in range(basis.shape[0]):
        for o in range(WIDTHS[COLOUR]):
            total = np.float32(0)
            for j in range(HARMONICS):
                total += weights[o * HARMONICS + j] * basis[ray, j]
            start = o * TILE + ray * per_ray
            for s in range(start, start + per_ray):
                outputs[s] += total


@njit(cache=True, fastmath=_FAST)
def _add_direction_backward(grad_outputs, basis, per_ray, grad_weights):
    for ray in range(basis.shape[0]):
        for o in range(WIDTHS[COLOUR]):
            total = np.float32(0)
            start = o * TILE + ray * per_ray
            for s in range(start, start + per_ray):
                total += grad_outputs[s]
            for j in range(HARMONICS):
                grad_weights[o * HARMONICS + j] += total * basis[ray, j]


@njit(cache=True, fastmath=_FAST)
def backward(transposed, basis, per_ray, tile, grad_density, grads, grad_weights):
    """From the gradients of colours (before the sigmoid, in `grads`) and log densities to weights and encoding.

    `grads` is laid out like `tile` and ends with the gradient of the encoding at its start.
    """
    for i in range(_LAYERS - 1, -1, -1):
        inputs, outputs = tile[AT[i] : AT[i + 1]], tile[AT[i + 1] : AT[i + 2]]
        grad_inputs, grad_outputs = grads[AT[i] : AT[i + 1]], grads[AT[i + 1] : AT[i + 2]]
        if i + 1 == GEOMETRY:
            for s in range(TILE):
                grad_outputs[s] += grad_density[s]
        elif i + 1 != OUT:
            relu_backward(outputs, grad_outputs)
        if i + 1 == COLOUR:
            _add_direction_backward(grad_outputs, basis, per_ray, grad_weights[_W[_LAYERS] :])
        dense_weight_grad(grad_outputs, inputs, WIDTHS[i], WIDTHS[i + 1], grad_weights[_W[i] : _W[i + 1]])
        dense(transposed[_W[i] : _W[i + 1]], WIDTHS[i + 1], WIDTHS[i], grad_outputs, grad_inputs)


@njit(cache=True)
def transposed_weights(weights):
    """The same flat vector with every matrix transposed: a layer's input gradient is a layer with these weights."""
    out = np.empty_like(weights)
    start = 0
    for rows, columns in SHAPES:
        for r in range(rows):
            for c in range(columns):
                out[start + c * rows + r] = weights[start + r * columns + c]
        start += rows * columns
    return out
