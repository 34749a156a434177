"""Rays through pixels, and where along them the field is asked."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from nndl_suite.nerf.kernels.marching import march
from nndl_suite.nerf.photos import PosedPhotos


@dataclass(frozen=True, slots=True)
class Rays:
    """Rays in the field frame."""

    origins: Float32[np.ndarray, "r 3"]
    directions: Float32[np.ndarray, "r 3"]
    """Unit length."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What `march` found: the intervals of each ray and their middles."""

    edges: Float32[np.ndarray, "r s+1"]
    """Distances that bound the intervals."""
    points: Float32[np.ndarray, "3 n"]
    """Middles of the intervals in the contracted unit cube, ray after ray, n = r * s."""


def contract(points: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """All of space into the ball of radius 2; the unit ball stays as it is (Mip-NeRF 360, arXiv 2111.12077, eq. 10)."""
    norm = np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1)
    return points * (2 - 1 / norm) / norm


def uncontract(points: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """The inverse of `contract`, inside the ball of radius 2."""
    norm = np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1)
    return points / (norm * (2 - norm))


def pixel_rays(photos: PosedPhotos, pixels: Int64[np.ndarray, "r"]) -> tuple[Rays, Int64[np.ndarray, "r"]]:
    """The rays through pixels, given as rows of `photos.pixels`, and the photo that each belongs to."""
    photo = np.searchsorted(photos.starts, pixels, side="right") - 1
    place = photos.direction_starts[photos.camera_of[photo]] + pixels - photos.starts[photo]
    poses = photos.field_from_camera[photo]
    directions = np.einsum("rij,rj->ri", poses[:, :, :3], photos.directions[place])
    return Rays(np.ascontiguousarray(poses[:, :, 3]), directions), photo


def place_samples(
    rays: Rays,
    jitter: Float32[np.ndarray, "r s+1"],
    *,
    grid: Float32[np.ndarray, "g"],
    reach: tuple[float, float, float],
    uniform: float,
) -> Samples:
    """Cut each ray into intervals that are short where the density grid says that light stops.

    Args:
        rays: Where to look.
        jitter: Where in its own stretch of equal share each edge falls, in [0, 1); 0.5 for a picture, random for
            training.
        grid: The field's density grid.
        reach: Near, far and knee of the field's settings.
        uniform: The part of the samples that is spread evenly, whatever the grid says, in [0, 1].
    """
    edges = np.empty_like(jitter)
    points = np.empty((3, len(jitter) * (jitter.shape[1] - 1)), np.float32)
    near, far, knee = (np.float32(distance) for distance in reach)
    march(rays.origins, rays.directions, grid, jitter, near, far, knee, np.float32(uniform), edges, points)
    return Samples(edges, points)
