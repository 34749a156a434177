# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""The field's two small networks and volume rendering, fused: a tile of samples never leaves the cache.

The density net maps the encoding (32) over 64 rectified units to 16 numbers, the first of which is the log of the
density. The colour net sees these 16 and the spherical harmonics of the direction, has two rectified layers of 64,
and ends in a sigmoid. What the direction adds to its first layer is the same for every sample of a ray and is
computed once a ray.

Samples are handled `TILE` at a time, whole rays only. Weight gradients are summed chunk by chunk and then over
chunks, in an order that does not depend on the number of threads.
"""

import numpy as np
from numba import njit, prange

from nndl_suite.nerf.kernels.composite import distortion, ray_weights, ray_weights_backward
from nndl_suite.nerf.kernels.dense import TILE, dense, dense_weight_grad, relu, relu_backward
from nndl_suite.nerf.kernels.marching import place_of

ENCODED = 32
"""Numbers that the encoding gives for a point."""
WIDTHS = (ENCODED, 64, 16, 64, 64, 4)
"""Numbers a sample has between layers; at the end three channels and an idle one, since `dense` works in fours."""
HARMONICS = 16
_LAYERS = 5
_GEOMETRY = 2  # where in WIDTHS the density net ends
_COLOUR = 3  # and where the first layer of the colour net does
_OUT = 5
START_LOG_DENSITY = np.float32(-1)
"""Added to what the density net gives, so that space which no photo shows stays as thin as a new field."""
_MAX_LOG_DENSITY = np.float32(11)
_FAST = {"contract", "reassoc", "nsz"}

SHAPES = tuple((WIDTHS[i + 1], WIDTHS[i]) for i in range(_LAYERS)) + ((WIDTHS[_COLOUR], HARMONICS),)
"""Rows and columns of the matrices in the flat vector of weights; the last is what the direction adds."""
_W = tuple(int(n) for n in np.cumsum([0] + [rows * columns for rows, columns in SHAPES]))
WEIGHTS = _W[-1]
_A = tuple(int(n) * TILE for n in np.cumsum((0, *WIDTHS)))  # where each layer's numbers lie in a tile


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
def _forward(weights, basis, per_ray, tile, density):
    """Run one tile through both nets.

    `tile` [sum(WIDTHS) * TILE] holds the encoding and gets the rest, the colours last; `density` is [TILE]; `basis` is
    [TILE // per_ray, 16], the harmonics of each ray's direction.
    """
    for i in range(_LAYERS):
        inputs, outputs = tile[_A[i] : _A[i + 1]], tile[_A[i + 1] : _A[i + 2]]
        dense(weights[_W[i] : _W[i + 1]], WIDTHS[i], WIDTHS[i + 1], inputs, outputs)
        if i + 1 == _COLOUR:
            _add_direction(weights[_W[_LAYERS] :], basis, per_ray, outputs)
        if i + 1 != _GEOMETRY and i + 1 != _OUT:
            relu(outputs)
    one = np.float32(1)
    for s in range(_A[_OUT], _A[_OUT] + 3 * TILE):
        tile[s] = one / (one + np.exp(-tile[s]))
    for s in range(TILE):
        density[s] = np.exp(min(tile[_A[_GEOMETRY] + s] + START_LOG_DENSITY, _MAX_LOG_DENSITY))


@njit(cache=True, fastmath=_FAST)
def _add_direction(weights, basis, per_ray, outputs):
    for ray in range(basis.shape[0]):
        for o in range(WIDTHS[_COLOUR]):
            total = np.float32(0)
            for j in range(HARMONICS):
                total += weights[o * HARMONICS + j] * basis[ray, j]
            start = o * TILE + ray * per_ray
            for s in range(start, start + per_ray):
                outputs[s] += total


@njit(cache=True, fastmath=_FAST)
def _add_direction_backward(grad_outputs, basis, per_ray, grad_weights):
    for ray in range(basis.shape[0]):
        for o in range(WIDTHS[_COLOUR]):
            total = np.float32(0)
            start = o * TILE + ray * per_ray
            for s in range(start, start + per_ray):
                total += grad_outputs[s]
            for j in range(HARMONICS):
                grad_weights[o * HARMONICS + j] += total * basis[ray, j]


@njit(cache=True, fastmath=_FAST)
def _backward(transposed, basis, per_ray, tile, grad_density, grads, grad_weights):
    """From the gradients of colours (before the sigmoid, in `grads`) and log densities to weights and encoding.

    `grads` is laid out like `tile` and ends with the gradient of the encoding at its start.
    """
    for i in range(_LAYERS - 1, -1, -1):
        inputs, outputs = tile[_A[i] : _A[i + 1]], tile[_A[i + 1] : _A[i + 2]]
        grad_inputs, grad_outputs = grads[_A[i] : _A[i + 1]], grads[_A[i + 1] : _A[i + 2]]
        if i + 1 == _GEOMETRY:
            for s in range(TILE):
                grad_outputs[s] += grad_density[s]
        elif i + 1 != _OUT:
            relu_backward(outputs, grad_outputs)
        if i + 1 == _COLOUR:
            _add_direction_backward(grad_outputs, basis, per_ray, grad_weights[_W[_LAYERS] :])
        dense_weight_grad(grad_outputs, inputs, WIDTHS[i], WIDTHS[i + 1], grad_weights[_W[i] : _W[i + 1]])
        dense(transposed[_W[i] : _W[i + 1]], WIDTHS[i + 1], WIDTHS[i], grad_outputs, grad_inputs)


@njit(cache=True)
def _transposed(weights):
    """The same flat vector with every matrix transposed: a layer's input gradient is a layer with these weights."""
    out = np.empty_like(weights)
    start = 0
    for rows, columns in SHAPES:
        for r in range(rows):
            for c in range(columns):
                out[start + c * rows + r] = weights[start + r * columns + c]
        start += rows * columns
    return out


@njit(cache=True)
def _read_tile(encoding, start, tile):
    """Copy samples `start ...` of `encoding` [32, n] into a tile; places past the end repeat the last sample."""
    n = encoding.shape[1]
    count = min(TILE, n - start)
    for i in range(ENCODED):
        for s in range(count):
            tile[i * TILE + s] = encoding[i, start + s]
        for s in range(count, TILE):
            tile[i * TILE + s] = encoding[i, n - 1]


@njit(cache=True)
def _shade_tiles(weights, encoding, directions, first, end, density, rgb):
    n = encoding.shape[1]
    per_ray = n // directions.shape[0]
    rays = TILE // per_ray
    tile, sigma = np.empty(_A[-1], np.float32), np.empty(TILE, np.float32)
    basis = np.zeros((rays, HARMONICS), np.float32)
    for t in range(first, end):
        start = t * TILE
        _read_tile(encoding, start, tile)
        for ray in range(rays):
            harmonics(directions[min(t * rays + ray, directions.shape[0] - 1)], basis[ray])
        _forward(weights, basis, per_ray, tile, sigma)
        for s in range(min(TILE, n - start)):
            density[start + s] = sigma[s]
            for c in range(3):
                rgb[start + s, c] = tile[_A[_OUT] + c * TILE + s]


@njit(parallel=True, cache=True)
def shade(weights, encoding, directions, chunks, density, rgb):
    """Densities float32 [n] and colours float32 [n, 3] of `encoding` [32, n], seen along `directions` [r, 3].

    Each direction serves n / r consecutive samples, a divisor of `TILE`. The work is cut into `chunks`.
    """
    tiles = (encoding.shape[1] + TILE - 1) // TILE
    for chunk in prange(chunks):
        _shade_tiles(
            weights, encoding, directions, chunk * tiles // chunks, (chunk + 1) * tiles // chunks, density, rgb
        )


@njit(cache=True, fastmath=_FAST)
def _ray_loss(edges, sigma, rgb, first, target, background, gain, rules, grad_sigma, grad_rgb, gain_grad, scratch):
    """Squared error (mean of channels) and distortion of one ray, and the gradients with respect to its samples."""
    open_end, knee, spread, _ = rules
    samples = edges.shape[0] - 1
    weights, grad_weights, places = scratch[0, :samples], scratch[1, :samples], scratch[2, : samples + 1]
    left_over = ray_weights(sigma, edges, weights)
    last = samples - 1
    third = np.float32(1 / 3)
    error = grad_left_over = np.float32(0)
    for k in range(samples):
        grad_weights[k] = np.float32(0)
    for c in range(3):
        row = c * TILE + first
        behind = rgb[row + last] if open_end else background[c]
        seen = left_over * behind
        for k in range(samples):
            seen += weights[k] * rgb[row + k]
        seen *= gain[c]
        miss = seen - target[c]
        error += third * miss * miss
        gain_grad[c] = third * (miss + miss) * seen
        grad_seen = third * (miss + miss) * gain[c]
        for k in range(samples):
            grad_weights[k] += grad_seen * rgb[row + k]
            grad_rgb[row + k] = grad_seen * weights[k]
        if open_end:
            grad_rgb[row + last] += grad_seen * left_over
        grad_left_over += grad_seen * behind
    for k in range(samples + 1):
        places[k] = place_of(edges[k], knee)
    spread_out = distortion(weights, places, grad_weights, spread)
    ray_weights_backward(sigma, edges, weights, left_over, grad_weights, grad_left_over, grad_sigma)
    return error, spread_out


@njit(cache=True, fastmath=_FAST)
def _before_activation(edges, first, close, tile, sigma, grad_sigma, grad_rgb):
    """Turn a ray's gradients into those of the nets' raw outputs, and slow down what is close to the camera."""
    one, zero = np.float32(1), np.float32(0)
    for k in range(edges.shape[0] - 1):
        s = first + k
        distance = min(np.float32(0.5) * (edges[k] + edges[k + 1]) / close, one)
        slow = distance * distance
        rising = tile[_A[_GEOMETRY] + s] + START_LOG_DENSITY < _MAX_LOG_DENSITY
        grad_sigma[s] *= slow * sigma[s] if rising else zero  # the density is an exponential, cut off at the top
        for c in range(3):
            p = c * TILE + s
            colour = tile[_A[_OUT] + p]
            grad_rgb[p] *= slow * colour * (one - colour)


@njit(cache=True)
def _learn_tiles(weights, transposed, rays, rules, first, end, out, grad_weights):
    encoding, edges, directions, target, background, gain = rays
    density, grad_encoding, gain_grad, losses = out
    samples = edges.shape[1] - 1
    rays_per_tile = TILE // samples
    f = np.float32
    tile, grads = np.empty(_A[-1], f), np.zeros(_A[-1], f)
    grad_sigma = np.empty(TILE, f)
    rgb, grad_rgb = tile[_A[_OUT] :], grads[_A[_OUT] :]
    basis, scratch = np.empty((rays_per_tile, HARMONICS), f), np.empty((3, samples + 1), f)
    grad_weights.fill(f(0))
    for t in range(first, end):
        sigma = density[t * TILE : (t + 1) * TILE]
        _read_tile(encoding, t * TILE, tile)
        for ray in range(rays_per_tile):
            harmonics(directions[t * rays_per_tile + ray], basis[ray])
        _forward(weights, basis, samples, tile, sigma)
        for ray in range(rays_per_tile):
            r, a, b = t * rays_per_tile + ray, ray * samples, (ray + 1) * samples
            losses[r, 0], losses[r, 1] = _ray_loss(
                edges[r], sigma[a:b], rgb, a, target[r], background[r], gain[r], rules,
                grad_sigma[a:b], grad_rgb, gain_grad[r], scratch,
            )  # fmt: skip
            _before_activation(edges[r], a, rules[3], tile, sigma, grad_sigma, grad_rgb)
        _backward(transposed, basis, samples, tile, grad_sigma, grads, grad_weights)
        for i in range(ENCODED):
            for s in range(TILE):
                grad_encoding[i, t * TILE + s] = grads[i * TILE + s]


@njit(parallel=True, cache=True)
def shade_and_learn(weights, rays, rules, out, grad_weights):
    """Shade the samples of whole rays, compare with the photos, and go all the way back to the encoding.

    The loss of a ray is the mean squared error of its three channels plus `spread` times its distortion; gradients
    are of the sum over rays, since Adam does not see the scale.

    Args:
        weights: float32 [WEIGHTS].
        rays: What the rays meet and should show, all float32: `encoding` [32, r * s], where s divides `TILE` and r *
            s is a multiple of it; `edges` [r, s+1], the distances that bound the samples; `directions`, `target` and
            `background` [r, 3]; `gain` [r, 3], the photo's exposure, which multiplies the ray's colour.
        rules: `open_end`, where true the last sample takes all the light that is left and `background` is not used;
            `knee`, see `place_of`; `spread`, the weight of the distortion; `close`: samples nearer than this to the
            camera learn more slowly, by the squared distance, for there many more rays run through a piece of space,
            and floaters grow (arXiv 2305.02756).
        out: Arrays to fill, float32: `density` [r * s]; `grad_encoding` [32, r * s]; `gain_grad` [r, 3], the gradient
            with respect to the gain's logarithm; `losses` [r, 2], squared error and distortion.
        grad_weights: float32 [chunks, WEIGHTS], filled; the gradient is the sum over chunks.
    """
    tiles = rays[0].shape[1] // TILE
    chunks = grad_weights.shape[0]
    transposed = _transposed(weights)
    for chunk in prange(chunks):
        first, end = chunk * tiles // chunks, (chunk + 1) * tiles // chunks
        _learn_tiles(weights, transposed, rays, rules, first, end, out, grad_weights[chunk])
