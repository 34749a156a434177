"""Camera paths: where the camera is in each frame of a video.

Poses are OpenCV axes in the field frame (`frame.field_frame`): z up, the object at the origin. Orbit and spiral go only
where photos were taken: a field knows nothing of the side that nobody photographed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from nndl_suite.errors import CaptureError, ConfigError, DataError

PathKind = Literal["orbit", "interpolate", "spiral"]

_LARGEST_GAP = math.radians(90)
"""A round of photos with a gap wider than this is an arc: the field has not seen what lies in the gap."""

Poses = Float64[np.ndarray, "n 3 4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPath:
    """A camera's way through the scene."""

    poses: Poses
    """[f, 3, 4], one pose a frame; the first three columns are a rotation."""
    description: str
    """What it does, for a person: "full circle", "back and forth over 142 degrees"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """Where cameras stand about the object, in polar coordinates."""

    elevation_rad: Float64[np.ndarray, "n"]
    distance: Float64[np.ndarray, "n"]
    start_rad: float
    """Azimuth at which the covered range begins."""
    span_rad: float
    """Its width; 2 pi where the photos go all the way round."""

    def azimuths(self, turn: Float64[np.ndarray, "f"], rounds: int) -> Float64[np.ndarray, "f"]:
        """Azimuths at shares `turn` of the path: rounds where the ring is closed, else as many slow sweeps and back."""
        if self.span_rad == 2 * math.pi:
            return self.start_rad + rounds * 2 * math.pi * turn
        return self.start_rad + self.span_rad * (0.5 - 0.5 * np.cos(rounds * 2 * math.pi * turn))

    def poses(
        self,
        azimuth_rad: Float64[np.ndarray, "f"],
        elevation_rad: float | Float64[np.ndarray, "f"],
        distance: float | Float64[np.ndarray, "f"],
    ) -> Poses:
        """Poses at polar coordinates, upright and facing the object."""
        level, height = np.cos(elevation_rad), np.sin(elevation_rad) + np.zeros_like(azimuth_rad)
        towards = np.stack([level * np.cos(azimuth_rad), level * np.sin(azimuth_rad), height], axis=-1)
        return look_at(np.reshape(distance, (-1, 1)) * towards)

    @property
    def told(self) -> str:
        """The covered range, for a person."""
        if self.span_rad == 2 * math.pi:
            return "full circle"
        return f"back and forth over the {math.degrees(self.span_rad):.0f} degrees that the photos cover"


def look_at(positions: Float64[np.ndarray, "f 3"]) -> Poses:
    """Poses at `positions` that face the origin, with z upwards in the picture."""
    forward = -positions / np.linalg.norm(positions, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward, positions], axis=-1)


def orbit(cameras: Poses, *, frames: int) -> CameraPath:
    """Once round the object at the cameras' median height and distance; the last frame leads on to the first.

    Where the photos leave a gap of more than 90 degrees, the path goes back and forth over the range that they cover.

    Args:
        cameras: Where the photos were taken.
        frames: Length of the path.

    Raises:
        ConfigError: fewer than 2 frames.
        CaptureError: all cameras stand right above the object.
    """
    turn = _turns(frames)
    ring = _ring(cameras)
    elevation, distance = float(np.median(ring.elevation_rad)), float(np.median(ring.distance))
    return CameraPath(poses=ring.poses(ring.azimuths(turn, 1), elevation, distance), description=ring.told)


def spiral(cameras: Poses, *, frames: int) -> CameraPath:
    """Twice round the object while rising from the lower photos to the higher ones and sinking back.

    Arguments and errors are those of `orbit`; heights stay within the middle 80 % of the photos'.
    """
    turn = _turns(frames)
    ring = _ring(cameras)
    low, high = np.quantile(ring.elevation_rad, [0.1, 0.9])
    elevation = low + (high - low) * (0.5 - 0.5 * np.cos(2 * math.pi * turn))
    poses = ring.poses(ring.azimuths(turn, 2), elevation, float(np.median(ring.distance)))
    return CameraPath(poses=poses, description=f"two rounds, rising and sinking ({ring.told})")


def interpolate(cameras: Poses, *, frames: int) -> CameraPath:
    """Through all cameras in their order: centres on a cubic spline, rotations along the shortest turns between.

    Each stretch takes time in proportion to its length and turn, so the speed is even.

    Raises:
        ConfigError: fewer than 2 frames or cameras.
    """
    turn = _turns(frames, closed=False)
    if len(cameras) < 2:
        raise ConfigError(f"interpolation needs at least 2 cameras, got {len(cameras)}")
    centres, rotations = cameras[:, :, 3], Rotation.from_matrix(cameras[:, :, :3])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=-1)
    turns = (rotations[:-1].inv() * rotations[1:]).magnitude()
    size = float(np.linalg.norm(centres - centres.mean(axis=0), axis=-1).max()) or 1.0
    knots = np.concatenate([[0.0], np.cumsum(np.maximum(steps / size + turns, 1e-6))])
    when = turn * knots[-1]
    positions = CubicSpline(knots, centres)(when)
    matrices = Slerp(knots, rotations)(when).as_matrix()
    poses = np.concatenate([matrices, positions[:, :, None]], axis=-1)
    return CameraPath(poses=poses, description=f"through {len(cameras)} photos in their order")


def read_path(file: Path) -> CameraPath:
    """A camera path in nerfstudio's JSON: `{"camera_path": [{"camera_to_world": [16 numbers, row by row]}, ...]}`.

    The matrices are OpenGL axes (x right, y up, z backwards) in the frame of the capture's own poses: that of its
    transforms.json, or of the COLMAP model. A scale in the rotation is divided out. Other keys are ignored; pictures
    keep the size and view angle of the run.

    Returns:
        The path in that frame, not yet in the field's.

    Raises:
        DataError: the file is missing, is not such JSON, or a matrix is not a pose.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the camera path {file}: {error}") from error
    frames = content.get("camera_path") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise DataError(f'{file} must hold {{"camera_path": [...]}} with at least one camera')
    poses = [_read_pose(frame, f"{file}: camera {index}") for index, frame in enumerate(frames)]
    return CameraPath(poses=np.stack(poses), description=f"{len(poses)} cameras from {file.name}")


