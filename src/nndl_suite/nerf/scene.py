"""A scene: photos with known cameras, and the frame in which the field is learned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from nndl_suite.errors import ConfigError
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
    mask: Path | None = None
    """White where the photo counts, black where it does not; None where all of it counts."""


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
    """Pixels; None where the poses came without the points that would tell."""
    missing: tuple[str, ...] = ()
    """The photos that got none, or whose file is not there."""
    why: Mapping[str, str] = field(default_factory=dict[str, str])
    """The reason for each of the missing of which one is known."""
    notes: tuple[str, ...] = ()
    """What else a person should know of how the poses came about, a sentence each."""


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


def hold_out(scene: Scene, rule: str | float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the views to train on and of those to score.

    Args:
        scene: If it names test views itself (Blender), those are held out and `rule` is not asked.
        rule: "every8" takes the first and every 8th after it, by name (the usual protocol of LLFF and Mip-NeRF 360); a
            share in (0, 1) takes about that many, evenly spaced, ends left alone.

    Raises:
        ConfigError: an unknown rule, or one that leaves nothing to train on or nothing to score.
    """
    count = len(scene.views)
    if scene.test_names:
        test = [index for index, view in enumerate(scene.views) if view.name in scene.test_names]
    elif rule == "every8":
        test = list(range(0, count, 8))
    elif isinstance(rule, float) and 0 < rule < 1:
        chosen = max(1, round(rule * count))
        test = [math.floor((place + 0.5) * count / chosen) for place in range(chosen)]
    else:
        raise ConfigError(f"the hold-out must be 'every8' or a share between 0 and 1, got {rule!r}")
    held_out = set(test)
    train = [index for index in range(count) if index not in held_out]
    if not train or not test:
        raise ConfigError(
            f"{count} views leave {len(train)} to train on and {len(test)} to score: choose another hold-out"
        )
    return tuple(train), tuple(test)


def stacked_poses(scene: Scene, indices: Sequence[int]) -> Float64[np.ndarray, "n 3 4"]:
    """`world_from_camera` of some views."""
    return np.stack([scene.views[index].world_from_camera for index in indices])


def usual_view(scene: Scene, indices: Sequence[int]) -> int:
    """The first of some views that the camera took which took most of them."""
    of_camera = [scene.views[index].camera for index in indices]
    return indices[of_camera.index(int(np.bincount(of_camera).argmax()))]
