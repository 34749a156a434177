"""Files of meshes and point clouds that other programs open: GLB, OBJ, PLY."""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply

from nndl_suite.errors import ConfigError, RunError
from nndl_suite.nerf.export import Mesh
from nndl_suite.nerf.scene import Points
from nndl_suite.training.files import write_atomically

POINT_CLOUD_SUFFIXES = (".ply",)
MESH_SUFFIXES = (".glb", ".obj", ".ply")
Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Turns z up into y up, as glTF has it."""


def save_point_cloud(points: Points, path: Path) -> None:
    """Write a point cloud as binary PLY with colours.

    Raises:
        ConfigError: another suffix.
    """
    check_suffix(path, POINT_CLOUD_SUFFIXES, "point cloud")
    _write(path, export_ply(trimesh.PointCloud(points.xyz, points.rgb)))


def save_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh with a colour at each vertex, in the format of the path's suffix: .glb, .obj or .ply.

    In a GLB the surface shines by itself (`KHR_materials_unlit`): the photos' light is in the colours already. Its
    colours are linear, as glTF wants them; the other formats keep sRGB.

    Raises:
        ConfigError: another suffix.
    """
    suffix = check_suffix(path, MESH_SUFFIXES, "mesh")
    if suffix == ".glb":
        _write(path, as_glb(mesh))
    elif suffix == ".ply":
        _write(path, export_ply(_as_trimesh(mesh, mesh.rgb)))
    else:
        _write(path, export_obj(_as_trimesh(mesh, mesh.rgb)).encode())


def as_glb(mesh: Mesh) -> bytes:
    """A mesh as binary glTF, coordinates as they are."""
    srgb = mesh.rgb / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    coloured = _as_trimesh(mesh, (linear * 255 + 0.5).astype(np.uint8))
    return export_glb(trimesh.Scene(coloured), tree_postprocessor=_unlit)


def _as_trimesh(mesh: Mesh, rgb: UInt8[np.ndarray, "v 3"]) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=rgb, process=False)


def _unlit(tree: dict[str, Any]) -> None:
    """Give every surface of a glTF tree a material that no lamp changes."""
    tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0}, "extensions": {"KHR_materials_unlit": {}}}]
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0


def check_suffix(path: Path, known: tuple[str, ...], what: str) -> str:
    """The path's suffix in small letters.

    Raises:
        ConfigError: it is none of the known ones.
    """
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ConfigError(f"a {what}'s name must end in {' or '.join(known)}, got {path.name!r}")
    return suffix


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {path.parent}: {error.strerror or error}; choose another --out") from error
    write_atomically(path, lambda part: part.write_bytes(content))
