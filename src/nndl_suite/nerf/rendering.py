"""Pictures of a field: colour, depth and opacity of rays and of whole views."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.field import Field, FieldSettings
from nndl_suite.nerf.kernels import ONE_AT_A_TIME
from nndl_suite.nerf.kernels.composite import composite
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.sampling import Rays, Samples, place_samples

_RAYS_AT_ONCE = 4096
UNIFORM = 0.02
NOTHING = 1e-3
"""Optical depth that no picture shows."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What is seen along rays or in a view; the leading axes are the rays' or the picture's."""

    rgb: Float32[np.ndarray, "... 3"]
    """sRGB in [0, 1]."""
    depth: Float32[np.ndarray, "..."]
    """Distance along the ray at which half the light is stopped, in field units; the last edge where less is."""
    opacity: Float32[np.ndarray, "..."]
    """Share of light that the field stops, without what the background or the open end takes."""


class PlacedField(Protocol):
    """A field that lies on another device, and answers from there; `gpu.field.DeviceField` is one."""

    @property
    def settings(self) -> FieldSettings:
        """Size and extent."""
        ...

    def query(
        self, points: Float32[np.ndarray, "n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"]]:
        """See `Field.query`."""
        ...

    def render_view(
        self,
        directions: Float32[np.ndarray, "h w 3"],
        field_from_camera: Float32[np.ndarray, "3 4"],
        *,
        samples: int = 32,
    ) -> Rendering:
        """See `render_view`."""
        ...


AnyField = Field | PlacedField
"""A field wherever it lies; what is asked of it, and what it answers, are arrays."""


def render_rays(field: Field, rays: Rays, *, samples: int = 32) -> Rendering:
    """What the field looks like along rays, at neutral exposure.

    Samples lie where the density grid says that light stops, so none is spent behind a surface.

    Args:
        field: A trained field.
        rays: Origins and unit directions in the field frame.
        samples: Samples a ray: 16, 24, 32, 48 or 96.

    Raises:
        ConfigError: samples is none of these.
    """
    check_samples(samples)
    count = len(rays.origins)
    rgb, depth, opacity = np.empty((count, 3), np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    behind = field.settings.background
    for start in range(0, count, _RAYS_AT_ONCE):
        part = slice(start, start + _RAYS_AT_ONCE)
        some = Rays(rays.origins[part], rays.directions[part])
        jitter = np.full((len(some.origins), samples + 1), 0.5, np.float32)
        with ONE_AT_A_TIME:
            placed = place_samples(some, jitter, grid=field.grid, reach=field.settings.reach, uniform=UNIFORM)
            if behind is None:
                _shade(field, some, placed, Rendering(rgb[part], depth[part], opacity[part]))
                continue
            # most of an object's picture is background: rays that meet nothing are not asked for
            met = np.flatnonzero(placed.thickness > NOTHING)
            rgb[part], depth[part], opacity[part] = behind, placed.edges[:, -1], 0
            if len(met):
                seen = Rendering(rgb[part][met], depth[part][met], opacity[part][met])
                _shade(field, Rays(some.origins[met], some.directions[met]), _taken(placed, met), seen)
                rgb[part][met], depth[part][met], opacity[part][met] = seen.rgb, seen.depth, seen.opacity
    return Rendering(rgb, depth, opacity)


def _taken(placed: Samples, rays: Int64[np.ndarray, "k"]) -> Samples:
    """The samples of some of the rays."""
    count, samples = len(placed.edges), placed.edges.shape[1] - 1
    points = placed.points.reshape(3, count, samples)[:, rays].reshape(3, -1)
    return Samples(placed.edges[rays], points, placed.thickness[rays])


def _shade(field: Field, rays: Rays, placed: Samples, seen: Rendering) -> None:
    """Fill `seen` with what rays show."""
    behind = field.settings.background
    density, colours = field.shade(placed.points, rays.directions)
    ground = np.array(behind or (0, 0, 0), np.float32)
    composite(density, colours, placed.edges, behind is None, ground, seen.rgb, seen.depth, seen.opacity)


def render_view(
    field: AnyField,
    directions: Float32[np.ndarray, "h w 3"],
    field_from_camera: Float32[np.ndarray, "3 4"],
    *,
    samples: int = 32,
) -> Rendering:
    """The picture [h, w] of a camera whose pixels look along `directions` (unit length, its own frame)."""
    if not isinstance(field, Field):
        return field.render_view(directions, field_from_camera, samples=samples)
    height, width = directions.shape[:2]
    toward = directions.reshape(-1, 3) @ field_from_camera[:, :3].T
    origins = np.broadcast_to(field_from_camera[:, 3], toward.shape)
    rays = Rays(np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(toward, np.float32))
    seen = render_rays(field, rays, samples=samples)
    shape = (height, width)
    return Rendering(seen.rgb.reshape(*shape, 3), seen.depth.reshape(shape), seen.opacity.reshape(shape))


def check_samples(samples: int) -> None:
    """Refuse a number of samples a ray that the kernels cannot tile."""
    if samples < 8 or TILE % samples != 0:
        known = ", ".join(str(n) for n in range(8, TILE + 1) if TILE % n == 0)
        raise ConfigError(f"samples a ray must be one of {known}, got {samples}")
