# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportOperatorIssue=false
# ruff: noqa: PLR0913
# Types are Triton's, found when a kernel is compiled; it writes to tensors that it is given.
"""The field's two networks in Triton, fused: what lies between layers never leaves the multiprocessor.

A tile is some samples by features. Forwards, layers multiply in float16. Backwards the forward pass is done again,
which costs less than to read activations back, and gradients are bfloat16, for they span more orders of magnitude than
float16 has. All sums are float32. Layers narrower than 16 are padded to it, the least that tensor cores take.

A sample costs 20 kFLOP forwards and 60 backwards (padding counted), and moves 128 + 16 bytes forwards and 256 + 32
backwards: on an H200 both are bound by memory, not by arithmetic.
"""

import triton
import triton.language as tl
from torch import Tensor

from nndl_suite.nerf.kernels import nets

FORWARD_TILE, BACKWARD_TILE = 64, 32
WARPS = 2
"""Fewer than a warp group of 4, so that matrices are multiplied by `mma.sync`: compiled to Hopper's `wgmma`, Triton 3.6
gave gradients of noise (on an H200 1.3 apart in norm with 8 warps, reads outside of memory with 4); these are 0.005
apart. Loads are not staged ahead: weights would fill the shared memory."""
_START, _MOST = tl.constexpr(float(nets.START_LOG_DENSITY)), tl.constexpr(float(nets.MAX_LOG_DENSITY))
_STARTS = [sum(rows * columns for rows, columns in nets.SHAPES[:i]) for i in range(len(nets.SHAPES))]
_W0, _W1, _W2, _W3, _W4, _TOWARD = (tl.constexpr(start) for start in _STARTS)
_WEIGHTS = tl.constexpr(nets.WEIGHTS)
_ENCODED = tl.constexpr(nets.ENCODED)


@triton.jit
def _harmonics(directions, basis, rays, BLOCK: tl.constexpr):
    """The spherical harmonics of each ray's direction, float16 [r, 16]; see `kernels.nets.harmonics`."""
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = ray < rays
    x = tl.load(directions + 3 * ray, mask=here, other=0.0)
    y = tl.load(directions + 3 * ray + 1, mask=here, other=0.0)
    z = tl.load(directions + 3 * ray + 2, mask=here, other=0.0)
    xx, yy, zz = x * x, y * y, z * z
    out = basis + 16 * ray
    tl.store(out, tl.zeros_like(x) + 0.28209479177387814, mask=here)
    tl.store(out + 1, -0.48860251190291987 * y, mask=here)
    tl.store(out + 2, 0.48860251190291987 * z, mask=here)
    tl.store(out + 3, -0.48860251190291987 * x, mask=here)
    tl.store(out + 4, 1.0925484305920792 * x * y, mask=here)
    tl.store(out + 5, -1.0925484305920792 * y * z, mask=here)
    tl.store(out + 6, 0.31539156525252005 * (3 * zz - 1), mask=here)
    tl.store(out + 7, -1.0925484305920792 * x * z, mask=here)
    tl.store(out + 8, 0.5462742152960396 * (xx - yy), mask=here)
    tl.store(out + 9, -0.5900435899266435 * y * (3 * xx - yy), mask=here)
    tl.store(out + 10, 2.890611442640554 * x * y * z, mask=here)
    tl.store(out + 11, -0.4570457994644658 * y * (5 * zz - 1), mask=here)
    tl.store(out + 12, 0.3731763325901154 * z * (5 * zz - 3), mask=here)
    tl.store(out + 13, -0.4570457994644658 * x * (5 * zz - 1), mask=here)
    tl.store(out + 14, 1.445305721320277 * z * (xx - yy), mask=here)
    tl.store(out + 15, -0.5900435899266435 * x * (xx - 3 * yy), mask=here)


