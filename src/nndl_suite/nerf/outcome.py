"""What a reconstruction leaves in its run folder for people and for the report."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from nndl_suite.nerf.decode import open_photo
from nndl_suite.nerf.evaluation import Evaluation
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.pictures import ERROR_SCALE, error_picture
from nndl_suite.nerf.scene import Scene, View
from nndl_suite.training.checkpoints import Checkpoint
from nndl_suite.training.files import Json, write_atomically, write_json

_MOST_POINTS = 5000
_JOINT_SOLVE = (
    "the held-out photos took part in the joint COLMAP solve that gave all cameras; their pixels never reached training"
)


AS_GIVEN = "as given"
REFITTED = "refitted on the left half, scored on the right half"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A field's scores, and what is needed to read them."""

    test: Evaluation
    """On the held-out photos."""
    train: Evaluation
    """On a few of those that training saw, at the same neutral exposure."""
    lpips_missing: str | None
    """Why there is no LPIPS; None where there is one."""
    test_unrefined: Evaluation | None = None
    """On the whole held-out photos at their poses as given, where training moved its cameras; `test` is then on the
    right halves, at poses refitted on the left ones. None where no camera moved."""


def result_fields(
    scores: Scores, trained: Checkpoint, scene: Scene, *, train_images: int, poses_source: str, max_side: int | None
) -> dict[str, Json]:
    """The fields of `result.json`, as the contract names them."""
    test, train, poses = scores.test, scores.train, scene.poses
    height, width = test.images[0].truth.shape[:2]
    # COLMAP leaves an error, whoever ran it; poses from elsewhere come without one
    solved_jointly = poses_source == "colmap" or poses.mean_reprojection_error is not None
    return {
        "test": _figures(test),
        "held_out_poses": AS_GIVEN if scores.test_unrefined is None else REFITTED,
        "test_unrefined": None if scores.test_unrefined is None else _figures(scores.test_unrefined),
        "lpips_missing": scores.lpips_missing,
        "train": {"psnr": train.psnr, "ssim": train.ssim, "names": [image.name for image in train.images]},
        "gap": {"psnr": train.psnr - test.psnr, "ssim": train.ssim - test.ssim},
        "train_images": train_images,
        "test_images": len(test.images),
        "resolution": [width, height],
        "photo_size": list[Json](photo_size(scene, next(v for v in scene.views if v.name == test.images[0].name))),
        "max_side": max_side,
        "error_scale": ERROR_SCALE,
        "steps": trained.step,
        "train_seconds": round(trained.seconds, 3),
        "render_seconds_per_frame": round(test.seconds_per_frame, 4),
        "poses": {
            "registered": poses.registered,
            "total": poses.total,
            "mean_reprojection_error": poses.mean_reprojection_error,
            "notes": list[Json](poses.notes),
        },
        "poses_source": poses_source,
        "note": _JOINT_SOLVE if solved_jointly else None,
    }


def _figures(scores: Evaluation) -> dict[str, Json]:
    return {
        "psnr": scores.psnr,
        "ssim": scores.ssim,
        "lpips": scores.lpips,
        "per_image": [
            {"name": image.name, "psnr": image.psnr, "ssim": image.ssim, "lpips": image.lpips}
            for image in scores.images
        ],
    }


def write_views(folder: Path, scores: Evaluation) -> None:
    """Each held-out photo, its rendering and its errors: `NAME-photo.jpg`, `NAME-render.jpg`, `NAME-error.jpg`."""
    folder.mkdir(exist_ok=True)
    for image, stem in zip(scores.images, _stems([image.name for image in scores.images]), strict=True):
        error = error_picture(image.rendered, image.truth, image.counted)
        for kind, pixels in (("photo", image.truth), ("render", image.rendered), ("error", error)):
            picture = Image.fromarray(pixels)
            write_atomically(folder / f"{stem}-{kind}.jpg", partial(picture.save, quality=92, subsampling=0))


def _stems(names: Sequence[str]) -> list[str]:
    """File names without folder and ending, or, where that makes two the same, with underscores for slashes."""
    stems = [Path(name).stem for name in names]
    return stems if len(set(stems)) == len(stems) else [name.replace("/", "_") for name in names]


def write_scene_file(file: Path, scene: Scene, field_from_world: Similarity, test: Collection[int]) -> None:
    """Cameras and at most 5000 sparse points in the field frame, for a look around.

    Args:
        file: The JSON file.
        scene: What is described.
        field_from_world: From `field_frame`.
        test: Indices of the views that are held out.
    """
    poses = field_from_world.apply_pose(np.stack([view.world_from_camera for view in scene.views]))
    cameras: list[Json] = [
        {
            "name": view.name,
            "center": _rounded(pose[:, 3]),
            "forward": _rounded(pose[:, 2]),
            "up": _rounded(-pose[:, 1]),
            "test": index in test,
        }
        for index, (view, pose) in enumerate(zip(scene.views, poses, strict=True))
    ]
    xyz: list[Json] = []
    rgb: list[Json] = []
    if scene.points is not None:
        chosen = slice(None, None, math.ceil(len(scene.points.xyz) / _MOST_POINTS))
        xyz = [_rounded(point) for point in field_from_world.apply(scene.points.xyz[chosen])]
        rgb = [list[Json](map(int, colour)) for colour in scene.points.rgb[chosen]]
    points: dict[str, Json] = {"xyz": xyz, "rgb": rgb}
    write_json(file, {"cameras": cameras, "points": points, "up": [0.0, 0.0, 1.0], "center": [0.0, 0.0, 0.0]})


def _rounded(vector: Float64[np.ndarray, "3"]) -> list[Json]:
    return [round(float(value), 5) for value in vector]


def photo_size(scene: Scene, view: View) -> tuple[int, int]:
    """Width and height of a photo as it lies on the disk, turned as its camera saw it."""
    camera = scene.cameras[view.camera]
    with open_photo(view.image) as photo:  # the header only
        short, long = sorted(photo.size)
    return (short, long) if camera.height >= camera.width else (long, short)
