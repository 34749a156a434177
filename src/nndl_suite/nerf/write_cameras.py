"""A scene's cameras for other programs: `transforms.json` (nerfstudio, instant-ngp) and COLMAP's text model."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from nndl_suite.errors import ConfigError, RunError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.scene import Scene, View
from nndl_suite.training.files import Json, write_atomically, write_json

# Of each model that transforms.json can say: its name there, and the names of the parameters after the principal point.
_IN_TRANSFORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": ("PINHOLE", ()),
    "PINHOLE": ("PINHOLE", ()),
    "SIMPLE_RADIAL": ("OPENCV", ("k1",)),
    "RADIAL": ("OPENCV", ("k1", "k2")),
    "OPENCV": ("OPENCV", ("k1", "k2", "p1", "p2")),
    "FULL_OPENCV": ("OPENCV", ("k1", "k2", "p1", "p2", "k3")),
    "SIMPLE_FISHEYE": ("OPENCV_FISHEYE", ()),
    "FISHEYE": ("OPENCV_FISHEYE", ()),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1",)),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2")),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
}


def write_transforms(scene: Scene, file: Path, *, test: Sequence[int] = ()) -> None:
    """Write cameras as nerfstudio and instant-ngp read them: OpenGL axes, intrinsics and distortion with every frame.

    A photo below the file's folder is named relative to it, any other one by its whole path.

    Args:
        scene: The cameras, in the frame that they are to be written in.
        file: The .json to write.
        test: Indices of views held out; with any, the file names both sides of the split as nerfstudio reads it.

    Raises:
        ConfigError: the name does not end in .json, or a camera model has no name in this format.
        RunError: the file cannot be written.
    """
    if file.suffix.lower() != ".json":
        raise ConfigError(f"the cameras' file must end in .json, got {file.name!r}")
    intrinsics = [_intrinsics(camera) for camera in scene.cameras]
    root = file.parent.resolve()
    frames: list[Json] = [_frame(view, intrinsics[view.camera], root) for view in scene.views]
    names: list[Json] = [_named(view.image, root) for view in scene.views]
    held_out = set(test)
    split: dict[str, Json] = {}
    if held_out:
        tested = [name for index, name in enumerate(names) if index in held_out]
        split = {
            "train_filenames": [name for index, name in enumerate(names) if index not in held_out],
            "val_filenames": tested,
            "test_filenames": tested,
        }
    models = {str(fields["camera_model"]) for fields in intrinsics}
    common: dict[str, Json] = {"camera_model": models.pop()} if len(models) == 1 else {}  # nerfstudio looks here
    _make_folder(file.parent)
    write_json(file, {**common, **split, "frames": frames})


def write_colmap_text(scene: Scene, folder: Path) -> None:
    """Write cameras and sparse points as a COLMAP model in text: `cameras.txt`, `images.txt`, `points3D.txt`.

    Any camera model is kept as it is. The points have no tracks: which photo saw which is not known here.

    Args:
        scene: The cameras and points, in the frame that they are to be written in.
        folder: Where the three files go; made if it is not there.

    Raises:
        ConfigError: a photo's name has white space in it, where COLMAP's reader would cut it off.
        RunError: the files cannot be written.
    """
    for view in scene.views:
        if len(view.name.split()) != 1:
            raise ConfigError(
                f"COLMAP's text model ends a photo's name at its first space, so {view.name!r} has no place in it; "
                "export transforms.json, or rename the photos"
            )
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, camera in enumerate(scene.cameras, start=1):
        cameras.append(f"{number} {camera.model} {camera.width} {camera.height} {_numbers(camera.params)}")
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then a line of points, here empty"]
    for number, view in enumerate(scene.views, start=1):
        rotation = view.world_from_camera[:, :3].T
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        shift = -rotation @ view.world_from_camera[:, 3]
        images += [f"{number} {_numbers([w, x, y, z, *shift])} {view.camera + 1} {view.name}", ""]
    points = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR (-1: not known), TRACK[]"]
    if scene.points is not None:
        rows = zip(scene.points.xyz, scene.points.rgb, strict=True)
        points += [
            f"{number} {_numbers(xyz)} {' '.join(map(str, rgb))} -1" for number, (xyz, rgb) in enumerate(rows, start=1)
        ]
    _make_folder(folder)
    for name, lines in (("cameras.txt", cameras), ("images.txt", images), ("points3D.txt", points)):
        text = "\n".join(lines) + "\n"
        write_atomically(folder / name, lambda part, text=text: part.write_text(text, encoding="utf-8"))


def _intrinsics(camera: Camera) -> dict[str, Json]:
    size: dict[str, Json] = {"w": camera.width, "h": camera.height}
    if camera.model == "EQUIRECTANGULAR":  # nerfstudio's focal lengths make x from -1 to 1 and y from -0.5 to 0.5 of it
        half, whole = camera.width / 2, float(camera.height)
        fields: dict[str, Json] = {"fl_x": half, "fl_y": whole, "cx": half, "cy": whole / 2}
        return {"camera_model": camera.model, **size, **fields}
    if camera.model not in _IN_TRANSFORMS:
        raise _no_name(camera)
    model, names = _IN_TRANSFORMS[camera.model]
    cx, cy, *distortion = camera.params[camera.num_focals :]
    if any(distortion[len(names) :]):  # FULL_OPENCV with a denominator
        raise _no_name(camera)
    return {
        "camera_model": model,
        **size,
        "fl_x": camera.params[0],
        "fl_y": camera.params[camera.num_focals - 1],
        "cx": cx,
        "cy": cy,
        **dict(zip(names, distortion, strict=False)),
    }


def _no_name(camera: Camera) -> ConfigError:
    return ConfigError(
        f"transforms.json cannot describe a {camera.model} camera with parameters {camera.params}; "
        "export COLMAP text instead: give --out a folder"
    )


def _frame(view: View, intrinsics: dict[str, Json], root: Path) -> dict[str, Json]:
    opengl = np.vstack([view.world_from_camera * [1.0, -1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    mask: dict[str, Json] = {} if view.mask is None else {"mask_path": _named(view.mask, root)}
    return {"file_path": _named(view.image, root), **mask, **intrinsics, "transform_matrix": opengl.tolist()}


def _named(file: Path, root: Path) -> str:
    whole = Path(os.path.abspath(file))
    resolved = file.resolve()
    for place in (whole, resolved):
        if place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return whole.as_posix()


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
