"""Which pixels a training step looks at."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Generator

from nndl_suite.errors import DataError
from nndl_suite.nerf.hull import near_silhouettes
from nndl_suite.nerf.photos import PosedPhotos

_EMPTY_SHARE = 0.1
"""Of the rays, through pixels that show nothing of an object in a ball: there is little room for error."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Pixels to draw from."""

    pixels: Int64[np.ndarray, "n"] | None
    """Rows of `PosedPhotos.pixels`; None: all of them."""
    size: int
    share: float
    """Of a step's rays."""


def pixel_pools(photos: PosedPhotos, bound: float | None) -> tuple[Pool, ...]:
    """All pixels that count alike; of an object in a ball, those that show it much more often than the others."""
    count = len(photos.pixels)
    if bound is None and photos.counted is None:
        return (Pool(None, count, 1.0),)
    counted = np.ones(count, bool) if photos.counted is None else photos.counted
    near = np.ones(count, bool) if bound is None else near_silhouettes(photos)
    inner, outer = np.flatnonzero(counted & near), np.flatnonzero(counted & ~near)
    if not len(inner) or not len(outer):
        every = np.concatenate([inner, outer])
        if not len(every):
            raise DataError("the masks leave no pixel to train on; white means that a pixel counts")
        return (Pool(every, len(every), 1.0),)
    return (Pool(inner, len(inner), 1 - _EMPTY_SHARE), Pool(outer, len(outer), _EMPTY_SHARE))


def draw_pixels(pools: tuple[Pool, ...], rays: int, generator: Generator) -> Int64[np.ndarray, "r"]:
    """Rows of `PosedPhotos.pixels` for the rays of a step, with replacement."""
    drawn: list[np.ndarray] = []
    left = rays
    for number, pool in enumerate(pools, start=1):
        count = left if number == len(pools) else round(rays * pool.share)
        places = torch.randint(pool.size, (count,), generator=generator).numpy()
        drawn.append(places if pool.pixels is None else pool.pixels[places])
        left -= count
    return np.concatenate(drawn)


def pixel_targets(
    photos: PosedPhotos, pixels: Int64[np.ndarray, "r"], background: tuple[float, float, float] | None
) -> tuple[Float32[np.ndarray, "r 3"], Float32[np.ndarray, "r 3"], Float32[np.ndarray, "r"]]:
    """What rays should show, the colour that lies behind the field for them, and the light that should get there.

    Args:
        photos: Where the rays belong.
        pixels: Rows of `photos.pixels`.
        background: The field's; where it has none, the light and colour behind it are not asked for.
    """
    colours = photos.pixels[pixels].astype(np.float32) / np.float32(255)
    rgb = np.ascontiguousarray(colours[:, :3])
    if background is None:
        return rgb, np.zeros_like(rgb), np.zeros(len(rgb), np.float32)
    alpha = colours[:, 3:] if colours.shape[1] == 4 else np.ones_like(colours[:, :1])
    grey = np.full_like(rgb, 0.5)
    return alpha * rgb + (1 - alpha) * grey, grey, 1 - alpha[:, 0]
