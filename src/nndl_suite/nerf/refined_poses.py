"""Where a run's training cameras went, in the capture's own frame: `poses_refined.json`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Float64

from nndl_suite.errors import DamagedFile
from nndl_suite.nerf.frame import Similarity, check_rotation
from nndl_suite.nerf.scene import Scene
from nndl_suite.training.files import Json
from nndl_suite.training.sealed_json import read_sealed, write_sealed

_AXES = "OpenCV: x right, y down, z forward"


def write_refined_poses(
    file: Path,
    scene: Scene,
    train: Sequence[int],
    field_from_camera: Float32[np.ndarray, "n 3 4"],
    field_from_world: Similarity,
) -> None:
    """Write the cameras of training photos as they ended.

    Args:
        file: The JSON file.
        scene: What was trained on, with its poses as given.
        train: Indices of the views that these cameras belong to, in this order.
        field_from_camera: Refined poses.
        field_from_world: The run's.
    """
    there = field_from_world.inverse().apply_pose(field_from_camera.astype(np.float64))
    cameras: list[Json] = [
        {"name": scene.views[index].name, "world_from_camera": cast(Json, pose.tolist())}
        for index, pose in zip(train, there, strict=True)
    ]
    write_sealed(file, {"frame": "the capture's own", "axes": _AXES, "cameras": cameras})


def with_refined_poses(scene: Scene, file: Path) -> Scene:
    """The scene with its training cameras where they ended; as it is where none has moved.

    Raises:
        RunError: the file is damaged.
    """
    if not file.exists():
        return scene
    try:
        cameras = cast(list[dict[str, Any]], read_sealed(file)["cameras"])
        poses = {str(camera["name"]): _pose(camera["world_from_camera"]) for camera in cameras}
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"{file} is damaged ({error!r}); delete it, and evaluating the run makes it anew") from error
    views = [replace(view, world_from_camera=poses.get(view.name, view.world_from_camera)) for view in scene.views]
    return replace(scene, views=tuple(views))


def _pose(rows: object) -> Float64[np.ndarray, "3 4"]:
    pose = np.array(rows, np.float64).reshape(3, 4)
    check_rotation(pose[:, :3])
    if not np.isfinite(pose).all():
        raise ValueError("a camera stands nowhere")
    return pose
