"""Posed photos as flat arrays: every pixel of every photo one after the other, whatever their sizes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedPhotos:
    """Photos ready for rays, in the field's frame.

    Pixel `starts[i] + y * w + x` of `pixels` is pixel (y, x) of photo i; its ray leaves `field_from_camera[i][:, 3]`
    along `field_from_camera[i][:, :3] @ directions[direction_starts[camera_of[i]] + y * w + x]`.
    """

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each photo."""
    pixels: UInt8[np.ndarray, "p c"]
    """sRGB, or sRGB and straight alpha where c is 4."""
    starts: Int64[np.ndarray, "n+1"]
    camera_of: Int64[np.ndarray, "n"]
    directions: Float32[np.ndarray, "q 3"]
    """Unit length, in the camera's own frame (OpenCV axes), distortion undone."""
    direction_starts: Int64[np.ndarray, "m+1"]
    field_from_camera: Float32[np.ndarray, "n 3 4"]
    """Rotation (orthonormal, no scale) and centre in field units."""
