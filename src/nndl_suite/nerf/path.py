"""Camera paths: where the camera is in each frame of a video.

Poses are OpenCV axes in the field frame (`frame.field_frame`): z up, the object at the origin. Orbit and spiral go only
where photos were taken: a field knows nothing of the side that nobody photographed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from nndl_suite.errors import CaptureError, ConfigError
from nndl_suite.nerf.tour import steps_between, visit

PathKind = Literal["orbit", "interpolate", "spiral"]

_HARMONICS = 2
"""Of the curve that an orbit follows: the first tilts a circle or moves its centre, the second makes it an ellipse."""
_CALM = 1e-3
"""How much harmonics are held back, as a share of a photo's weight: what few photos say of them is not believed."""
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
    fov_deg: Float64[np.ndarray, "f"] | None = None
    """Vertical angle of view in each frame; None leaves it to the photos' camera."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, where the path says."""
    fps: float | None = None
    """Frames a second, where the path says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """Where cameras stand about the object, in polar coordinates."""

    centre: Float64[np.ndarray, "3"]
    """The object."""
    azimuth_rad: Float64[np.ndarray, "n"]
    elevation_rad: Float64[np.ndarray, "n"]
    distance: Float64[np.ndarray, "n"]
    start_rad: float
    """Azimuth at which the covered range begins."""
    span_rad: float
    """Its width; 2 pi where the photos go all the way round."""

    @property
    def closed(self) -> bool:
        """Whether the photos go all the way round."""
        return self.span_rad == 2 * math.pi

    def azimuths(self, turn: Float64[np.ndarray, "f"], rounds: int) -> Float64[np.ndarray, "f"]:
        """Azimuths at shares `turn` of the path: rounds where the ring is closed, else as many slow sweeps and back."""
        if self.closed:
            return self.start_rad + rounds * 2 * math.pi * turn
        return self.start_rad + self.span_rad * (0.5 - 0.5 * np.cos(rounds * 2 * math.pi * turn))

    def fitted(
        self, values: Float64[np.ndarray, "n"], azimuth_rad: Float64[np.ndarray, "f"]
    ) -> Float64[np.ndarray, "f"]:
        """A smooth curve through what the cameras have at each azimuth, never beyond what any of them has.

        The first harmonics of the azimuth (of an arc: those that are level at its ends) by least squares; cameras that
        are far from what most others say are left out.
        """
        terms = self._terms(self.azimuth_rad)
        kept = np.ones(len(values), bool)
        curve = np.full(len(values), np.median(values))
        found = np.zeros(terms.shape[1])
        for _ in range(5):
            off = np.abs(values - curve)
            kept = off <= max(4.5 * float(np.median(off)), 0.05 * (abs(float(np.median(values))) + 0.1))
            some = terms[kept]
            held_back = _CALM * len(some) * np.diag([0.0, *[1.0] * (terms.shape[1] - 1)])
            found = np.linalg.solve(some.T @ some + held_back, some.T @ values[kept])
            curve = terms @ found
        return np.clip(self._terms(azimuth_rad) @ found, values[kept].min(), values[kept].max())

    def _terms(self, azimuth_rad: Float64[np.ndarray, "a"]) -> Float64[np.ndarray, "a t"]:
        """The curves that are fitted, a column each, the first one constant; fewer where there are few cameras."""
        harmonics = min(_HARMONICS, len(self.azimuth_rad) // 4)
        past = np.mod(azimuth_rad - self.start_rad + 1e-9, 2 * math.pi) - 1e-9  # of the start, within rounding
        if self.closed:
            waves = [f(k * past) for k in range(1, harmonics + 1) for f in (np.cos, np.sin)]
        else:
            share = past / self.span_rad if self.span_rad > 0 else np.zeros_like(past)
            waves = [np.cos(k * math.pi * share) for k in range(1, harmonics + 1)]
        return np.stack([np.ones_like(past), *waves], axis=-1)

    def poses(
        self,
        azimuth_rad: Float64[np.ndarray, "f"],
        elevation_rad: Float64[np.ndarray, "f"],
        distance: Float64[np.ndarray, "f"],
    ) -> Poses:
        """Poses at polar coordinates, upright and facing the object."""
        level, height = np.cos(elevation_rad), np.sin(elevation_rad)
        towards = np.stack([level * np.cos(azimuth_rad), level * np.sin(azimuth_rad), height], axis=-1)
        poses = look_at(distance[:, None] * towards)
        poses[:, :, 3] += self.centre
        return poses

    @property
    def told(self) -> str:
        """The covered range, for a person."""
        if self.closed:
            return "full circle"
        return f"back and forth over the {math.degrees(self.span_rad):.0f} degrees that the photos cover"


def look_at(positions: Float64[np.ndarray, "f 3"]) -> Poses:
    """Poses at `positions` that face the origin, with z upwards in the picture."""
    forward = -positions / np.linalg.norm(positions, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward, positions], axis=-1)


def goes_round(cameras: Poses) -> bool:
    """Whether the photos go all the way round the origin, without a gap of more than 90 degrees."""
    return _covered(np.arctan2(cameras[:, 1, 3], cameras[:, 0, 3]))[1] == 2 * math.pi


def orbit(cameras: Poses, *, frames: int, about: Float64[np.ndarray, "3"] | None = None) -> CameraPath:
    """Once round the object as high and as far from it as the photos; the last frame leads on to the first.

    Height and distance follow a smooth curve through the cameras, so a tilted or oval round is followed; stray cameras
    are not. The horizon stays level. Where the photos leave a gap of more than 90 degrees, the path goes back and forth
    over the range that they cover.

    Args:
        cameras: Where the photos were taken.
        frames: Length of the path.
        about: What it goes round and looks at; the origin, where the views cross, unless somebody knows better.

    Raises:
        ConfigError: fewer than 2 frames.
        CaptureError: all cameras stand right above the object.
    """
    turn = _turns(frames)
    ring = _ring(cameras, about)
    azimuth = ring.azimuths(turn, 1)
    elevation, distance = ring.fitted(ring.elevation_rad, azimuth), ring.fitted(ring.distance, azimuth)
    return CameraPath(poses=ring.poses(azimuth, elevation, distance), description=ring.told)


def spiral(cameras: Poses, *, frames: int, about: Float64[np.ndarray, "3"] | None = None) -> CameraPath:
    """Twice round the object while rising from the lower photos to the higher ones and sinking back.

    Arguments and errors are those of `orbit`; heights stay within the middle 80 % of what photos have on that side.
    """
    turn = _turns(frames)
    ring = _ring(cameras, about)
    azimuth = ring.azimuths(turn, 2)
    usual = ring.fitted(ring.elevation_rad, azimuth)
    low, high = np.quantile(ring.elevation_rad - ring.fitted(ring.elevation_rad, ring.azimuth_rad), [0.1, 0.9])
    elevation = usual + low + (high - low) * (0.5 - 0.5 * np.cos(2 * math.pi * turn))
    elevation = elevation.clip(ring.elevation_rad.min(), ring.elevation_rad.max())
    poses = ring.poses(azimuth, elevation, ring.fitted(ring.distance, azimuth))
    return CameraPath(poses=poses, description=f"two rounds, rising and sinking ({ring.told})")


def interpolate(cameras: Poses, *, frames: int) -> CameraPath:
    """Through all cameras: centres and rotations on cubic splines, so that neither jerks at a photo.

    They are visited in their order or, where that leaps about, by a short tour (`tour.visit`): between photos far apart
    the camera would cross what nobody has seen. Each stretch takes time in proportion to its length and turn, so the
    speed is even.

    Raises:
        ConfigError: fewer than 2 frames or cameras.
    """
    turn = _turns(frames, closed=False)
    if len(cameras) < 2:
        raise ConfigError(f"interpolation needs at least 2 cameras, got {len(cameras)}")
    order = visit(cameras)
    ordered = cameras[order]
    centres, rotations = ordered[:, :, 3], Rotation.from_matrix(ordered[:, :, :3])
    steps = np.diagonal(steps_between(ordered), offset=1)
    knots = np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1e-6))])
    when = turn * knots[-1]
    positions = CubicSpline(knots, centres)(when)
    matrices = RotationSpline(knots, rotations)(when).as_matrix()
    poses = np.concatenate([matrices, positions[:, :, None]], axis=-1)
    kept = bool((np.diff(order) == 1).all())
    told = "in their order" if kept else "by a short tour, as their order leaps about"
    return CameraPath(poses=poses, description=f"through {len(cameras)} photos {told}")


def _turns(frames: int, *, closed: bool = True) -> Float64[np.ndarray, "f"]:
    """Each frame's share of the path; of a closed one the end is left out, it is the start again."""
    if frames < 2:
        raise ConfigError(f"a path needs at least 2 frames, got {frames}")
    return np.linspace(0, 1, frames, endpoint=not closed)


def _ring(cameras: Poses, about: Float64[np.ndarray, "3"] | None) -> _Ring:
    centre = np.zeros(3) if about is None else about
    positions = cameras[:, :, 3] - centre
    distance = np.linalg.norm(positions, axis=-1)
    if np.linalg.norm(positions[:, :2], axis=-1).max() < 1e-6:
        raise CaptureError("the cameras all stand above or below the object; choose the path 'interpolate'")
    azimuth = np.arctan2(positions[:, 1], positions[:, 0])
    start, span = _covered(azimuth)
    return _Ring(
        centre=centre,
        azimuth_rad=azimuth,
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
