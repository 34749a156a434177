# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Views on a CPU: one image after the other, its crop, colours and blur all while it lies in the first cache.

The operations are those of `views.render`, which is the reference. Each image has its three channels as flat float32
arrays of its own, so loops run along pixels in vector registers; nothing passes from one image to another, so the
number of threads changes nothing. Indices that are computed are unsigned because numba would otherwise check every one
for Python's negative indexing, and not vectorise.
"""

from contextlib import contextmanager

import numba
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numba import njit, prange
from torch import Tensor

from nndl_suite.representation.blur import blur_radius, gaussian_taps
from nndl_suite.representation.colour import LUMA
from nndl_suite.representation.view_draws import ViewDraws

_FAST = {"contract", "reassoc", "nsz"}
_RED, _GREEN, _BLUE = (np.float32(share) for share in LUMA)
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_THREE, _FOUR, _FIVE, _SIX = np.float32(3), np.float32(4), np.float32(5), np.float32(6)
_SIXTH = np.float32(1 / 6)
_TINY = np.float32(1e-12)
_LEVEL = np.float32(1 / 255)
_CONTRAST, _SATURATION = 1, 2  # of `ViewDraws.kinds`


def render_on_cpu(images: UInt8[Tensor, "b 3 s s"], draws: ViewDraws, view: Float[Tensor, "b 3 s s"]) -> None:
    """Write one view of each image, as it was drawn, into `view`, whose memory is channels-last."""
    b, _, size, _ = images.shape
    sigma = torch.zeros(b) if draws.sigma is None else draws.sigma
    with _no_more_threads_than_torch():
        _render(
            images.contiguous().numpy(),
            draws.boxes.numpy(),
            draws.flips.numpy(),
            draws.strengths.numpy(),
            draws.kinds.numpy(),
            draws.hue.numpy(),
            draws.hue_places.numpy(),
            draws.grey.numpy(),
            (sigma > 0).numpy(),
            gaussian_taps(sigma, blur_radius(size)).numpy(),
            draws.solar.numpy(),
            view.permute(0, 2, 3, 1).view(b, size * size, 3).numpy(),
        )


@contextmanager
def _no_more_threads_than_torch():
    """Run numba's kernels on no more threads than torch uses, and leave both numbers as they were.

    Where both use OpenMP, starting numba's threads sets torch's number to all cores.
    """
    threads = torch.get_num_threads()
    before = numba.get_num_threads()  # starts them, if nothing else has yet
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@njit(parallel=True, cache=True, fastmath=_FAST)
def _render(images, boxes, flips, strengths, kinds, hue, hue_places, grey, blurred, taps, solar, out):
    """Render every image: uint8 [b, 3, s, s] and the draws, blur as weights [b, 2 * radius + 1], to [b, s * s, 3]."""
    size = images.shape[2]
    for i in prange(images.shape[0]):
        red = np.empty(size * size, np.float32)
        green = np.empty(size * size, np.float32)
        blue = np.empty(size * size, np.float32)
        _crop(images[i], boxes[i], flips[i], red, green, blue)
        for k in range(4):
            if k == hue_places[i] and hue[i] != _ZERO:
                _shift_hue(red, green, blue, hue[i])
            if k < 3 and strengths[i, k] != _ONE:
                if kinds[i, k] == _CONTRAST:
                    _contrast(red, green, blue, strengths[i, k])
                elif kinds[i, k] == _SATURATION:
                    _saturation(red, green, blue, strengths[i, k])
                else:
                    _brightness(red, green, blue, strengths[i, k])
        if grey[i]:
            _to_grey(red, green, blue)
        if blurred[i]:
            spare = np.empty(size * size, np.float32)
            _blur(red, size, taps[i], spare)
            _blur(green, size, taps[i], spare)
            _blur(blue, size, taps[i], spare)
        if solar[i]:
            _solarise(red)
            _solarise(green)
            _solarise(blue)
        _interleave(red, green, blue, out[i])


@njit(cache=True, fastmath=_FAST)
def _crop(image, box, flip, red, green, blue):
    """Cut the box out of uint8 [3, s, s], resize it to the whole, bilinear, and mirror it if asked."""
    size = image.shape[1]
    top, left, height, width = box[0], box[1], box[2], box[3]
    above, below, down = _neighbours(height, size)
    before, after, right = _neighbours(width, size)
    if flip:
        before, after, right = before[::-1].copy(), after[::-1].copy(), right[::-1].copy()
    row = np.empty(width, np.float32)
    for c in range(3):
        plane = red if c == 0 else green if c == 1 else blue
        for y in range(size):
            upper = image[c, top + above[y], left : left + width]
            lower = image[c, top + below[y], left : left + width]
            share = down[y] * _LEVEL
            rest = _LEVEL - share
            for x in range(width):
                row[x] = np.float32(upper[x]) * rest + np.float32(lower[x]) * share
            start = y * size
            for x in range(size):
                here = row[before[x]]
                plane[np.uint32(start + x)] = here + right[x] * (row[after[x]] - here)


@njit(cache=True, fastmath=_FAST)
def _neighbours(length, size):
    """For `size` pixels over `length` ones: each one's lower and upper neighbour, and the share of the upper."""
    first = np.empty(size, np.uint32)
    second = np.empty(size, np.uint32)
    share = np.empty(size, np.float32)
    last = np.float32(length - 1)
    for j in range(size):
        at = (np.float32(j) + _HALF) * np.float32(length) / np.float32(size) - _HALF
        at = min(max(at, _ZERO), last)
        first[j] = np.uint32(at)
        second[j] = min(first[j] + np.uint32(1), np.uint32(length - 1))
        share[j] = at - np.float32(first[j])
    return first, second, share