def _read_pose(frame: object, where: str) -> Float64[np.ndarray, "3 4"]:
    numbers = frame.get("camera_to_world") if isinstance(frame, dict) else None
    try:
        matrix = np.asarray(numbers, dtype=np.float64).reshape(4, 4)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} needs camera_to_world with 16 numbers, row by row") from error
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3]))) if np.isfinite(matrix).all() else math.nan
    rotation = matrix[:3, :3] / scale if scale > 0 else np.zeros((3, 3))
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise DataError(f"{where}: camera_to_world is not a rotation and a position")
    return np.column_stack([rotation * [1, -1, -1], matrix[:3, 3]])


def _turns(frames: int, *, closed: bool = True) -> Float64[np.ndarray, "f"]:
    """Each frame's share of the path; of a closed one the end is left out, it is the start again."""
    if frames < 2:
        raise ConfigError(f"a path needs at least 2 frames, got {frames}")
    return np.linspace(0, 1, frames, endpoint=not closed)


def _ring(cameras: Poses) -> _Ring:
    positions = cameras[:, :, 3]
    distance = np.linalg.norm(positions, axis=-1)
    if np.linalg.norm(positions[:, :2], axis=-1).max() < 1e-6:
        raise CaptureError("the cameras all stand above or below the object; choose the path 'interpolate'")
    start, span = _covered(np.arctan2(positions[:, 1], positions[:, 0]))
    return _Ring(
        elevation_rad=np.arcsin(positions[:, 2] / np.maximum(distance, 1e-9)),
        distance=distance,
        start_rad=start,
        span_rad=span,
    )


def _covered(azimuths: Sequence[float] | Float64[np.ndarray, "n"]) -> tuple[float, float]:
    """Where the covered range starts and how wide it is: all round, or what is left beside the widest gap."""
    ordered = np.sort(np.mod(azimuths, 2 * math.pi))
    gaps = np.diff(ordered, append=ordered[0] + 2 * math.pi)
    widest = int(gaps.argmax())
    if gaps[widest] <= _LARGEST_GAP:
        return float(ordered[0]), 2 * math.pi
    return float(ordered[(widest + 1) % len(ordered)]), float(2 * math.pi - gaps[widest])
