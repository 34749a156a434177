# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""Volume rendering of rays in Triton: a program holds some whole rays, samples padded to a power of two.

Learning moves 48 bytes a sample, a picture 20.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from nndl_suite.nerf.gpu.learning import Rules
from nndl_suite.nerf.gpu.triton_marching import place_of
from nndl_suite.nerf.kernels.nets import MAX_LOG_DENSITY

_ELEMENTS = 512
_LIMIT = tl.constexpr(math.exp(float(MAX_LOG_DENSITY)) * (1 - 1e-6))
"""A density from here on was cut off."""
_OPAQUE = tl.constexpr(32.0)
"""More optical depth than this stops no more light, but would cost the running sum the digits of what lies before."""
_THROUGH = tl.constexpr(1 / 12)
_THIRD, _TWO_THIRDS = tl.constexpr(1 / 3), tl.constexpr(2 / 3)


def ray_blocks(rays: int, samples: int) -> tuple[int, int, tuple[int]]:
    """Rays of a program, samples padded, and the grid of programs."""
    padded = triton.next_power_of_2(samples)
    each = max(_ELEMENTS // padded, 1)
    return each, padded, (triton.cdiv(rays, each),)


@triton.jit
def ray_places(rays, samples, RAYS: tl.constexpr, PADDED: tl.constexpr):
    """The program's rays [RAYS], their samples' numbers [1, PADDED], and which of both there are."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    k = tl.arange(0, PADDED)[None, :]
    return ray, k, (ray < rays)[:, None] & (k < samples)


@triton.jit
def ray_edges(edges, ray, k, here, samples):
    """Where each sample begins and ends; padding has no length."""
    at = edges + ray[:, None] * (samples + 1) + k
    return tl.load(at, mask=here, other=1.0), tl.load(at + 1, mask=here, other=1.0)


@triton.jit
def _weights(depth):
    """Compositing weights, the transmittance behind each sample, and behind the last."""
    depth = tl.minimum(depth, _OPAQUE)
    upto = tl.cumsum(depth, axis=1)
    weights = tl.exp(depth - upto) * (1.0 - tl.exp(-depth))
    return weights, tl.exp(-upto), tl.exp(-tl.sum(depth, axis=1))


@triton.jit
def _distortion(weights, near, far, knee):
    """See `kernels.composite.distortion`: its value, and half of its gradient with respect to the weights."""
    first, last = place_of(near, knee), place_of(far, knee)
    middle, width = 0.5 * (first + last), last - first
    left, left_middle = tl.cumsum(weights, axis=1), tl.cumsum(weights * middle, axis=1)
    right = tl.sum(weights, axis=1)[:, None] - left
    right_middle = tl.sum(weights * middle, axis=1)[:, None] - left_middle
    # a sample's own weight is in `left`, where its distance to itself is 0
    slope = middle * left - left_middle + right_middle - middle * right + weights * width * _THIRD
    return tl.sum(weights * slope, axis=1), slope


@triton.jit
def _ray_loss(
    density, rgb, edges, target, background, through, gain, grads, grad_gain, losses, rays, samples, n,
    knee, spread, close, fog, OPEN_END: tl.constexpr, RAYS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """See `kernels.tiles.shade_and_learn`; `grads` [4, n] gets those of the log density and of the raw colours."""
    ray, k, here = ray_places(rays, samples, RAYS, PADDED)
    known = ray < rays
    at = ray[:, None] * samples + k
    near, far = ray_edges(edges, ray, k, here, samples)
    sigma = tl.load(density + at, mask=here, other=0.0)
    weights, passed, left_over = _weights(sigma * (far - near))
    middle = 0.5 * (near + far)
    slow = tl.minimum(middle / close, 1.0)
    slow = slow * slow
    error, grad_left_over = tl.zeros_like(left_over), tl.zeros_like(left_over)
    spread_out, slope = _distortion(weights, near, far, knee)
    grad_weights = 2.0 * spread * slope + fog * tl.maximum(1.0 - middle / close, 0.0)
    for c in tl.static_range(3):
        colour = tl.load(rgb + c * n + at, mask=here, other=0.0)
        if OPEN_END:
            behind = tl.load(rgb + c * n + ray * samples + samples - 1, mask=known, other=0.0)
        else:
            behind = tl.load(background + 3 * ray + c, mask=known, other=0.0)
        exposure = tl.load(gain + 3 * ray + c, mask=known, other=0.0)
        seen = exposure * (tl.sum(weights * colour, axis=1) + left_over * behind)
        miss = seen - tl.load(target + 3 * ray + c, mask=known, other=0.0)
        error += miss * miss * _THIRD
        tl.store(grad_gain + 3 * ray + c, miss * seen * _TWO_THIRDS, mask=known)
        grad_seen = miss * exposure * _TWO_THIRDS
        grad_left_over += grad_seen * behind
        grad_weights += grad_seen[:, None] * colour
        share = weights
        if OPEN_END:
            share = tl.where(k == samples - 1, weights + left_over[:, None], weights)
        grad_colour = grad_seen[:, None] * share * slow * colour * (1.0 - colour)
        tl.store(grads + (c + 1) * n + at, grad_colour, mask=here)
    if not OPEN_END:
        excess = left_over - tl.load(through + ray, mask=known, other=0.0)
        error += excess * excess * _THROUGH
        grad_left_over += 2.0 * excess * _THROUGH
    moved = tl.where(here, weights * grad_weights, 0.0)
    behind_all = (left_over * grad_left_over + tl.sum(moved, axis=1))[:, None] - tl.cumsum(moved, axis=1)
    grad_depth = passed * grad_weights - behind_all
    grad_log = tl.where(sigma < _LIMIT, grad_depth * (far - near) * sigma * slow, 0.0)
    tl.store(grads + at, grad_log, mask=here)
    tl.store(losses + 2 * ray, error, mask=known)
    tl.store(losses + 2 * ray + 1, spread_out, mask=known)


@triton.jit
def _composite(
    density, rgb, edges, background, seen, depth, opacity, rays, samples,
    OPEN_END: tl.constexpr, RAYS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    ray, k, here = ray_places(rays, samples, RAYS, PADDED)
    known = ray < rays
    at = ray[:, None] * samples + k
    near, far = ray_edges(edges, ray, k, here, samples)
    weights, _, left_over = _weights(tl.load(density + at, mask=here, other=0.0) * (far - near))
    for c in tl.static_range(3):
        colour = tl.load(rgb + 3 * at + c, mask=here, other=0.0)
        if OPEN_END:
            behind = tl.load(rgb + 3 * (ray * samples + samples - 1) + c, mask=known, other=0.0)
        else:
            behind = tl.load(background + c)
        tl.store(seen + 3 * ray + c, tl.sum(weights * colour, axis=1) + left_over * behind, mask=known)
    tl.store(opacity + ray, 1.0 - left_over, mask=known)
    upto = tl.cumsum(weights, axis=1)
    before = tl.max(tl.where(upto < 0.5, upto, 0.0), axis=1)
    at_half = tl.sum((here & (upto < 0.5)).to(tl.int32), axis=1)  # the sample where half the light is stopped
    found = k == at_half[:, None]
    share = tl.sum(tl.where(found, weights, 0.0), axis=1)
    start, end = tl.sum(tl.where(found, near, 0.0), axis=1), tl.sum(tl.where(found, far, 0.0), axis=1)
    inside = (0.5 - before) / tl.where(share > 0.0, share, 1.0)
    last = tl.load(edges + ray * (samples + 1) + samples, mask=known, other=0.0)
    tl.store(depth + ray, tl.where(at_half < samples, start + inside * (end - start), last), mask=known)


def ray_loss(
    density: Tensor,
    rgb: Tensor,
    rays: tuple[Tensor, ...],
    grads: Tensor,
    grad_gain: Tensor,
    losses: Tensor,
    rules: Rules,
) -> None:
    """Fill `grads` [4, n], `grad_gain` and `losses`.

    `rays` are edges, target, background, through and gain; `rgb` is [3, n].
    """
    count, samples = len(rays[0]), rays[0].shape[1] - 1
    each, padded, blocks = ray_blocks(count, samples)
    _ray_loss[blocks](
        density, rgb, *rays, grads, grad_gain, losses, count, samples, len(density),
        float(rules.knee), float(rules.spread), float(rules.close), float(rules.fog),
        OPEN_END=rules.open_end, RAYS=each, PADDED=padded,
    )  # fmt: skip


def composite(
    density: Tensor, rgb: Tensor, edges: Tensor, *, background: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See `compositing.composite`."""
    count, samples = len(edges), edges.shape[1] - 1
    each, padded, blocks = ray_blocks(count, samples)
    seen, depth, opacity = density.new_empty(count, 3), density.new_empty(count), density.new_empty(count)
    open_end = background is None
    _composite[blocks](
        density, rgb, edges, seen if open_end else background, seen, depth, opacity, count, samples,
        OPEN_END=open_end, RAYS=each, PADDED=padded,
    )  # fmt: skip
    return seen, depth, opacity
