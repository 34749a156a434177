"""What a field holds, for other programs: a coloured point cloud and a coloured mesh."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float32, Float64, Int64, UInt8
from scipy import ndimage
from skimage.measure import marching_cubes
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply

from nndl_suite.errors import CaptureError, ConfigError
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import Rendering
from nndl_suite.nerf.scene import Points
from nndl_suite.training.files import write_atomically
from nndl_suite.training.watch import Step, Watcher, ignore

Query = Callable[
    [Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]],
    tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"]],
]
"""Densities and sRGB colours at points, seen along unit directions: `Field.query`."""

Render = Callable[[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "3 4"]], Rendering]
"""The picture of a camera, from its pixels' directions in its own frame and its pose: `render_view` of a field."""

POINT_CLOUD_SUFFIXES = (".ply",)
MESH_SUFFIXES = (".glb", ".obj", ".ply")
_LEAST_OPACITY = 0.9
"""A pixel that lets more light through shows no surface."""
_SMALLEST_PIECE = 0.01
"""Pieces of a mesh below this share of the largest one are floaters."""
_SURFACE_THICKNESS = 0.02
"""A surface is where light loses half its strength over this share of the cube's side."""


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
    watch: Watcher = ignore,
) -> Mesh:
    """The surface in a region's cube, by marching cubes (scikit-image) on the density.

    Args:
        query: The field.
        region: Where to look.
        cameras: Where photos were taken from; a vertex is coloured as seen from the one that faces it best.
        resolution: Grid points along each axis; time and memory grow with its cube.
        watch: Told of every slab of the grid.

    Returns:
        The mesh with outward normals; pieces below 1 % of the largest one are left out.

    Raises:
        ConfigError: a resolution below 8.
        CaptureError: there is no surface in the region.
    """
    if resolution < 8:
        raise ConfigError(f"resolution must be >= 8 grid points, got {resolution}")
    level = math.log(2) / (_SURFACE_THICKNESS * 2 * region.radius)
    density = _without_floaters(_density_grid(query, region, resolution, watch), level)
    if not density.min() < level < density.max():
        raise CaptureError("there is no surface in the middle of the scene; train longer, or export a point cloud")
    spacing = 2 * region.radius / (resolution - 1)
    vertices, faces, normals, _ = marching_cubes(density, level)
    points = (vertices * spacing + region.centre - region.radius).astype(np.float32)
    colours = _as_seen(query, points, normals.astype(np.float32), cameras.astype(np.float32))
    # scikit-image's triangles turn inwards where the density falls along the normal
    return Mesh(vertices=points.astype(np.float64), faces=faces[:, ::-1].astype(np.int64), rgb=_bytes(colours))


def save_point_cloud(points: Points, path: Path) -> None:
    """Write a point cloud as binary PLY with colours.

    Raises:
        ConfigError: another suffix.
    """
    _check_suffix(path, POINT_CLOUD_SUFFIXES, "point cloud")
    _write(path, export_ply(trimesh.PointCloud(points.xyz, points.rgb)))


def save_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh with a colour at each vertex, in the format of the path's suffix: .glb, .obj or .ply.

    In a GLB the surface shines by itself (`KHR_materials_unlit`): the photos' light is in the colours already. Its
    colours are linear, as glTF wants them; the other formats keep sRGB.

    Raises:
        ConfigError: another suffix.
    """
    suffix = _check_suffix(path, MESH_SUFFIXES, "mesh")
    if suffix == ".glb":
        srgb = mesh.rgb / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        _write(path, export_glb(trimesh.Scene(_as_trimesh(mesh, _bytes(linear))), tree_postprocessor=_unlit))
    elif suffix == ".ply":
        _write(path, export_ply(_as_trimesh(mesh, mesh.rgb)))
    else:
        _write(path, export_obj(_as_trimesh(mesh, mesh.rgb)).encode())


def _as_trimesh(mesh: Mesh, rgb: UInt8[np.ndarray, "v 3"]) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=rgb, process=False)


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
) -> Float32[np.ndarray, "v 3"]:
    """Colours along directions that training has seen: from the camera most nearly above each point."""
    best = np.full(len(points), -np.inf, np.float32)
    directions = np.zeros_like(points)
    for camera in cameras:
        towards = camera - points
        towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
        faces = np.einsum("vc,vc->v", towards, normals)
        better = faces > best
        best[better], directions[better] = faces[better], -towards[better]
    return query(points, directions)[1]


def _bytes(colours: np.ndarray) -> UInt8[np.ndarray, "v 3"]:
    return (colours * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _unlit(tree: dict[str, Any]) -> None:
    """Give every surface of a glTF tree a material that no lamp changes."""
    tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0}, "extensions": {"KHR_materials_unlit": {}}}]
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0


def _check_suffix(path: Path, known: tuple[str, ...], what: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ConfigError(f"a {what}'s name must end in {' or '.join(known)}, got {path.name!r}")
    return suffix


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: part.write_bytes(content))
