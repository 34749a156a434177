"""Pictures of what is no colour: errors, depths, normals. The colour maps are matplotlib's."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from scipy.ndimage import gaussian_filter

from nndl_suite.report.colours import ERROR_COLOURS

ERROR_SCALE = 0.25
"""Mean absolute difference of R, G and B, in [0, 1], at which an error picture is brightest."""
_DEPTH_MAP = "turbo"
_GREY = 128
_SEEN = 0.5
"""Where a field stops less light than this there is no surface, so no depth and no normal."""


def error_picture(
    rendered: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"], counted: Bool[np.ndarray, "h w"] | None
) -> UInt8[np.ndarray, "h w 3"]:
    """How far a rendering is off, pixel by pixel: from black (nothing) to light yellow (`ERROR_SCALE` and more).

    Pixels that no score counts are grey.
    """
    error = np.abs(rendered.astype(np.float32) - truth).mean(axis=-1) / 255
    picture = _coloured(error / ERROR_SCALE, ERROR_COLOURS)
    if counted is not None:
        picture[~counted] = _GREY
    return picture


def depth_range(views: Sequence[tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]]) -> tuple[float, float]:
    """The inverse depths between which nearly all surfaces of some views lie, lower one first.

    Args:
        views: Depth and opacity of each.
    """
    inverse = np.concatenate([1 / np.maximum(depth[opacity > _SEEN], 1e-6) for depth, opacity in views])
    if not inverse.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(inverse, [0.02, 0.98]))
    return low, max(high, low + 1e-6)


def depth_picture(
    depth: Float[np.ndarray, "h w"], opacity: Float[np.ndarray, "h w"], inverse_range: tuple[float, float]
) -> UInt8[np.ndarray, "h w 3"]:
    """Inverse depth, far is blue and near is red; black where there is no surface."""
    low, high = inverse_range
    picture = _coloured((1 / np.maximum(depth, 1e-6) - low) / (high - low), _DEPTH_MAP)
    picture[opacity <= _SEEN] = 0
    return picture


def normal_picture(
    depth: Float[np.ndarray, "h w"],
    opacity: Float[np.ndarray, "h w"],
    directions: Float32[np.ndarray, "h w 3"],
    field_from_camera: Float[np.ndarray, "3 4"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Which way the surface faces, as 0.5 + 0.5 n in the field's axes: what faces up is blue; black without a surface.

    Args:
        depth: Distance along each ray, at least 2 x 2.
        opacity: Share of light that is stopped.
        directions: Of the rays, unit length, in the camera's frame.
        field_from_camera: The view's pose.
    """
    seen = opacity > _SEEN
    normals = surface_normals(depth, seen, directions) @ field_from_camera[:, :3].T
    picture = ((0.5 + 0.5 * normals) * 255 + 0.5).clip(0, 255).astype(np.uint8)
    picture[~seen] = 0
    return picture


def surface_normals(
    depth: Float[np.ndarray, "h w"], seen: Bool[np.ndarray, "h w"], directions: Float32[np.ndarray, "h w 3"]
) -> Float64[np.ndarray, "h w 3"]:
    """Unit normals of the surface that a depth picture shows, in the camera's frame, facing the camera.

    From central differences of the points that neighbouring pixels see. These tangents are blurred a little before they
    are crossed, which bends no plane but hides the steps between samples; at silhouettes, where they are longest, they
    are cut to four times the usual length.
    """
    points = depth.astype(np.float64)[..., None] * directions  # [h, w, 3]
    sigma = max(1.0, max(depth.shape) / 300)  # pixels
    across, down = (_calmed(np.asarray(np.gradient(points, axis=axis)), seen, sigma) for axis in (1, 0))
    normals = np.cross(across, down)
    normals *= -np.sign((normals * directions).sum(axis=-1, keepdims=True))
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


def _calmed(
    tangents: Float64[np.ndarray, "h w 3"], seen: Bool[np.ndarray, "h w"], sigma: float
) -> Float64[np.ndarray, "h w 3"]:
    """The sum of the seen tangents about each pixel; only the direction is of use."""
    lengths = np.linalg.norm(tangents, axis=-1)
    usual = float(np.median(lengths[seen])) if seen.any() else 1.0
    kept = tangents * (seen * np.minimum(1, 4 * usual / np.maximum(lengths, 1e-12)))[..., None]
    return gaussian_filter(kept, (sigma, sigma, 0))


def _coloured(values: Float[np.ndarray, "h w"], name: str) -> UInt8[np.ndarray, "h w 3"]:
    colours = mpl.colormaps[name](np.clip(values, 0, 1), bytes=True)  # [h, w, 4]
    return np.array(colours[..., :3])
