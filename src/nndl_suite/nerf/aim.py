"""What the photos of a capture are of: the point that a camera going round it keeps in the middle."""

import math

import numpy as np
from jaxtyping import Float64

from nndl_suite.nerf.cameras import Camera, pixel_directions
from nndl_suite.nerf.path import goes_round
from nndl_suite.nerf.rendering import AnyField, render_view

_VIEWS = 24
"""Photos that are asked; a few thousand rays in all."""
_SIDE = 12  # pixels, of the middle half of each
_SOLID = 0.5
_LEAST_SEEN = 0.1
"""A photo that shows less than this share of something solid in its middle says nothing."""
_FARTHEST = 0.5
"""Of the cameras' distance: an aim farther from where the views cross is a wall behind it, or a room's."""


def seen_aim(field: AnyField, cameras: Float64[np.ndarray, "n 3 4"], fov_deg: float) -> Float64[np.ndarray, "3"]:
    """The median of what photos from one side show in their middles; else the origin.

    Photos from all around tell by themselves where the object is: at the origin, where their axes cross; and so do
    silhouettes. Those from one side hardly tell how deep the crossing is. A head that stands out from a wall is then
    in front of it, and a camera that circles the crossing would swing it to and fro.

    Args:
        field: A trained field.
        cameras: Poses of the training photos in the field frame.
        fov_deg: Vertical angle of view of the photos, about.

    Returns:
        A point in the field frame.
    """
    if field.settings.bound is not None or goes_round(cameras):
        return np.zeros(3)
    focal = _SIDE / math.tan(math.radians(fov_deg) / 2)  # half of the side is half of the angle's
    camera = Camera(model="PINHOLE", width=_SIDE, height=_SIDE, params=(focal, focal, _SIDE / 2, _SIDE / 2))
    directions = pixel_directions(camera).astype(np.float32)
    chosen = np.unique(np.linspace(0, len(cameras) - 1, _VIEWS).round().astype(int))
    middles: list[np.ndarray] = []
    for pose in cameras[chosen].astype(np.float32):
        seen = render_view(field, directions, pose)
        solid = seen.opacity >= _SOLID
        if solid.mean() >= _LEAST_SEEN:
            points = pose[:, 3] + seen.depth[..., None] * (directions @ pose[:, :3].T)
            middles.append(np.median(points[solid], axis=0))
    aim = np.median(middles, axis=0) if middles else np.zeros(3)
    distance = float(np.median(np.linalg.norm(cameras[:, :, 3], axis=-1)))
    return aim.astype(np.float64) if np.linalg.norm(aim) <= _FARTHEST * distance else np.zeros(3)
