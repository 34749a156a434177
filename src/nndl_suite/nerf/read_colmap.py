"""COLMAP models, binary or text, of any camera model that COLMAP knows."""

import math
import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import CaptureError, DataError, NndlError, RunError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.colmap import ask_colmap
from nndl_suite.nerf.masks import find_masks
from nndl_suite.nerf.scene import Points, PoseReport, Scene, View
from nndl_suite.training.files import Json, read_json

_BINARIES = ("cameras", "images", "points3D", "rigs", "frames")
_FEWEST_BYTES = 8
"""An entry of any of them is larger."""
_PHOTO_FOLDERS = ("images", "input", ".")


def model_folders(path: Path) -> list[Path]:
    """The folders at and below `path` that hold a COLMAP model, as far as models usually lie."""
    places = [path, path / "sparse", path / "colmap" / "sparse"]
    numbered = [child for place in places for child in sorted(place.glob("[0-9]*")) if child.is_dir()]
    return [
        folder
        for folder in [*numbered, *places]
        if (folder / "cameras.bin").exists() or (folder / "cameras.txt").exists()
    ]


def read_colmap(path: Path) -> Scene:
    """The largest COLMAP model of a folder.

    Raises:
        CaptureError: the photos are not found, or COLMAP cannot read the model.
    """
    folders = model_folders(path)
    _check_counts(folders)
    try:
        answer = ask_colmap("read_model", {"folders": list[Json](map(str, folders))})
    except CaptureError as error:
        raise CaptureError(f"the COLMAP model in {path} cannot be read ({error})") from error
    told = answer.fields
    cameras = _cameras(told)
    names: list[str] = told["names"]
    _check_names(told["folder"], names)
    photos = _photo_folder(path, Path(told["folder"]), names)
    poses = _inverse(answer.arrays["camera_from_world"])
    _check_numbers(told, poses, answer.arrays["xyz"])
    masks = find_masks(photos, names)
    views = tuple(
        View(name=name, image=photos / name, camera=camera, world_from_camera=pose, mask=masks.get(name))
        for name, camera, pose in zip(names, told["camera_of"], poses, strict=True)
        if os.path.isfile(photos / name)
    )
    points = Points(xyz=answer.arrays["xyz"], rgb=answer.arrays["rgb"])
    return Scene(
        root=path,
        cameras=cameras,
        views=views,
        test_names=frozenset(),
        points=points if len(points.xyz) else None,
        poses=_report(path, told, views),
    )


def _check_counts(folders: list[Path]) -> None:
    """Refuse a file that says it holds more than it can: COLMAP would read on for a minute, past its end."""
    files = [folder / f"{name}.bin" for folder in folders for name in _BINARIES]
    for file in filter(Path.is_file, files):
        size = file.stat().st_size
        with file.open("rb") as content:
            count = int.from_bytes(content.read(8), "little")
        if count * _FEWEST_BYTES > size:
            raise DataError(f"{file} is damaged: it says that it holds {count:,} entries, in {size:,} bytes")


def _cameras(told: Any) -> tuple[Camera, ...]:
    try:
        return tuple(
            Camera(model=item["model"], width=item["width"], height=item["height"], params=tuple(item["params"]))
            for item in told["cameras"]
        )
    except NndlError as error:
        raise DataError(f"the COLMAP model in {told['folder']} has a camera that cannot be: {error}") from error


def _check_names(model: str, names: list[str]) -> None:
    """Refuse what would be two photos in one, or a file that is no photo of this capture."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"the COLMAP model in {model} has the photo {twice[0]} twice")
    for name in names:
        place = PurePosixPath(name.replace("\\", "/"))
        if not place.name or place.is_absolute() or ".." in place.parts or "\0" in name:
            raise DataError(f"the COLMAP model in {model} has a photo called {name!r}, which leads out of the capture")


def _check_numbers(told: Any, poses: Float64[np.ndarray, "n 3 4"], xyz: Float64[np.ndarray, "p 3"]) -> None:
    model, rotations = f"the COLMAP model in {told['folder']}", poses[:, :, :3]
    if not np.isfinite(poses).all():
        raise DataError(f"{model} has a pose that is not finite")
    if not np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-3):
        raise DataError(f"{model} has a pose whose rotation is none")
    if not np.isfinite(xyz).all():
        raise DataError(f"{model} has a point that is not finite")
    if not math.isfinite(told["mean_reprojection_error"] or 0.0):
        raise DataError(f"{model} has a reprojection error that is not finite")


def _inverse(camera_from_world: Float64[np.ndarray, "n 3 4"]) -> Float64[np.ndarray, "n 3 4"]:
    rotation = camera_from_world[:, :, :3].transpose(0, 2, 1)
    return np.concatenate([rotation, -(rotation @ camera_from_world[:, :, 3:])], axis=2)


def _photo_folder(path: Path, model: Path, names: list[str]) -> Path:
    """Where the photos lie: beside the model or above it, where most of them are found."""
    above = [place for place in (path, *model.parents) if place.is_relative_to(path) or place == path.parent]
    places = [parent / name for parent in above for name in _PHOTO_FOLDERS]
    found = [sum(os.path.isfile(place / name) for name in names) for place in places]
    if not names or max(found) == 0:
        looked = ", ".join(dict.fromkeys(str(place) for place in places))
        raise CaptureError(
            f"none of the {len(names)} photos of the COLMAP model in {model} is there; looked in {looked}"
        )
    return places[found.index(max(found))]


def _report(path: Path, told: Any, views: tuple[View, ...]) -> PoseReport:
    """What `nndl_suite.nerf.sfm` wrote beside its model, or what the model itself tells."""
    own = path / "poses.json"
    there = {view.name for view in views}
    missing = [name for name in told["names"] if name not in there]
    total = told["total"]
    why: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if own.exists():
        try:
            written: Any = read_json(own)
            total = int(written["total"])
            missing += [str(name) for name in written["not_registered"]]
            why = {str(name): str(reason) for name, reason in written.get("why", {}).items()}
            notes = tuple(map(str, written.get("notes", [])))
        except (RunError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{own} is not what estimate_poses writes ({error!r}); estimate the poses again") from error
    return PoseReport(
        registered=len(views),
        total=total,
        mean_reprojection_error=told["mean_reprojection_error"],
        missing=tuple(missing),
        why=why,
        notes=notes,
    )
