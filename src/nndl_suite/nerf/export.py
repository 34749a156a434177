"""What a field holds, for other programs: a coloured point cloud and a coloured mesh."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float32, Float64, Int64, UInt8
from scipy import ndimage
from skimage.measure import marching_cubes

from nndl_suite.errors import CaptureError, ConfigError
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import Rendering
from nndl_suite.nerf.scene import Points
from nndl_suite.training.watch import Step, Watcher, ignore

Query = Callable[
    [Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]],
    tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"]],
]
"""Densities and sRGB colours at points, seen along unit directions: `Field.query`."""

Render = Callable[[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "3 4"]], Rendering]
"""The picture of a camera, from its pixels' directions in its own frame and its pose: `render_view` of a field."""

MAX_FACES = 200_000
"""Triangles of a mesh unless asked otherwise: a GLB of about 5 MB, which any viewer opens at once."""
_LEAST_OPACITY = 0.9
"""A pixel that lets more light through shows no surface."""
_SMALLEST_PIECE = 0.01
"""Pieces of a mesh below this share of the largest one are floaters."""
_COARSE = 48
"""Grid points along each axis of the first look for what is solid."""
_SURFACE_THICKNESS = 0.04
"""A surface is where light loses half its strength over this share of the cube's side."""

_SHELL = range(-2, 7)
"""Samples for a vertex's colour, in quarters of that thickness along the ray, from before the vertex to behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The part of a scene that is exported: a ball for points, the cube about it for a mesh; field frame."""

    centre: Float64[np.ndarray, "3"]
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A surface with a colour at each vertex."""

    vertices: Float64[np.ndarray, "v 3"]
    faces: Int64[np.ndarray, "f 3"]
    """Counter-clockwise seen from outside."""
    rgb: UInt8[np.ndarray, "v 3"]
    """sRGB."""


def object_region(photos: PosedPhotos, bound: float | None) -> Region:
    """The part of the field frame that holds the object: all of a field with an end, else what the photos show of it.

    Args:
        photos: One or more, the first of the usual camera; cameras stand at about 1 from the origin and look at it.
        bound: The field's end, `FieldSettings.bound`.
    """
    if bound is not None:
        return Region(centre=np.zeros(3), radius=bound)
    height, width = photos.sizes[0]
    start = photos.direction_starts[photos.camera_of[0]]
    directions = photos.directions[start : start + height * width].reshape(height, width, 3)
    edges = directions[[0, height // 2], [width // 2, 0]]  # the middles of the upper and the left edge
    slopes = np.linalg.norm(edges[:, :2], axis=-1) / np.maximum(edges[:, 2], 1e-6)
    return Region(centre=np.zeros(3), radius=float(min(slopes.max(), 0.8)))


def solid_region(query: Query, region: Region, *, watch: Watcher = ignore) -> Region:
    """The cube about what is solid in a region, by a coarse look at it: so that a fine grid is not spent on air.

    For objects that stand alone. Where nothing is solid the region stays as it is.
    """
    density = _density_grid(query, region, _COARSE, watch)
    solid = np.argwhere(_without_floaters(density, _level(region)) > _level(region))  # [s, 3]
    if not len(solid):
        return region
    spacing = 2 * region.radius / (_COARSE - 1)
    low, high = solid.min(axis=0), solid.max(axis=0)
    centre = region.centre - region.radius + spacing * (low + high) / 2
    radius = spacing * (float((high - low).max()) / 2 + 2)  # what is thinner than a cell may reach past the last one
    return Region(centre=centre, radius=min(radius, region.radius))


def gather_points(
    render: Render, photos: PosedPhotos, region: Region, *, about: int = 300_000, watch: Watcher = ignore
) -> Points:
    """The surface points that the photos' cameras see in a field, coloured as they see them.

    Args:
        render: The field, seen from a camera.
        photos: Whose cameras look.
        region: Points outside its ball are left out.
        about: How many rays to send: of each picture only every k-th row and column.
        watch: Told of every view.

    Raises:
        CaptureError: no camera sees a surface in the region.
    """
    stride = max(1, round(math.sqrt(int(photos.starts[-1]) / about)))
    xyz: list[np.ndarray] = []
    rgb: list[np.ndarray] = []
    for view, ((height, width), pose) in enumerate(zip(photos.sizes, photos.field_from_camera, strict=True)):
        start = int(photos.direction_starts[photos.camera_of[view]])
        directions = photos.directions[start : start + height * width].reshape(height, width, 3)
        directions = np.ascontiguousarray(directions[::stride, ::stride])
        seen = render(directions, pose)
        points = pose[:, 3] + seen.depth[..., None] * (directions @ pose[:, :3].T)
        inside = np.linalg.norm(points - region.centre, axis=-1) <= region.radius
        shown = inside & (seen.opacity >= _LEAST_OPACITY)
        xyz.append(points[shown])
        rgb.append(_bytes(seen.rgb[shown]))
        watch(Step(stage="gathering points", done=view + 1, total=len(photos.sizes)))
    found = np.concatenate(xyz)
    if not len(found):
        raise CaptureError("no photo shows a surface near the middle of the scene; train longer")
    return Points(xyz=found.astype(np.float64), rgb=np.concatenate(rgb))


def extract_mesh(
    query: Query,
    region: Region,
    *,
    cameras: Float64[np.ndarray, "n 3"],
    resolution: int = 192,
    max_faces: int | None = MAX_FACES,
    watch: Watcher = ignore,
) -> Mesh:
    """The surface in a region's cube, by marching cubes (scikit-image) on the density.

    Args:
        query: The field.
        region: Where to look.
        cameras: Where photos were taken from; a vertex is coloured as seen from the one that faces it best.
        resolution: Grid points along each axis; time and memory grow with its cube.
        max_faces: A mesh with more triangles is simplified to this many (quadric error, Garland and Heckbert 1997);
            None keeps them all.
        watch: Told of every slab of the grid.

    Returns:
        The mesh with outward normals; pieces below 1 % of the largest one are left out.

    Raises:
        ConfigError: a resolution below 8, or fewer than 4 faces.
        CaptureError: there is no surface in the region.
    """
    if resolution < 8:
        raise ConfigError(f"resolution must be >= 8 grid points, got {resolution}")
    if max_faces is not None and max_faces < 4:
        raise ConfigError(f"max_faces must be >= 4, the faces of the simplest solid, got {max_faces}")
    level = _level(region)
    density = _without_floaters(_density_grid(query, region, resolution, watch), level)
    if not density.min() < level < density.max():
        raise CaptureError("there is no surface in the middle of the scene; train longer, or export a point cloud")
    spacing = 2 * region.radius / (resolution - 1)
    vertices, faces, _, _ = marching_cubes(density, level)
    # scikit-image's triangles turn inwards where the density falls along the normal
    shape = trimesh.Trimesh(vertices * spacing + region.centre - region.radius, faces[:, ::-1], process=False)
    if max_faces is not None and len(shape.faces) > max_faces:
        watch(Step(stage="simplifying the mesh", done=0, total=1))
        shape = shape.simplify_quadric_decimation(face_count=max_faces)
        watch(Step(stage="simplifying the mesh", done=1, total=1))
    points, normals = shape.vertices.astype(np.float32), shape.vertex_normals.astype(np.float32)
    colours = _as_seen(query, points, normals, cameras.astype(np.float32), math.log(2) / level)
    return Mesh(vertices=points.astype(np.float64), faces=shape.faces.astype(np.int64), rgb=_bytes(colours))


def _level(region: Region) -> float:
    """The density of a region's surfaces."""
    return math.log(2) / (_SURFACE_THICKNESS * 2 * region.radius)


