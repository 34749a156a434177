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
    """Middles of the intervals in the unit cube, ray after ray, n = r * s."""
    thickness: Float32[np.ndarray, "r"]
    """The optical depth that the density grid sees along each ray, about."""


def contract(points: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """All of space into the ball of radius 2; the unit ball stays as it is (Mip-NeRF 360, arXiv 2111.12077, eq. 10)."""
    norm = np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1)
    return points * (2 - 1 / norm) / norm


def into_cube(points: Float32[np.ndarray, "n 3"], bound: float | None) -> Float32[np.ndarray, "n 3"]:
    """Places in the unit cube that a field fills: all of space, contracted, or the ball of radius `bound`."""
    return 0.5 + 0.25 * contract(points) if bound is None else 0.5 + 0.5 / bound * points


def pixel_rays(photos: PosedPhotos, pixels: Int64[np.ndarray, "r"]) -> tuple[Rays, Int64[np.ndarray, "r"]]:
    """The rays through pixels, given as rows of `photos.pixels`, and the photo that each belongs to."""
    photo = photo_of(photos, pixels)
    place = photos.direction_starts[photos.camera_of[photo]] + pixels - photos.starts[photo]
    poses = photos.field_from_camera[photo]
    directions = np.einsum("rij,rj->ri", poses[:, :, :3], photos.directions[place])
    return Rays(np.ascontiguousarray(poses[:, :, 3]), directions), photo


def photo_of(photos: PosedPhotos, pixels: Int64[np.ndarray, "r"]) -> Int64[np.ndarray, "r"]:
    """The photo that each pixel belongs to."""
    return np.searchsorted(photos.starts, pixels, side="right") - 1


Reach = tuple[float, float, float, float]
"""Near, far and knee of a field, and the radius of the ball that bounds it, or infinity."""


def single(reach: Reach) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """A reach as kernels take it."""
    near, far, knee, bound = reach
    return np.float32(near), np.float32(far), np.float32(knee), np.float32(bound)


def place_samples(
    rays: Rays,
    jitter: Float32[np.ndarray, "r s+1"],
    *,
    grid: Float32[np.ndarray, "g"],
    reach: Reach,
    uniform: float,
) -> Samples:
    """Cut each ray into intervals that are short where the density grid says that light stops.

    Args:
        rays: Where to look.
        jitter: Where in its own stretch of equal share each edge falls, in [0, 1); 0.5 for a picture, random for
            training.
        grid: The field's density grid.
        reach: The field's.
        uniform: The part of the samples that is spread evenly, whatever the grid says, in [0, 1].
    """
    edges = np.empty_like(jitter)
    points = np.empty((3, len(jitter) * (jitter.shape[1] - 1)), np.float32)
    thickness = np.empty(len(jitter), np.float32)
    march(rays.origins, rays.directions, grid, jitter, single(reach), np.float32(uniform), edges, points, thickness)
    return Samples(edges, points, thickness)
