"""Pictures of a field: colour, depth and opacity of rays and of whole views."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.field import Field
from nndl_suite.nerf.kernels.composite import composite
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.sampling import Rays, place_samples

_RAYS_AT_ONCE = 4096
_UNIFORM = 0.02


@dataclass(frozen=True, slots=True)
class Rendering:
    """What is seen along rays or in a view; the leading axes are the rays' or the picture's."""

    rgb: Float32[np.ndarray, "... 3"]
    """sRGB in [0, 1]."""
    depth: Float32[np.ndarray, "..."]
    """Distance along the ray at which half the light is stopped, in field units; the last edge where less is."""
    opacity: Float32[np.ndarray, "..."]
    """Share of light that the field stops, without what the background or the open end takes."""


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
        placed = place_samples(some, jitter, grid=field.grid, reach=field.settings.reach, uniform=_UNIFORM)
        density, colours = field.shade(placed.points, some.directions)
        composite(
            density, colours, placed.edges, behind is None, np.array(behind or (0, 0, 0), np.float32),
            rgb[part], depth[part], opacity[part],
        )  # fmt: skip
    return Rendering(rgb, depth, opacity)


def render_view(
    field: Field,
    directions: Float32[np.ndarray, "h w 3"],
    field_from_camera: Float32[np.ndarray, "3 4"],
    *,
    samples: int = 32,
) -> Rendering:
    """The picture [h, w] of a camera whose pixels look along `directions` (unit length, its own frame)."""
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
