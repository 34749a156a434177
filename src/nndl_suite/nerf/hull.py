"""The visual hull: where an object can be, by the silhouettes that photos with transparency show (Laurentini, 1994)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from scipy.ndimage import maximum_filter

from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.frame import FieldFrame, Similarity
from nndl_suite.nerf.kernels.carving import carve
from nndl_suite.nerf.photos import PosedPhotos

_MOST_PHOTOS = 60
_OPAQUE = 10
"""Alpha, of 255, from which a pixel belongs to the silhouette."""
_LARGEST_MISFIT = 3.0
"""Pixels by which a distorted camera may differ from the pinhole that stands for it."""
_COARSE = 64
_MARGIN = 1.03
_FINEST = (128, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ball:
    """Where the object is, in the frame of the photos."""

    centre: Float64[np.ndarray, "3"]
    radius: float

    @property
    def unit_from_here(self) -> Similarity:
        """To the frame in which the ball is the unit ball."""
        scale = 1 / self.radius
        return Similarity(scale=scale, rotation=np.eye(3), translation=-scale * self.centre)


def object_ball(photos: PosedPhotos) -> Ball | None:
    """The smallest ball, about, that holds all that the photos show; cameras stand at about 1 from the origin.

    None where the photos have no transparency, do not surround anything, or stand within what they show: then space has
    no end for the field.
    """
    silhouettes = _silhouettes(photos)
    if silhouettes is None:
        return None
    centre, half = np.zeros(3), 1.0
    middles, cell = np.zeros((0, 3)), 0.0
    for _ in range(2):  # the second look has finer cells
        corner, cell = centre - half, 2 * half / _COARSE
        z, y, x = np.nonzero(_carved(silhouettes, corner, cell, _COARSE))
        if not len(x):
            return None
        middles = corner + (np.stack([x, y, z], axis=1) + 0.5) * cell
        low, high = middles.min(axis=0), middles.max(axis=0)
        centre, half = (low + high) / 2, float((high - low).max()) / 2 + cell
    radius = _MARGIN * float(np.linalg.norm(middles - centre, axis=1).max()) + cell
    distances = np.linalg.norm(photos.field_from_camera[:, :, 3] - centre, axis=1)
    return Ball(centre=centre, radius=radius) if radius < distances.min() else None


def object_frame(photos: PosedPhotos, frame: FieldFrame) -> FieldFrame:
    """The frame in which the object of the photos, which are in `frame`, fills the unit ball; or `frame` itself."""
    ball = object_ball(photos)
    if ball is None:
        return frame
    return FieldFrame(field_from_world=ball.unit_from_here.after(frame.field_from_world), bound=1.0)


def hull_cells(photos: PosedPhotos, *, half: float, side: int) -> Bool[np.ndarray, "z y x"] | None:
    """Which of `side`^3 cells of the cube [-half, half]^3 the object can touch; None without silhouettes."""
    silhouettes = _silhouettes(photos)
    if silhouettes is None:
        return None
    return _carved(silhouettes, np.full(3, -half), 2 * half / side, side)


def object_field(photos: PosedPhotos) -> FieldSettings:
    """The field of an object that fills the unit ball; its finest cells are as large as a pixel is there."""
    distances = np.linalg.norm(photos.field_from_camera[:, :, 3].astype(np.float64), axis=1)
    fits = {camera: _pinhole(photos, camera, photos.sizes[index])[0] for index, camera in _one_each(photos)}
    pixel = np.median([distances[i] / fits[int(camera)][:2].max() for i, camera in enumerate(photos.camera_of)])
    far = 10 * float(distances.max())  # the ball ends every ray before; this is for cameras of videos
    finest = int(np.clip(2 / pixel, *_FINEST))
    return FieldSettings(bound=1.0, far=far, knee=far, finest=finest)


def near_silhouettes(photos: PosedPhotos, *, margin: float = 0.02) -> Bool[np.ndarray, "p"]:
    """The pixels that show the object or lie within `margin` of the picture's longer side from it."""
    found = np.empty(len(photos.pixels), bool)
    for index, (height, width) in enumerate(photos.sizes):
        part = slice(photos.starts[index], photos.starts[index + 1])
        alpha = photos.pixels[part, 3].reshape(height, width)
        reach = 2 * math.ceil(margin * max(height, width)) + 1
        found[part] = maximum_filter(alpha, reach).ravel() >= _OPAQUE
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Silhouettes:
    poses: Float32[np.ndarray, "n 3 4"]
    pinholes: Float32[np.ndarray, "n 4"]
    alphas: tuple[UInt8[np.ndarray, "h w"], ...]
    misfit: float
    """Pixels by which the pinholes are off."""


