"""COLMAP models, binary or text, of any camera model that COLMAP knows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import CaptureError, DataError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.colmap import ask_colmap
from nndl_suite.nerf.masks import find_masks
from nndl_suite.nerf.scene import Points, PoseReport, Scene, View
from nndl_suite.training.files import Json

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
    try:
        answer = ask_colmap("read_model", {"folders": list[Json](map(str, folders))})
    except CaptureError as error:
        raise CaptureError(f"the COLMAP model in {path} cannot be read ({error})") from error
    told = answer.fields
    cameras = tuple(
        Camera(model=item["model"], width=item["width"], height=item["height"], params=tuple(item["params"]))
        for item in told["cameras"]
    )
    names: list[str] = told["names"]
    photos = _photo_folder(path, Path(told["folder"]), names)
    poses = _inverse(answer.arrays["camera_from_world"])
    if not np.isfinite(poses).all():
        raise DataError(f"the COLMAP model in {told['folder']} has a pose that is not finite")
    masks = find_masks(photos, names)
    views = tuple(
        View(name=name, image=photos / name, camera=camera, world_from_camera=pose, mask=masks.get(name))
        for name, camera, pose in zip(names, told["camera_of"], poses, strict=True)
        if (photos / name).exists()
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


def _inverse(camera_from_world: Float64[np.ndarray, "n 3 4"]) -> Float64[np.ndarray, "n 3 4"]:
    rotation = camera_from_world[:, :, :3].transpose(0, 2, 1)
    return np.concatenate([rotation, -(rotation @ camera_from_world[:, :, 3:])], axis=2)


def _photo_folder(path: Path, model: Path, names: list[str]) -> Path:
    """Where the photos lie: beside the model or above it, where most of them are found."""
    above = [place for place in (path, *model.parents) if place.is_relative_to(path) or place == path.parent]
    places = [parent / name for parent in above for name in _PHOTO_FOLDERS]
    found = [sum((place / name).exists() for name in names) for place in places]
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
            written = json.loads(own.read_text(encoding="utf-8"))
            total = int(written["total"])
            missing += [str(name) for name in written["not_registered"]]
            why = {str(name): str(reason) for name, reason in written.get("why", {}).items()}
            notes = tuple(map(str, written.get("notes", [])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{own} is not what estimate_poses writes ({error!r}); estimate the poses again") from error
    return PoseReport(
        registered=len(views),
        total=total,
        mean_reprojection_error=told["mean_reprojection_error"],
        missing=tuple(missing),
        why=why,
        notes=notes,
    )
