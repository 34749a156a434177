"""Training photos on a device: pixels to draw, the rays through them, and what these should show.

The CPU's counterparts are `drawing` and `sampling.pixel_rays`; nothing here waits for the device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Generator, Tensor

from nndl_suite.nerf.drawing import Pool
from nndl_suite.nerf.photos import PosedPhotos


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePhotos:
    """See `PosedPhotos`, whose arrays these are."""

    pixels: UInt8[Tensor, "p c"]
    starts: Int64[Tensor, "n+1"]
    shift: Int64[Tensor, "n"]
    """From a photo's rows of `pixels` to its camera's rows of `directions`."""
    directions: Float32[Tensor, "q 3"]
    poses: Float32[Tensor, "n 3 4"]


@dataclass(frozen=True, slots=True)
class DevicePool:
    """See `drawing.Pool`."""

    pixels: Int32[Tensor, "n"] | Int64[Tensor, "n"] | None
    size: int
    share: float


def place_photos(photos: PosedPhotos, device: torch.device) -> DevicePhotos:
    """Copy photos to a device."""
    shift = photos.direction_starts[photos.camera_of] - photos.starts[:-1]
    return DevicePhotos(
        pixels=torch.from_numpy(photos.pixels).to(device),
        starts=torch.from_numpy(photos.starts).to(device),
        shift=torch.from_numpy(shift).to(device),
        directions=torch.from_numpy(photos.directions).to(device),
        poses=torch.from_numpy(photos.field_from_camera).to(device),
    )


def place_pools(pools: tuple[Pool, ...], device: torch.device) -> tuple[DevicePool, ...]:
    """Copy pools to a device; their rows take half the room where 32 bits hold them."""
    placed: list[DevicePool] = []
    for pool in pools:
        rows = pool.pixels
        if rows is not None and (not len(rows) or rows.max() < 2**31):
            rows = rows.astype(np.int32)
        placed.append(DevicePool(None if rows is None else torch.from_numpy(rows).to(device), pool.size, pool.share))
    return tuple(placed)


def draw(
    pools: tuple[DevicePool, ...],
    generator: Generator,
    pixels: Int64[Tensor, "r"],
    jitter: Float32[Tensor, "r s+1"],
) -> None:
    """Fill what a step draws: rows of the photos' pixels, with replacement, then where samples fall in their stretches.

    From a generator of the CPU these are the numbers that the CPU's trainer draws.
    """
    start = 0
    for number, pool in enumerate(pools, start=1):
        count = len(pixels) - start if number == len(pools) else round(len(pixels) * pool.share)
        part = pixels[start : start + count]
        torch.randint(pool.size, (count,), generator=generator, out=part)
        if pool.pixels is not None:
            part.copy_(pool.pixels[part])
        start += count
    torch.rand(jitter.shape, generator=generator, out=jitter)


def pixel_rays(
    photos: DevicePhotos, poses: Float32[Tensor, "n 3 4"], pixels: Int64[Tensor, "r"]
) -> tuple[Float32[Tensor, "r 3"], Float32[Tensor, "r 3"], Int64[Tensor, "r"]]:
    """Origins and unit directions of the rays through pixels, and the photo that each belongs to."""
    photo = torch.searchsorted(photos.starts, pixels, right=True) - 1
    pose = poses[photo]  # [r, 3, 4]
    toward = photos.directions[pixels + photos.shift[photo]]
    # written out, since a batched product of matrices this small is slower
    directions = (pose[:, :, :3] * toward[:, None]).sum(dim=2)
    return pose[:, :, 3].contiguous(), directions, photo


def pixel_targets(
    photos: DevicePhotos, pixels: Int64[Tensor, "r"], *, background: tuple[float, float, float] | None
) -> tuple[Float32[Tensor, "r 3"], Float32[Tensor, "r 3"], Float32[Tensor, "r"]]:
    """What rays should show, the colour behind the field, and the light that should get there.

    See `drawing.pixel_targets`; where the field has no background, the last two are zero.
    """
    colours = photos.pixels[pixels].float() / 255
    rgb = colours[:, :3].contiguous()
    if background is None:
        return rgb, torch.zeros_like(rgb), rgb.new_zeros(len(rgb))
    alpha = colours[:, 3:] if colours.shape[1] == 4 else torch.ones_like(colours[:, :1])
    return alpha * rgb + (1 - alpha) * 0.5, torch.full_like(rgb, 0.5), 1 - alpha[:, 0]
