"""In which frame things leave: the capture's own, or one in which the object stands at the origin."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from nndl_suite.errors import unknown_name
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.scene import Scene

ExportFrame = Literal["original", "upright"]
"""The capture's own frame; or z up, the object at the origin, lengths as in the capture."""


def out_of_field(field_from_world: Similarity, frame: ExportFrame) -> Similarity:
    """From the field's frame to the one that is exported; lengths are the capture's either way.

    Raises:
        ConfigError: an unknown frame.
    """
    if frame not in get_args(ExportFrame):
        raise unknown_name("frame", frame, get_args(ExportFrame))
    back = field_from_world.inverse()
    if frame == "original":
        return back
    return Similarity(scale=back.scale, rotation=np.eye(3), translation=np.zeros(3))


def moved(scene: Scene, there_from_world: Similarity) -> Scene:
    """The scene with its cameras and points in another frame."""
    views = tuple(
        replace(view, world_from_camera=there_from_world.apply_pose(view.world_from_camera)) for view in scene.views
    )
    points = scene.points and replace(scene.points, xyz=there_from_world.apply(scene.points.xyz))
    return replace(scene, views=views, points=points)
