"""`transforms.json` of nerfstudio and instant-ngp, and the Blender scenes' three files."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import DataError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.decode import PHOTO_SUFFIXES, UNREADABLE, open_photo, reason
from nndl_suite.nerf.scene import PoseReport, Scene, View
from nndl_suite.training.json_files import load_json

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0])
_ORTHONORMAL_TOLERANCE = 0.02
_IMPLIED_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_transforms(file: Path) -> Scene:
    """A scene in one JSON file; frames whose photo is not there are left out and counted.

    Raises:
        DataError: the file is malformed; the message names the frame and the field.
    """
    return _scene(file.parent, [file])


def read_blender(folder: Path) -> Scene:
    """`transforms_train.json` and, held out, `transforms_test.json` if there; the validation file is not read.

    Raises:
        DataError: a file is malformed; the message names the frame and the field.
    """
    train = _scene(folder, [folder / "transforms_train.json"])
    test_file = folder / "transforms_test.json"
    if not test_file.exists():
        return train
    both = _scene(folder, [folder / "transforms_train.json", test_file])
    trained = {view.name for view in train.views}
    return replace(both, test_names=frozenset(view.name for view in both.views) - trained)


def _scene(root: Path, files: list[Path]) -> Scene:
    cameras: dict[Camera, int] = {}
    views: dict[str, View] = {}
    missing: list[str] = []
    total = 0
    for file in files:
        content = _content(file)
        for number, frame in enumerate(content["frames"]):
            where = f"{file}, frame {number}"
            if not isinstance(frame, dict):
                raise DataError(f"{where}: expected an object, got {type(frame).__name__}")
            total += 1
            name, image = _photo(root, frame, where)
            if image is None:
                missing.append(name)
                continue
            if name in views:
                raise DataError(f"{where}: the photo {name} is there twice")
            camera = _camera({**content, **frame}, image, where)
            views[name] = View(
                name=name,
                image=image,
                camera=cameras.setdefault(camera, len(cameras)),
                world_from_camera=_pose(frame.get("transform_matrix"), where),
                mask=_mask(root, frame, where),
            )
    return Scene(
        root=root,
        cameras=tuple(cameras),
        views=tuple(views[name] for name in sorted(views)),
        test_names=frozenset(),
        points=None,
        poses=PoseReport(registered=len(views), total=total, mean_reprojection_error=None, missing=tuple(missing)),
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        content: Any = load_json(file)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list) or not content["frames"]:
        raise DataError(f"{file}: expected an object with a list 'frames' of at least one frame")
    return content


def _photo(root: Path, frame: Mapping[str, Any], where: str) -> tuple[str, Path | None]:
    """The photo's name, and its file if there is one; Blender's names come without their ending."""
    path = _place(frame.get("file_path"), f"{where}: 'file_path' must be the name of a photo")
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in _IMPLIED_SUFFIXES)]
    for candidate in candidates:
        if candidate.suffix.lower() in PHOTO_SUFFIXES and os.path.isfile(root / candidate):
            return str(candidate), root / candidate
    return str(path), None


def _place(given: object, rule: str) -> PurePosixPath:
    """A file's place, seen from the capture.

    It may lie anywhere, as in files that `write_cameras` and others write; what is there is only ever decoded as a
    picture, and nothing is written where a name leads.

    Raises:
        DataError: it is no name; `rule` begins the message.
    """
    if not isinstance(given, str) or not given or "\0" in given:
        raise DataError(f"{rule}, got {given!r}")
    path = PurePosixPath(os.path.normpath(given.replace("\\", "/")))
    if not path.name or path.name == "..":
        raise DataError(f"{rule}, got {given!r}")
    return path


def _mask(root: Path, frame: Mapping[str, Any], where: str) -> Path | None:
    given = frame.get("mask_path")
    if given is None:
        return None
    mask = root / _place(given, f"{where}: 'mask_path' must be the name of a mask")
    if not os.path.isfile(mask):
        raise DataError(f"{where}: there is no mask {mask}; put it there, or take 'mask_path' out")
    return mask


def _number(fields: Mapping[str, Any], key: str, where: str) -> float | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: {key!r} must be a finite number, got {value!r}")
    return float(value)


def _camera(fields: Mapping[str, Any], image: Path, where: str) -> Camera:
    """The intrinsics that hold for a frame: its own before the file's."""
    width, height = _size(fields, image, where)
    fx, fy = _focals(fields, width, height, where)
    cx = _number(fields, "cx", where)
    cy = _number(fields, "cy", where)
    pinhole = (fx, fy, width / 2 if cx is None else cx, height / 2 if cy is None else cy)
    if not (-width <= pinhole[2] <= 2 * width and -height <= pinhole[3] <= 2 * height):
        raise DataError(
            f"{where}: the principal point ({pinhole[2]:g}, {pinhole[3]:g}) lies far outside the photo of {width} x "
            f"{height} pixels; are 'cx', 'cy', 'w' and 'h' of one size?"
        )
    k1, k2, k3, k4, p1, p2 = (_number(fields, key, where) or 0.0 for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    model = fields.get("camera_model", "OPENCV")
    if not isinstance(model, str):
        raise DataError(f"{where}: 'camera_model' must be a name, got {model!r}")
    if fields.get("is_fisheye") is True or model == "OPENCV_FISHEYE":
        chosen, params = "OPENCV_FISHEYE", (*pinhole, k1, k2, k3, k4)
    elif model == "EQUIRECTANGULAR":
        chosen, params = "EQUIRECTANGULAR", (float(width), float(height))
    elif model not in {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE"}:
        raise DataError(
            f"{where}: camera_model {model!r} is not read; known: OPENCV, OPENCV_FISHEYE, PINHOLE, EQUIRECTANGULAR"
        )
    elif k4:
        raise DataError(f"{where}: an OPENCV camera with k4 = {k4} is not read; undistort the photos")
    elif k3:
        chosen, params = "FULL_OPENCV", (*pinhole, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
    elif any((k1, k2, p1, p2)):
        chosen, params = "OPENCV", (*pinhole, k1, k2, p1, p2)
    else:
        chosen, params = "PINHOLE", pinhole
    try:
        return Camera(model=chosen, width=width, height=height, params=params)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _size(fields: Mapping[str, Any], image: Path, where: str) -> tuple[int, int]:
    width, height = _number(fields, "w", where), _number(fields, "h", where)
    if width is not None and height is not None:
        return round(width), round(height)
    try:
        with open_photo(image) as opened:
            return opened.size
    except UNREADABLE as error:
        raise DataError(
            f"{where}: 'w' and 'h' are not given and {image} cannot be read: {reason(error, image)}"
        ) from error


def _focals(fields: Mapping[str, Any], width: int, height: int, where: str) -> tuple[float, float]:
    """In pixels, from `fl_x` and `fl_y` or from the angles of view; an axis that says nothing is like the other."""

    def focal(key: str, angle_key: str, side: int) -> float | None:
        given = _number(fields, key, where)
        if given is not None:
            return given
        angle_rad = _number(fields, angle_key, where)
        if angle_rad is not None and not 0 < angle_rad < math.pi:
            raise DataError(f"{where}: {angle_key!r} must lie between 0 and pi, got {angle_rad}")
        return None if angle_rad is None else 0.5 * side / math.tan(0.5 * angle_rad)

    fx = focal("fl_x", "camera_angle_x", width)
    fy = focal("fl_y", "camera_angle_y", height)
    if fx is None and fy is None:
        if fields.get("camera_model") == "EQUIRECTANGULAR":
            return 1.0, 1.0  # it has none
        raise DataError(f"{where}: neither 'fl_x' nor 'camera_angle_x' tells the focal length")
    return (fy or 0.0) if fx is None else fx, (fx or 0.0) if fy is None else fy


def _pose(matrix: Any, where: str) -> Float64[np.ndarray, "3 4"]:
    """world_from_camera from the OpenGL matrix of a frame."""
    try:
        values = np.array(matrix, dtype=np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{where}: 'transform_matrix' must be 4 x 4 numbers") from error
    if values.shape not in {(4, 4), (3, 4)} or not np.isfinite(values).all():
        raise DataError(f"{where}: 'transform_matrix' must be 4 x 4 finite numbers, got shape {values.shape}")
    rotation = nearest_rotation(values[:3, :3], f"{where}: 'transform_matrix'")
    return np.concatenate([rotation @ _OPENGL_TO_OPENCV, values[:3, 3:]], axis=1)


def nearest_rotation(matrix: Float64[np.ndarray, "3 3"], where: str) -> Float64[np.ndarray, "3 3"]:
    """The rotation that a printed matrix means, digits lost and all.

    Raises:
        DataError: it is farther from any rotation than rounding explains.
    """
    if not np.abs(matrix).max() < 2:  # whose squares would overflow, or that are no numbers
        raise DataError(f"{where} has no rotation in its first three columns (orthonormal, right-handed)")
    left, _, right = np.linalg.svd(matrix)
    rotation = left @ right
    if np.linalg.det(rotation) < 0 or np.abs(rotation - matrix).max() > _ORTHONORMAL_TOLERANCE:
        raise DataError(f"{where} has no rotation in its first three columns (orthonormal, right-handed)")
    return rotation
