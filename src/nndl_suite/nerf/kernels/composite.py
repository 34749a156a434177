# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Volume rendering along one ray: densities to weights, and back (Mildenhall et al., arXiv 2003.08934, eq. 3)."""

import numpy as np
from numba import njit, prange

_EXACT = {"contract", "nsz"}


@njit(cache=True, fastmath=_EXACT)
def ray_weights(density, edges, weights):
    """Fill `weights[k] = T_k (1 - exp(-density[k] (edges[k+1] - edges[k])))`; return the transmittance behind the last.

    All float32: density [s], edges [s+1], weights [s].
    """
    one = np.float32(1)
    transmittance = one
    for k in range(density.shape[0]):
        passed = transmittance * np.exp(-density[k] * (edges[k + 1] - edges[k]))
        weights[k] = transmittance - passed
        transmittance = passed
    return transmittance


@njit(cache=True, fastmath=_EXACT)
def ray_weights_backward(density, edges, weights, transmittance, grad_weights, grad_transmittance, grad_density):
    """Fill `grad_density` from the gradients with respect to what `ray_weights` gave.

    An optical depth of sample k moves light from everything behind it (share `behind`) to its own weight:
    d w_k = T_{k+1} d tau_k, d w_j = -w_j d tau_k for j > k, d T = -T d tau_k.
    """
    behind = transmittance * grad_transmittance
    passed = transmittance
    for k in range(density.shape[0] - 1, -1, -1):
        grad_density[k] = (passed * grad_weights[k] - behind) * (edges[k + 1] - edges[k])
        behind += weights[k] * grad_weights[k]
        passed += weights[k]


@njit(cache=True, fastmath=_EXACT)
def distortion(weights, places, grad_weights, scale):
    """How spread out the weights lie along the ray (Mip-NeRF 360, arXiv 2111.12077, eq. 15), in linear time.

    With interval k from `places[k]` to `places[k+1]`, middle m_k and width d_k it is
    sum_ij w_i w_j |m_i - m_j| + sum_i w_i^2 d_i / 3. Adds `scale` times its gradient to `grad_weights`.
    """
    half, third = np.float32(0.5), np.float32(1 / 3)
    zero, two = np.float32(0), np.float32(2)
    total_w = total_wm = zero
    for k in range(weights.shape[0]):
        total_w += weights[k]
        total_wm += weights[k] * half * (places[k] + places[k + 1])
    left_w = left_wm = loss = zero
    for k in range(weights.shape[0]):
        w = weights[k]
        middle, width = half * (places[k] + places[k + 1]), places[k + 1] - places[k]
        right_w, right_wm = total_w - left_w - w, total_wm - left_wm - w * middle
        apart = middle * left_w - left_wm + right_wm - middle * right_w  # sum_j w_j |m_j - m_k|
        loss += w * (apart + third * w * width)
        grad_weights[k] += scale * two * (apart + third * w * width)
        left_w += w
        left_wm += w * middle
    return loss


@njit(parallel=True, cache=True, nogil=True, fastmath=_EXACT)
def composite(density, rgb, edges, open_end, background, seen, depth, opacity):
    """Render rays, each of s consecutive samples.

    Args:
        density, rgb: float32 [r * s] and [r * s, 3].
        edges: float32 [r, s+1] distances.
        open_end: The last sample takes all the light that is left; otherwise `background` does.
        background: float32 [3].
        seen: float32 [r, 3], filled with colours.
        depth: float32 [r], filled with the distance at which half the light is stopped, or the last edge.
        opacity: float32 [r], filled with the share of light that the samples stop.
    """
    samples = edges.shape[1] - 1
    half = np.float32(0.5)
    for r in prange(edges.shape[0]):
        weights = np.empty(samples, np.float32)
        start = r * samples
        left_over = ray_weights(density[start : start + samples], edges[r], weights)
        for c in range(3):
            behind = rgb[start + samples - 1, c] if open_end else background[c]
            total = left_over * behind
            for k in range(samples):
                total += weights[k] * rgb[start + k, c]
            seen[r, c] = total
        opacity[r] = np.float32(1) - left_over
        depth[r] = edges[r, samples]
        stopped = np.float32(0)
        for k in range(samples):
            if stopped + weights[k] >= half:
                inside = (half - stopped) / weights[k]
                depth[r] = edges[r, k] + inside * (edges[r, k + 1] - edges[r, k])
                break
            stopped += weights[k]
