"""Cameras: intrinsics as COLMAP names them, and the rays through their pixels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import CaptureError, DataError, unknown_name
from nndl_suite.nerf.colmap import ask_colmap
from nndl_suite.training.files import Json

_NUM_PARAMS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL": 5,
    "RADIAL_FISHEYE": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
    "SIMPLE_DIVISION": 4,
    "DIVISION": 5,
    "SIMPLE_FISHEYE": 3,
    "FISHEYE": 4,
    "EUCM": 6,
    "EQUIRECTANGULAR": 2,
}
_LONGEST_SIDE = 1_000_000
"""Pixels; panoramas are stitched to a few hundred thousand."""
CAMERA_MODELS = frozenset(_NUM_PARAMS)
"""All that pycolmap 4 knows."""
# The same camera with a focal length for each axis, and the distortion terms that it has besides, all zero.
_TWO_FOCALS = {
    "SIMPLE_PINHOLE": ("PINHOLE", 0),
    "SIMPLE_RADIAL": ("OPENCV", 3),
    "RADIAL": ("OPENCV", 2),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", 3),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", 2),
    "SIMPLE_DIVISION": ("DIVISION", 0),
    "SIMPLE_FISHEYE": ("FISHEYE", 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One set of intrinsics; `model` and the order of `params` are COLMAP's."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    """Pixels; pixel centres lie at +0.5."""

    def __post_init__(self) -> None:
        if self.model not in _NUM_PARAMS:
            raise unknown_name("camera model", self.model, _NUM_PARAMS)
        if len(self.params) != _NUM_PARAMS[self.model]:
            raise DataError(f"a {self.model} camera has {_NUM_PARAMS[self.model]} parameters, got {len(self.params)}")
        if not np.isfinite(self.params).all():
            raise DataError(f"camera parameters must be finite numbers, got {self.params}")
        if self.width < 1 or self.height < 1:
            raise DataError(f"a camera must have at least one pixel, got {self.width} x {self.height}")
        if max(self.width, self.height) > _LONGEST_SIDE:
            raise DataError(f"a camera has at most {_LONGEST_SIDE:,} pixels a side, got {self.width} x {self.height}")
        if min(self.params[: self.num_focals] or (1.0,)) <= 0:
            raise DataError(f"a focal length must be positive, got {self.params[: self.num_focals]}")

    @property
    def num_focals(self) -> int:
        """How many of the first parameters are focal lengths; the principal point follows them."""
        if self.model == "EQUIRECTANGULAR":
            return 0
        return 1 if self.model in _TWO_FOCALS else 2

    def resized(self, width: int, height: int) -> "Camera":
        """The camera of the same photo at another size.

        The two axes scale by themselves, so that a size that was rounded costs nothing: a model with one focal length
        becomes its twin with two. Distortion acts on normalised coordinates and stays.
        """
        if (width, height) == (self.width, self.height):
            return self
        across, down = width / self.width, height / self.height
        if self.model == "EQUIRECTANGULAR":
            return Camera(model=self.model, width=width, height=height, params=(float(width), float(height)))
        model, missing = _TWO_FOCALS.get(self.model, (self.model, 0))
        fx, fy = self.params[0], self.params[self.num_focals - 1]
        cx, cy, *distortion = self.params[self.num_focals :]
        params = (fx * across, fy * down, cx * across, cy * down, *distortion, *[0.0] * missing)
        return Camera(model=model, width=width, height=height, params=params)


def pixel_directions(camera: Camera) -> Float64[np.ndarray, "h w 3"]:
    """Unit directions through every pixel centre, in the camera's own frame (OpenCV axes), distortion undone exactly.

    Raises:
        CaptureError: some pixel has no ray, as in the corners of a circular fisheye photo.
    """
    return all_pixel_directions([camera])[0]


def all_pixel_directions(cameras: Sequence[Camera]) -> list[Float64[np.ndarray, "h w 3"]]:
    """`pixel_directions` of several cameras, for the price of one start of COLMAP where any of them is distorted."""
    found = directions_where_any(cameras)
    for camera, directions in zip(cameras, found, strict=True):
        lost = int(np.isnan(directions[..., 0]).sum())
        if lost:
            raise CaptureError(
                f"{lost} of the {camera.width} x {camera.height} pixels of a {camera.model} camera have no ray; "
                "undistort or crop the photos"
            )
    return found


def directions_where_any(cameras: Sequence[Camera]) -> list[Float64[np.ndarray, "h w 3"]]:
    """`all_pixel_directions`, with NaN for pixels without a ray: beyond 90 degrees, or where a lens folds back."""
    distorted = [camera for camera in cameras if not camera.model.endswith("PINHOLE")]
    rays = iter(_colmap_directions(distorted))
    return [_pinhole_directions(camera) if camera.model.endswith("PINHOLE") else next(rays) for camera in cameras]


def _pinhole_directions(camera: Camera) -> Float64[np.ndarray, "h w 3"]:
    fx, fy = camera.params[0], camera.params[camera.num_focals - 1]
    cx, cy = camera.params[camera.num_focals :]
    x = (np.arange(camera.width) + 0.5 - cx) / fx
    y = (np.arange(camera.height) + 0.5 - cy) / fy
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)  # [h, w, 3]
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _colmap_directions(cameras: Sequence[Camera]) -> list[Float64[np.ndarray, "h w 3"]]:
    if not cameras:
        return []
    request = [cast(dict[str, Json], {**asdict(camera), "params": list(camera.params)}) for camera in cameras]
    arrays = ask_colmap("directions", {"cameras": list[Json](request)}).arrays
    return [arrays[str(index)].reshape(camera.height, camera.width, 3) for index, camera in enumerate(cameras)]
