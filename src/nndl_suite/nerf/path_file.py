"""Camera paths as files, in the JSON of nerfstudio's viewer and renderer.

The matrices are OpenGL axes (x right, y up, z backwards) in the frame of the capture's own poses: that of its
transforms.json, or of the COLMAP model. nerfstudio moves a capture into a frame of its own unless it is told
`--orientation-method none --center-method none --auto-scale-poses False`; only then do its paths and ours agree.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import DataError
from nndl_suite.nerf.path import CameraPath
from nndl_suite.training.files import Json, write_json
from nndl_suite.training.json_files import load_json

_FARTHEST = 1e9
_LONGEST_SIDE = 65_535
_OPENGL = np.array([1.0, -1.0, -1.0])


def write_path(file: Path, path: CameraPath) -> None:
    """Write a path so that `read_path` and nerfstudio (`ns-render camera-path`) read it.

    Args:
        file: The JSON file.
        path: In the capture's own frame, with angle of view, size and frame rate.

    Raises:
        RunError: the file cannot be written.
    """
    assert path.fov_deg is not None  # who saves a path has settled what it shows
    assert path.size is not None
    assert path.fps is not None
    width, height = path.size
    cameras: list[Json] = []
    for pose, fov in zip(path.poses, path.fov_deg, strict=True):
        matrix = np.vstack([np.column_stack([pose[:, :3] * _OPENGL, pose[:, 3]]), [0.0, 0.0, 0.0, 1.0]])
        cameras.append(
            {"camera_to_world": list[Json](matrix.ravel().tolist()), "fov": float(fov), "aspect": width / height}
        )
    content: dict[str, Json] = {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": path.fps,
        "seconds": len(cameras) / path.fps,
        "is_cycle": False,
        "smoothness_value": 0.0,
        "crop": None,
        "keyframes": [],
        "camera_path": cameras,
    }
    write_json(file, content)


def read_path(file: Path) -> CameraPath:
    """A path in nerfstudio's JSON: `{"camera_path": [{"camera_to_world": [16 numbers, row by row]}, ...]}`.

    A scale in the rotation is divided out. `fov` (vertical, degrees) of the cameras, `render_width` and
    `render_height`, and `fps` are taken where they are there; other keys are ignored.

    Returns:
        The path in that frame, not yet in the field's.

    Raises:
        DataError: the file is missing, is not such JSON, or a matrix is not a pose.
    """
    if not file.is_file():
        raise DataError(f"there is no camera path {file}; name a .json file, or orbit, interpolate or spiral")
    try:
        content: Any = load_json(file)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the camera path {file}: {error}") from error
    frames = content.get("camera_path") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise DataError(f'{file} must hold {{"camera_path": [...]}} with at least one camera')
    kind = content.get("camera_type", "perspective")
    if kind != "perspective":
        raise DataError(f"{file} is a path of {kind!r} cameras; only 'perspective' ones are rendered")
    poses = [_read_pose(frame, f"{file}: camera {index}") for index, frame in enumerate(frames)]
    return CameraPath(
        poses=np.stack(poses),
        description=f"{len(poses)} cameras from {file.name}",
        fov_deg=_read_angles(cast(list[dict[str, Any]], frames), file),
        size=_read_size(content, file),
        fps=_positive(content, "fps", file),
    )


def _read_pose(frame: object, where: str) -> Float64[np.ndarray, "3 4"]:
    numbers = frame.get("camera_to_world") if isinstance(frame, dict) else None
    try:
        matrix = np.asarray(numbers, dtype=np.float64).reshape(4, 4)
    except (OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{where} needs camera_to_world with 16 numbers, row by row") from error
    within = np.abs(matrix).max() < _FARTHEST  # false of NaN too
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3]))) if within else math.nan
    rotation = matrix[:3, :3] / scale if scale > 1e-9 else np.zeros((3, 3))
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise DataError(f"{where}: camera_to_world is not a rotation and a position")
    return np.column_stack([rotation * _OPENGL, matrix[:3, 3]])


def _read_angles(frames: list[dict[str, Any]], file: Path) -> Float64[np.ndarray, "f"] | None:
    if not any("fov" in frame for frame in frames):
        return None
    angles = [_positive(frame, "fov", f"{file}: camera {index}") for index, frame in enumerate(frames)]
    for index, angle in enumerate(angles):
        if angle is None or angle >= 180:
            raise DataError(f"{file}: camera {index} needs a fov between 0 and 180 degrees, as others have")
    return np.array(angles, dtype=np.float64)


def _read_size(content: Mapping[str, Any], file: Path) -> tuple[int, int] | None:
    width, height = (_positive(content, key, file) for key in ("render_width", "render_height"))
    if width is None or height is None:
        return None
    if not all(1 <= side <= _LONGEST_SIDE for side in (width, height)):
        raise DataError(f"{file}: render_width and render_height must be 1 to {_LONGEST_SIDE:,}, got {width}, {height}")
    return round(width), round(height)


def _positive(fields: Mapping[str, Any], key: str, where: Path | str) -> float | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: {key} must be a number above 0, got {value!r}")
    return float(value)
