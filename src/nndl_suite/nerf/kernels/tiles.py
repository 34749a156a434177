# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""The two networks and volume rendering, fused: a tile of samples never leaves the cache.

Samples are handled `TILE` at a time, whole rays only. Weight gradients are summed chunk by chunk and then over
chunks, in an order that does not depend on the number of threads.
"""

import numpy as np
from numba import njit, prange

from nndl_suite.nerf.kernels.composite import distortion, ray_weights, ray_weights_backward
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.kernels.marching import place_of
from nndl_suite.nerf.kernels.nets import (
    AT,
    ENCODED,
    GEOMETRY,
    HARMONICS,
    MAX_LOG_DENSITY,
    OUT,
    START_LOG_DENSITY,
    backward,
    forward,
    harmonics,
    transposed_weights,
)

_FAST = {"contract", "reassoc", "nsz"}
_THROUGH = np.float32(1 / 12)
"""The variance of a uniformly random background: the weight of light that passes wrongly."""


@njit(cache=True)
def read_tile(encoding, start, tile):
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
    tile, sigma = np.empty(AT[-1], np.float32), np.empty(TILE, np.float32)
    basis = np.zeros((rays, HARMONICS), np.float32)
    for t in range(first, end):
        start = t * TILE
        read_tile(encoding, start, tile)
        for ray in range(rays):
            harmonics(directions[min(t * rays + ray, directions.shape[0] - 1)], basis[ray])
        forward(weights, basis, per_ray, tile, sigma)
        for s in range(min(TILE, n - start)):
            density[start + s] = sigma[s]
            for c in range(3):
                rgb[start + s, c] = tile[AT[OUT] + c * TILE + s]


@njit(parallel=True, cache=True, nogil=True)
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
def _ray_loss(edges, sigma, rgb, first, wanted, gain, rules, grad_sigma, grad_rgb, gain_grad, scratch):
    """Squared error (mean of channels) and distortion of one ray, and the gradients with respect to its samples."""
    target, background, through = wanted
    open_end, knee, spread, close, fog = rules
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
    if not open_end:
        excess = left_over - through
        error += _THROUGH * excess * excess
        grad_left_over += _THROUGH * (excess + excess)
    for k in range(samples):
        distance = np.float32(0.5) * (edges[k] + edges[k + 1])
        grad_weights[k] += fog * max(np.float32(1) - distance / close, np.float32(0))
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
        rising = tile[AT[GEOMETRY] + s] + START_LOG_DENSITY < MAX_LOG_DENSITY
        grad_sigma[s] *= slow * sigma[s] if rising else zero  # the density is an exponential, cut off at the top
        for c in range(3):
            p = c * TILE + s
            colour = tile[AT[OUT] + p]
            grad_rgb[p] *= slow * colour * (one - colour)


@njit(cache=True)
def _learn_tiles(weights, transposed, rays, rules, first, end, out, grad_weights):
    encoding, edges, directions, target, background, through, gain = rays
    density, grad_encoding, gain_grad, losses = out
    samples = edges.shape[1] - 1
    rays_per_tile = TILE // samples
    f = np.float32
    tile, grads = np.empty(AT[-1], f), np.zeros(AT[-1], f)
    grad_sigma = np.empty(TILE, f)
    rgb, grad_rgb = tile[AT[OUT] :], grads[AT[OUT] :]
    basis, scratch = np.empty((rays_per_tile, HARMONICS), f), np.empty((3, samples + 1), f)
    grad_weights.fill(f(0))
    for t in range(first, end):
        sigma = density[t * TILE : (t + 1) * TILE]
        read_tile(encoding, t * TILE, tile)
        for ray in range(rays_per_tile):
            harmonics(directions[t * rays_per_tile + ray], basis[ray])
        forward(weights, basis, samples, tile, sigma)
        for ray in range(rays_per_tile):
            r, a, b = t * rays_per_tile + ray, ray * samples, (ray + 1) * samples
            losses[r, 0], losses[r, 1] = _ray_loss(
                edges[r], sigma[a:b], rgb, a, (target[r], background[r], through[r]), gain[r], rules,
                grad_sigma[a:b], grad_rgb, gain_grad[r], scratch,
            )  # fmt: skip
            _before_activation(edges[r], a, rules[3], tile, sigma, grad_sigma, grad_rgb)
        backward(transposed, basis, samples, tile, grad_sigma, grads, grad_weights)
        for i in range(ENCODED):
            for s in range(TILE):
                grad_encoding[i, t * TILE + s] = grads[i * TILE + s]


@njit(parallel=True, cache=True)
def shade_and_learn(weights, rays, rules, out, grad_weights):
    """Shade the samples of whole rays, compare with the photos, and go all the way back to the encoding.

    The loss of a ray is the mean squared error of its three channels plus `spread` times its distortion; before a
    background, a twelfth of the squared error of the light that passes is added. On a grey background that is what
    uniformly random backgrounds cost on average, without their noise. Gradients are of the sum over rays, since Adam
    does not see the scale.

    Args:
        weights: float32 [WEIGHTS].
        rays: What the rays meet and should show, all float32: `encoding` [32, r * s], where s divides `TILE` and r *
            s is a multiple of it; `edges` [r, s+1], the distances that bound the samples; `directions`, `target` and
            `background` [r, 3]; `through` [r], the light that should pass all samples; `gain` [r, 3], the photo's
            exposure, which multiplies the ray's colour.
        rules: `open_end`, where true the last sample takes all the light that is left, and `background` and `through`
            are not used; `knee`, see `place_of`; `spread`, the weight of the distortion; `close` and `fog`: light that
            is stopped at a distance d < `close` costs fog * (1 - d / close), and samples there learn more slowly, by
            the squared distance (arXiv 2305.02756), for there grow the floaters that only one photo sees.
        out: Arrays to fill, float32: `density` [r * s]; `grad_encoding` [32, r * s]; `gain_grad` [r, 3], the gradient
            with respect to the gain's logarithm; `losses` [r, 2], squared error and distortion.
        grad_weights: float32 [chunks, WEIGHTS], filled; the gradient is the sum over chunks.
    """
    tiles = rays[0].shape[1] // TILE
    chunks = grad_weights.shape[0]
    transposed = transposed_weights(weights)
    for chunk in prange(chunks):
        first, end = chunk * tiles // chunks, (chunk + 1) * tiles // chunks
        _learn_tiles(weights, transposed, rays, rules, first, end, out, grad_weights[chunk])
