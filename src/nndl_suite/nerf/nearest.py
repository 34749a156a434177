"""How close to the cameras the scene begins, by the points that COLMAP saw."""

import numpy as np
from jaxtyping import Float32, Float64

from nndl_suite.nerf.photos import PosedPhotos

_FIRST = 1.0
"""Percentile of the points' distances: what is nearer are wrong points."""
_ROOM = 0.5
"""Share of that distance which is left free: a thing without texture may stand before the first point."""
_LEAST, _MOST = 0.05, 0.5


def nearest_surface(photos: PosedPhotos, points: Float64[np.ndarray, "p 3"] | None) -> float:
    """The distance from its camera at which a photo's rays may begin, in field units.

    Where nothing can be, no fog can grow: right before a camera no other photo would deny it.

    Args:
        photos: The training photos.
        points: Of the scene, in the field frame. None, or none in view: rays begin at 0.05.
    """
    if points is None:
        return _LEAST
    distances = [
        np.linalg.norm(points[_in_view(points, photos, index)] - pose[:, 3], axis=1)
        for index, pose in enumerate(photos.field_from_camera)
    ]
    every = np.concatenate(distances)
    return float(np.clip(_ROOM * np.percentile(every, _FIRST), _LEAST, _MOST)) if len(every) else _LEAST


def _in_view(points: Float64[np.ndarray, "p 3"], photos: PosedPhotos, index: int) -> np.ndarray:
    """Which points lie within the sides of one photo, or would if its distortion were undone."""
    pose, (height, width) = photos.field_from_camera[index].astype(np.float64), photos.sizes[index]
    first = int(photos.direction_starts[photos.camera_of[index]])
    low, high = _sides(photos.directions[first : first + height * width])
    local = (points - pose[:, 3]) @ pose[:, :3]
    ahead = local[:, 2] > 0
    slopes = local[:, :2] / np.where(ahead, local[:, 2], 1)[:, None]
    return ahead & (slopes > low).all(axis=1) & (slopes < high).all(axis=1)


def _sides(directions: Float32[np.ndarray, "q 3"]) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest slopes x / z and y / z of a camera's rays, of those that look ahead."""
    forward = directions[directions[:, 2] > 0.1]
    if not len(forward):
        return np.zeros(2), np.zeros(2)
    slopes = forward[:, :2] / forward[:, 2:]
    return slopes.min(axis=0), slopes.max(axis=0)
