"""Reading scenes whose cameras are known, in whichever of the usual formats they come."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nndl_suite.errors import CaptureError, DataError
from nndl_suite.nerf.read_colmap import model_folders, read_colmap
from nndl_suite.nerf.read_llff import read_llff
from nndl_suite.nerf.read_transforms import read_blender, read_transforms
from nndl_suite.nerf.scene import Scene

_FARTHEST = 1e9
"""In the capture's units; what is farther is a slip, and loses its last digits even in float64."""


def read_scene(path: Path) -> Scene:
    """The scene in a folder, or beside a `transforms.json` that is named itself.

    Looked for in this order: `transforms.json` (nerfstudio, instant-ngp), `transforms_train.json` (Blender), a COLMAP
    model in `sparse/0`, `sparse`, `colmap/sparse/0` or the folder itself (of several the one with most photos),
    `poses_bounds.npy` (LLFF).

    Raises:
        CaptureError: there is nothing of the kind, or nothing of it can be used.
        DataError: a file is malformed; the message names file and field.
    """
    if not path.exists():
        raise CaptureError(f"{path} does not exist; give the folder of a scene")
    reader = _reader(path)
    if reader is None:
        raise CaptureError(
            f"{path} has no camera poses (no transforms.json, sparse/0, transforms_train.json or poses_bounds.npy); "
            "let COLMAP find them: nndl-suite nerf poses"
        )
    scene = reader(path)
    if not scene.views:
        raise CaptureError(f"{path} has {scene.poses.total} poses, but not one of their photos is there")
    for view in scene.views:
        if not np.abs(view.world_from_camera[:, 3]).max() <= _FARTHEST:
            raise DataError(
                f"the camera of {view.name} in {path} stands at {view.world_from_camera[:, 3].tolist()}; coordinates "
                f"must be numbers within {_FARTHEST:g}"
            )
    return scene


def has_poses(path: Path) -> bool:
    """Whether `read_scene` would find poses here."""
    return path.exists() and _reader(path) is not None


def _reader(path: Path) -> Callable[[Path], Scene] | None:
    if path.is_file():
        return read_transforms if path.suffix == ".json" else None
    if (path / "transforms.json").exists():
        return lambda folder: read_transforms(folder / "transforms.json")
    if (path / "transforms_train.json").exists():
        return read_blender
    if model_folders(path):
        return read_colmap
    if (path / "poses_bounds.npy").exists():
        return read_llff
    return None