def _silhouettes(photos: PosedPhotos) -> _Silhouettes | None:
    if photos.pixels.shape[1] < 4:
        return None
    count = len(photos.names)
    chosen = [math.floor(place) for place in np.linspace(0, count, min(_MOST_PHOTOS, count), endpoint=False)]
    fits = {int(camera): _pinhole(photos, int(camera), photos.sizes[index]) for index, camera in _one_each(photos)}
    misfit = max(error for _, error in fits.values())
    if misfit > _LARGEST_MISFIT:
        return None
    alphas = [
        photos.pixels[photos.starts[index] : photos.starts[index + 1], 3].reshape(photos.sizes[index])
        for index in chosen
    ]
    if not all((alpha < _OPAQUE).any() for alpha in alphas):
        return None  # a photo that is opaque all over says nothing about where the object ends
    return _Silhouettes(
        poses=np.ascontiguousarray(photos.field_from_camera[chosen]),
        pinholes=np.stack([fits[int(photos.camera_of[index])][0] for index in chosen]).astype(np.float32),
        alphas=tuple(alphas),
        misfit=misfit,
    )


def _one_each(photos: PosedPhotos) -> list[tuple[int, int]]:
    """A photo of each camera, and the camera."""
    cameras, first = np.unique(photos.camera_of, return_index=True)
    return list(zip(first.tolist(), cameras.tolist(), strict=True))


def _pinhole(photos: PosedPhotos, camera: int, size: tuple[int, int]) -> tuple[Float64[np.ndarray, "4"], float]:
    """fx, fy, cx, cy of the pinhole nearest to a camera, and by how many pixels it is off at worst."""
    height, width = size
    start = photos.direction_starts[camera]
    rays = photos.directions[start : start + height * width].astype(np.float64)
    v, u = (places.ravel() + 0.5 for places in np.mgrid[:height, :width])
    if rays[:, 2].min() < 0.05:
        return np.ones(4), math.inf
    fx, cx = np.polyfit(rays[:, 0] / rays[:, 2], u, 1)
    fy, cy = np.polyfit(rays[:, 1] / rays[:, 2], v, 1)
    error = max(
        np.abs(fx * rays[:, 0] / rays[:, 2] + cx - u).max(), np.abs(fy * rays[:, 1] / rays[:, 2] + cy - v).max()
    )
    return np.array([fx, fy, cx, cy]), float(error)


def _carved(
    silhouettes: _Silhouettes, corner: Float64[np.ndarray, "3"], cell: float, side: int
) -> Bool[np.ndarray, "z y x"]:
    """Cells of a block that the object can touch: silhouettes are widened by what a cell covers in the photo."""
    distances = np.linalg.norm(silhouettes.poses[:, :, 3] - (corner + cell * side / 2), axis=1)
    widened: list[UInt8[np.ndarray, "h w"]] = []
    for alpha, pinhole, distance in zip(silhouettes.alphas, silhouettes.pinholes, distances, strict=True):
        nearest = max(distance - cell * side / 2, 0.1 * distance)
        reach = math.ceil(pinhole[:2].max() * cell * math.sqrt(3) / 2 / nearest + silhouettes.misfit)
        widened.append((maximum_filter(alpha, 2 * reach + 1) >= _OPAQUE).astype(np.uint8))
    kept = np.empty(side**3, np.uint8)
    sizes = np.array([alpha.shape for alpha in widened], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]]).astype(np.int64)
    carve(
        corner.astype(np.float32), np.float32(cell), side, silhouettes.poses, silhouettes.pinholes,
        np.concatenate([mask.ravel() for mask in widened]), starts, sizes, kept,
    )  # fmt: skip
    return kept.reshape(side, side, side).astype(bool)
