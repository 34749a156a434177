"""Cameras: intrinsics as COLMAP names them, and the rays through their pixels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One set of intrinsics; `model` and the order of `params` are COLMAP's."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    """Pixels; pixel centres lie at +0.5."""


def pixel_directions(camera: Camera) -> Float64[np.ndarray, "h w 3"]:
    """Unit directions through every pixel centre, in the camera's own frame (OpenCV axes), distortion undone exactly."""
    raise AssertionError  # written by geometry