@triton.jit
def _matrix(weights, ROWS: tl.constexpr, COLUMNS: tl.constexpr, KNOWN: tl.constexpr):
    """A layer's matrix, of which `KNOWN` rows are there and the rest is zero."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    return tl.load(weights + row * COLUMNS + column, mask=row < KNOWN, other=0.0)


@triton.jit
def _transposed(weights, ROWS: tl.constexpr, COLUMNS: tl.constexpr, KNOWN: tl.constexpr):
    """As `_matrix`, transposed, in float16."""
    row, column = tl.arange(0, ROWS)[None, :], tl.arange(0, COLUMNS)[:, None]
    return tl.load(weights + row * COLUMNS + column, mask=row < KNOWN, other=0.0).to(tl.float16)


@triton.jit
def _rectified(values):
    return tl.maximum(values, 0.0).to(tl.float16)


@triton.jit
def _forward(weights, encoding, basis, at, n, samples):
    """All that the nets make of the samples `at`: inputs, harmonics, both sides of each layer, and raw colours."""
    here = (at < n)[:, None]
    number = tl.arange(0, 16)[None, :]
    inputs = tl.load(encoding + tl.arange(0, _ENCODED)[None, :] * n + at[:, None], mask=here, other=0.0).to(tl.float16)
    turned = tl.load(basis + (at // samples)[:, None] * 16 + number, mask=here, other=0.0)
    hidden1 = _rectified(tl.dot(inputs, _transposed(weights + _W0, 64, _ENCODED, 64)))
    geometry = tl.dot(hidden1, _transposed(weights + _W1, 16, 64, 16))  # [TILE, 16], the first the log of the density
    narrow = geometry.to(tl.float16)
    added = tl.dot(turned, _transposed(weights + _TOWARD, 64, 16, 64))
    hidden2 = _rectified(tl.dot(narrow, _transposed(weights + _W2, 64, 16, 64), added))
    hidden3 = _rectified(tl.dot(hidden2, _transposed(weights + _W3, 64, 64, 64)))
    colours = tl.dot(hidden3, _transposed(weights + _W4, 16, 64, 4))
    return inputs, turned, hidden1, geometry, hidden2, hidden3, colours


@triton.jit
def _shade(weights, encoding, basis, density, rgb, n, samples, sample_stride, channel_stride, TILE: tl.constexpr):
    number = tl.arange(0, 16)[None, :]
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        at = tile * TILE + tl.arange(0, TILE)
        _, _, _, geometry, _, _, colours = _forward(weights, encoding, basis, at, n, samples)
        log_density = tl.sum(tl.where(number == 0, geometry, 0.0), axis=1)
        tl.store(density + at, tl.exp(tl.minimum(log_density + _START, _MOST)), mask=at < n)
        channels = rgb + at[:, None] * sample_stride + number * channel_stride
        tl.store(channels, 1.0 / (1.0 + tl.exp(-tl.maximum(colours, -80.0))), mask=(at < n)[:, None] & (number < 3))


@triton.jit
def _learn(
    weights, encoding, basis, grads, grad_encoding, grad_weights, n, samples, TILE: tl.constexpr, NARROW: tl.constexpr
):
    number = tl.arange(0, 16)[None, :]
    wide = tl.arange(0, 64)
    sum0 = tl.zeros([64, _ENCODED], tl.float32)  # [out, in]
    sum1 = tl.zeros([64, 16], tl.float32)  # [in, out]: tensor cores take 64 rows
    sum2 = tl.zeros([64, 16], tl.float32)
    sum3 = tl.zeros([64, 64], tl.float32)
    sum4 = tl.zeros([64, 16], tl.float32)  # [in, out]
    sum_toward = tl.zeros([64, 16], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        at = tile * TILE + tl.arange(0, TILE)
        here = at < n
        inputs, turned, hidden1, geometry, hidden2, hidden3, _ = _forward(weights, encoding, basis, at, n, samples)
        channels = grads + (number + 1) * n + at[:, None]
        grad = tl.load(channels, mask=here[:, None] & (number < 3), other=0.0).to(NARROW)  # of the raw colours
        sum4 = tl.dot(tl.trans(hidden3.to(NARROW)), grad, sum4)
        grad = tl.dot(grad, _matrix(weights + _W4, 16, 64, 4).to(NARROW))
        grad = tl.where(hidden3 > 0, grad, 0.0).to(NARROW)
        sum3 = tl.dot(tl.trans(grad), hidden2.to(NARROW), sum3)
        grad = tl.dot(grad, _matrix(weights + _W3, 64, 64, 64).to(NARROW))
        grad = tl.where(hidden2 > 0, grad, 0.0).to(NARROW)
        across = tl.trans(grad)
        sum2 = tl.dot(across, geometry.to(NARROW), sum2)
        sum_toward = tl.dot(across, turned.to(NARROW), sum_toward)
        grad = tl.dot(grad, _matrix(weights + _W2, 64, 16, 64).to(NARROW))
        log_density = tl.load(grads + at, mask=here, other=0.0)[:, None]
        grad = (grad + tl.where(number == 0, log_density, 0.0)).to(NARROW)
        sum1 = tl.dot(tl.trans(hidden1.to(NARROW)), grad, sum1)
        grad = tl.dot(grad, _matrix(weights + _W1, 16, 64, 16).to(NARROW))
        grad = tl.where(hidden1 > 0, grad, 0.0).to(NARROW)
        sum0 = tl.dot(tl.trans(grad), inputs.to(NARROW), sum0)
        grad_inputs = tl.dot(grad, _matrix(weights + _W0, 64, _ENCODED, 64).to(NARROW))
        feature = tl.arange(0, _ENCODED)[None, :]
        tl.store(grad_encoding + feature * n + at[:, None], grad_inputs, mask=here[:, None])
    out = grad_weights + tl.program_id(0) * _WEIGHTS
    tl.store(out + _W0 + wide[:, None] * _ENCODED + tl.arange(0, _ENCODED)[None, :], sum0)
    tl.store(out + _W1 + number * 64 + wide[:, None], sum1)
    tl.store(out + _W2 + wide[:, None] * 16 + number, sum2)
    tl.store(out + _W3 + wide[:, None] * 64 + wide[None, :], sum3)
    tl.store(out + _W4 + number * 64 + wide[:, None], sum4, mask=number < 4)
    tl.store(out + _TOWARD + wide[:, None] * 16 + number, sum_toward)


def _narrow(encoding: Tensor) -> tl.dtype:
    """What gradients are multiplied in; the interpreter would take the bits of bfloat16 for integers."""
    return tl.bfloat16 if encoding.is_cuda else tl.float32


def harmonics(directions: Tensor, basis: Tensor) -> None:
    """Fill `basis`, float16 [r, 16]."""
    rays = len(directions)
    _harmonics[(triton.cdiv(rays, 128),)](directions, basis, rays, BLOCK=128)


def forward(
    weights: Tensor,
    encoding: Tensor,
    basis: Tensor,
    density: Tensor,
    rgb: Tensor,
    strides: tuple[int, int],
    programs: int,
) -> None:
    """Fill `density` [n] and `rgb`, whose samples and channels lie `strides` apart."""
    n = encoding.shape[1]
    _shade[(programs,)](
        weights, encoding, basis, density, rgb, n, n // len(basis), *strides,
        TILE=FORWARD_TILE, num_warps=WARPS, num_stages=1,
    )  # fmt: skip


def backward(
    weights: Tensor, encoding: Tensor, basis: Tensor, grads: Tensor, grad_encoding: Tensor, grad_weights: Tensor
) -> None:
    """From `grads` [4, n], of log densities and raw colours, to `grad_encoding` and `grad_weights` [programs, w].

    The gradient of the weights is the sum over programs, each of which sums its own tiles in order: it has no races.
    """
    n = encoding.shape[1]
    _learn[(len(grad_weights),)](
        weights, encoding, basis, grads, grad_encoding, grad_weights, n, n // len(basis),
        TILE=BACKWARD_TILE, NARROW=_narrow(encoding), num_warps=WARPS, num_stages=1,
    )  # fmt: skip