def _density_grid(query: Query, region: Region, resolution: int, watch: Watcher) -> Float32[np.ndarray, "x y z"]:
    """Densities on a grid whose outermost layer is empty, so that every surface closes."""
    axis = np.linspace(-region.radius, region.radius, resolution, dtype=np.float32)
    plane = np.stack(np.meshgrid([0.0], axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), plane.shape)
    density = np.zeros((resolution,) * 3, np.float32)
    for index in range(1, resolution - 1):
        points = plane + region.centre + [axis[index], 0, 0]
        slab = query(points.astype(np.float32), down)[0].reshape(resolution, resolution)
        density[index, 1:-1, 1:-1] = slab[1:-1, 1:-1]
        watch(Step(stage="sampling the density", done=index, total=resolution - 2))
    return density


def _without_floaters(density: Float32[np.ndarray, "x y z"], level: float) -> Float32[np.ndarray, "x y z"]:
    """The density with pieces above `level` that are small beside the largest one set to nothing."""
    pieces: Int64[np.ndarray, "x y z"] = np.empty(density.shape, np.int64)
    ndimage.label(density > level, output=pieces)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # what is around them
    dropped = sizes < _SMALLEST_PIECE * sizes.max()
    dropped[0] = False
    return np.where(dropped[pieces], np.float32(0), density)


def _as_seen(
    query: Query,
    points: Float32[np.ndarray, "v 3"],
    normals: Float32[np.ndarray, "v 3"],
    cameras: Float32[np.ndarray, "n 3"],
    thickness: float,
) -> Float32[np.ndarray, "v 3"]:
    """Colours along directions that training has seen: from the camera most nearly above each point.

    Of a soft surface it is what that camera sees of it: the samples about the point, each with the share of the light
    that it stops (arXiv 2003.08934, eq. 3).
    """
    directions = _from_the_best(points, normals, cameras)
    step = np.float32(thickness / 4)
    passed = np.ones(len(points), np.float32)
    light, stopped = np.zeros_like(points), np.zeros(len(points), np.float32)
    for place in _SHELL:
        density, rgb = query(points + place * step * directions, directions)
        weight = passed * -np.expm1(-density * step)
        light += weight[:, None] * rgb
        stopped += weight
        passed -= weight
    return light / np.maximum(stopped, 1e-9)[:, None]


def _from_the_best(
    points: Float32[np.ndarray, "v 3"], normals: Float32[np.ndarray, "v 3"], cameras: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "v 3"]:
    """Directions in which the cameras look at the points that face them most."""
    best = np.full(len(points), -np.inf, np.float32)
    directions = np.zeros_like(points)
    for camera in cameras:
        towards = camera - points
        towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
        faces = np.einsum("vc,vc->v", towards, normals)
        better = faces > best
        best[better], directions[better] = faces[better], -towards[better]
    return directions


def _bytes(colours: np.ndarray) -> UInt8[np.ndarray, "v 3"]:
    return (colours * 255 + 0.5).clip(0, 255).astype(np.uint8)
