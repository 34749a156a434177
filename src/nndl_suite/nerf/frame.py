"""The frame in which a field is learned: z up, the object at the origin, the cameras at distance one.

An object that silhouettes bound gets a closer one (`hull`), in which it fills the unit ball.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import CaptureError, RunError
from nndl_suite.nerf.scene import Scene
from nndl_suite.training.files import Json
from nndl_suite.training.sealed_json import read_sealed, write_sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: Float64[np.ndarray, "3 3"]
    """Orthonormal, determinant 1."""
    translation: Float64[np.ndarray, "3"]

    def apply(self, points: Float64[np.ndarray, "*batch 3"]) -> Float64[np.ndarray, "*batch 3"]:
        """The points in the other frame."""
        return self.scale * points @ self.rotation.T + self.translation

    def apply_pose(self, pose: Float64[np.ndarray, "*batch 3 4"]) -> Float64[np.ndarray, "*batch 3 4"]:
        """Poses (rotation and centre) in the other frame; the rotations stay free of scale."""
        centre = self.apply(pose[..., 3])[..., None]
        return np.concatenate([self.rotation @ pose[..., :3], centre], axis=-1)

    def after(self, first: "Similarity") -> "Similarity":
        """Both, `first` first."""
        return Similarity(
            scale=self.scale * first.scale,
            rotation=self.rotation @ first.rotation,
            translation=self.apply(first.translation),
        )

    def inverse(self) -> "Similarity":
        """The way back."""
        back = self.rotation.T
        return Similarity(scale=1 / self.scale, rotation=back, translation=-(back @ self.translation) / self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFrame:
    """Where a field lies in the world."""

    field_from_world: Similarity
    bound: float | None = None
    """Radius of the ball, in field units, that holds everything; None where space goes on."""


def write_frame(file: Path, frame: FieldFrame) -> None:
    """Keep a frame with its run."""
    there = frame.field_from_world
    rotation: list[Json] = [[float(value) for value in row] for row in there.rotation]
    translation: list[Json] = [float(value) for value in there.translation]
    write_sealed(file, {"scale": there.scale, "rotation": rotation, "translation": translation, "bound": frame.bound})


def read_frame(file: Path) -> FieldFrame:
    """The frame that `write_frame` kept.

    Raises:
        RunError: the file is damaged.
    """
    try:
        kept: Any = read_sealed(file)
        there = Similarity(
            scale=float(kept["scale"]),
            rotation=np.array(kept["rotation"], np.float64).reshape(3, 3),
            translation=np.array(kept["translation"], np.float64).reshape(3),
        )
        check_rotation(there.rotation)
        bound = None if kept["bound"] is None else float(kept["bound"])
        if not (there.scale > 0 and np.isfinite([there.scale, *there.translation]).all()):
            raise ValueError("the scale must be > 0, and all numbers finite")
        if bound is not None and not 0 < bound < np.inf:
            raise ValueError(f"the bound must be > 0, got {bound}")
        return FieldFrame(field_from_world=there, bound=bound)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file} is damaged ({error!r}); train into another --out") from error


def check_rotation(matrix: Float64[np.ndarray, "3 3"]) -> None:
    """Refuse a matrix from a file that is no rotation.

    Raises:
        ValueError: it is not orthonormal, or mirrors.
    """
    if not (np.abs(matrix).max() < 2 and np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-4)):
        raise ValueError("its matrix is no rotation")
    if np.linalg.det(matrix) < 0:
        raise ValueError("its matrix mirrors")


def field_frame(scene: Scene) -> Similarity:
    """field_from_world: z up, the origin where the optical axes cross, the median camera at distance 1 from it.

    A field contracts what lies outside the unit ball (arXiv 2111.12077), so the object has the inside to itself. Where
    the axes do not cross in front of the cameras, as when a room is photographed from its middle, the origin is the
    mean of the cameras; where they run parallel it is put at the typical depth of the scene.

    Raises:
        CaptureError: all cameras stand at one point and nothing tells a scale.
    """
    if not scene.views:
        raise CaptureError(f"{scene.root} has no photo with a camera")
    poses = np.stack([view.world_from_camera for view in scene.views])  # [n, 3, 4]
    rotation = _level(_up(poses))
    origin = _origin(poses, None if scene.points is None else scene.points.xyz)
    distance = float(np.median(np.linalg.norm(poses[:, :, 3] - origin, axis=1)))
    if not distance > 0:
        raise CaptureError("all cameras stand at one point: a reconstruction needs photos from different places")
    return Similarity(scale=1 / distance, rotation=rotation, translation=-(rotation @ origin) / distance)


def _up(poses: Float64[np.ndarray, "n 3 4"]) -> Float64[np.ndarray, "3"]:
    """The direction that looks vertical to whoever held the camera.

    People keep the horizon level, so up is what all the cameras' x axes are perpendicular to; where those do not tell
    (all photos from one side), the mean of the cameras' own up directions decides.
    """
    sideways = poses[:, :, 0]
    mean = -poses[:, :, 1].mean(axis=0)
    length = np.linalg.norm(mean)
    scatter = sideways.T @ sideways / len(poses)  # [3, 3]
    if length > 1e-6:
        mean = mean / length
        scatter = scatter + 0.05 * (np.eye(3) - np.outer(mean, mean))
    up = np.linalg.eigh(scatter)[1][:, 0]
    return -up if up @ mean < 0 else up


def _level(up: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """The rotation that turns `up` to z, keeping x where it can."""
    x = np.eye(3)[0] if abs(up[0]) < 0.9 else np.eye(3)[1]
    x = x - (x @ up) * up
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])


def _origin(poses: Float64[np.ndarray, "n 3 4"], points: Float64[np.ndarray, "p 3"] | None) -> Float64[np.ndarray, "3"]:
    centres, axes = poses[:, :, 3], poses[:, :, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # [n, 3, 3], takes away what lies along the axis
    if np.linalg.eigvalsh(across.mean(axis=0))[0] < 1e-3:  # parallel to about two degrees
        return centres.mean(axis=0) + _typical_depth(poses, points) * axes.mean(axis=0)
    crossing = _crossing(centres, across)
    in_front = ((crossing - centres) * axes).sum(axis=1) > 0
    return crossing if in_front.mean() > 0.5 else centres.mean(axis=0)


def _crossing(centres: Float64[np.ndarray, "n 3"], across: Float64[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, "3"]:
    """The point with the least sum of distances to the axes (reweighted least squares): stray photos hardly pull."""
    weight = np.ones(len(centres))
    point = centres.mean(axis=0)
    for _ in range(20):
        system = (weight[:, None, None] * across).sum(axis=0)
        target = (weight[:, None, None] * across @ centres[:, :, None]).sum(axis=0)[:, 0]
        point = np.linalg.solve(system, target)
        distance = np.linalg.norm((across @ (point - centres)[:, :, None])[:, :, 0], axis=1)
        weight = 1 / np.maximum(distance, 1e-3 * max(float(np.median(distance)), 1e-12))
        weight = weight / weight.max()
    return point


def _typical_depth(poses: Float64[np.ndarray, "n 3 4"], points: Float64[np.ndarray, "p 3"] | None) -> float:
    """How far in front of the cameras the scene is: by its points, or else as far as the cameras are spread."""
    centres, axis = poses[:, :, 3], poses[:, :, 2].mean(axis=0)
    if points is not None and len(points):
        depth = float(np.median((points - centres.mean(axis=0)) @ axis))
        if depth > 0:
            return depth
    return 2 * float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
