"""A scene: photos with known cameras, and the frame in which the field is learned."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from nndl_suite.nerf.cameras import Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One photo and where it was taken from."""

    name: str
    """The photo's file name relative to the capture, unique in a scene; views are sorted by it."""
    image: Path
    camera: int
    """Index into `Scene.cameras`."""
    world_from_camera: Float64[np.ndarray, "3 4"]
    """OpenCV axes (x right, y down, z forward), the world's own units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The sparse cloud that structure from motion left."""

    xyz: Float64[np.ndarray, "p 3"]
    """World frame."""
    rgb: UInt8[np.ndarray, "p 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseReport:
    """How many photos got a camera, and how well they fit."""

    registered: int
    total: int
    mean_reprojection_error: float | None
    """Pixels; None where the poses came with the capture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Photos with known cameras, in the world frame of whoever made the poses."""

    root: Path
    cameras: tuple[Camera, ...]
    views: tuple[View, ...]
    test_names: frozenset[str]
    """Views that the capture itself holds out (Blender's test file); empty where it names none."""
    points: Points | None
    poses: PoseReport