@njit(cache=True, fastmath=_FAST, inline="always")
def _clamped(value):
    return min(max(value, _ZERO), _ONE)


@njit(cache=True, fastmath=_FAST, inline="always")
def _luma(red, green, blue):
    return red * _RED + green * _GREEN + blue * _BLUE


@njit(cache=True, fastmath=_FAST)
def _brightness(red, green, blue, strength):
    for i in range(red.shape[0]):
        red[i] = _clamped(red[i] * strength)
        green[i] = _clamped(green[i] * strength)
        blue[i] = _clamped(blue[i] * strength)


@njit(cache=True, fastmath=_FAST)
def _contrast(red, green, blue, strength):
    total = _ZERO
    for i in range(red.shape[0]):
        total += _luma(red[i], green[i], blue[i])
    base = (_ONE - strength) * total / np.float32(red.shape[0])
    for i in range(red.shape[0]):
        red[i] = _clamped(red[i] * strength + base)
        green[i] = _clamped(green[i] * strength + base)
        blue[i] = _clamped(blue[i] * strength + base)


@njit(cache=True, fastmath=_FAST)
def _saturation(red, green, blue, strength):
    for i in range(red.shape[0]):
        base = (_ONE - strength) * _luma(red[i], green[i], blue[i])
        red[i] = _clamped(red[i] * strength + base)
        green[i] = _clamped(green[i] * strength + base)
        blue[i] = _clamped(blue[i] * strength + base)


@njit(cache=True, fastmath=_FAST, inline="always")
def _share_off(sixths):
    """How much of its chroma a channel lacks, its opposite colour so many sixths of the circle away."""
    away = abs(sixths - _SIX * np.floor(sixths * _SIXTH + _HALF))
    return min(max(_TWO - away, _ZERO), _ONE)


@njit(cache=True, fastmath=_FAST)
def _shift_hue(red, green, blue, shift):
    """See `colour.shift_hue`, which has the formula."""
    turn = _SIX * shift
    for i in range(red.shape[0]):
        r, g, b = red[i], green[i], blue[i]
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        from_blue = (r - g) + _FOUR * chroma
        from_green = (b - r) + _TWO * chroma
        sixths = (g - b) if value == r else (from_green if value == g else from_blue)
        sixths = sixths / max(chroma, _TINY) + turn
        red[i] = value - chroma * _share_off(sixths - _THREE)
        green[i] = value - chroma * _share_off(sixths - _FIVE)
        blue[i] = value - chroma * _share_off(sixths - _ONE)


@njit(cache=True, fastmath=_FAST)
def _to_grey(red, green, blue):
    for i in range(red.shape[0]):
        grey = _luma(red[i], green[i], blue[i])
        red[i] = grey
        green[i] = grey
        blue[i] = grey


@njit(cache=True, fastmath=_FAST)
def _blur(plane, size, taps, spare):
    """Blur rows, then columns, borders reflected."""
    radius = taps.shape[0] // 2
    padded = np.empty(size + 2 * radius, np.float32)
    for y in range(size):
        row = plane[y * size : (y + 1) * size]
        total = spare[y * size : (y + 1) * size]
        padded[radius : radius + size] = row
        for k in range(1, radius + 1):
            padded[radius - k] = row[k]
            padded[radius + size - 1 + k] = row[size - 1 - k]
        total[:] = _ZERO
        for t in range(taps.shape[0]):
            seen = padded[t : t + size]
            for x in range(size):
                total[x] += taps[t] * seen[x]
    for y in range(size):
        total = plane[y * size : (y + 1) * size]
        total[:] = _ZERO
        for t in range(taps.shape[0]):
            at = abs(y + t - radius)
            at = size - 1 - abs(size - 1 - at)
            seen = spare[at * size : (at + 1) * size]
            for x in range(size):
                total[x] += taps[t] * seen[x]


@njit(cache=True, fastmath=_FAST)
def _solarise(plane):
    for i in range(plane.shape[0]):
        plane[i] = _ONE - plane[i] if plane[i] >= _HALF else plane[i]


@njit(cache=True, fastmath=_FAST)
def _interleave(red, green, blue, out):
    for i in range(red.shape[0]):
        out[i, 0] = red[i]
        out[i, 1] = green[i]
        out[i, 2] = blue[i]
