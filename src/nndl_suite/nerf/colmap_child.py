"""COLMAP, run as a program of its own: `python -m nndl_suite.nerf.colmap_child`.

pycolmap stays out of everybody else's process for three reasons: some of its mistakes abort the process, its log
library takes over the SIGTERM handler, and its wheel exports a zlib of its own that breaks the system's unless that one
is loaded first. The request is one line of JSON on stdin; the answers are lines of JSON on stdout, each an object with
one of the keys "step", "result" and "error". Arrays go through an `.npz` file that the request names.

Only `nndl_suite.nerf.colmap` starts this. Even so nothing reaches pycolmap but what is on a list here, in `cameras` or
in `colmap_request`.
"""

import json
import os
import sys
import threading
import zlib  # noqa: F401  # pyright: ignore[reportUnusedImport]  # must be loaded before pycolmap, see above
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

if sys.platform == "linux":
    import resource

from nndl_suite.errors import NndlError, unknown_name
from nndl_suite.nerf.cameras import CAMERA_MODELS
from nndl_suite.nerf.colmap_estimate import Report, estimate

_SPARE_BYTES = 2**29
_BYTES_OF_A_BYTE = 64  # of a model file, once it is read: COLMAP keeps points in maps, tracks in vectors
_AWAY = 0.05  # pixels between a pixel and where its ray is seen: more is another ray's pixel


def main() -> None:
    """Answer the one request on stdin."""
    # COLMAP prints to stdout here and there; what it says must not land between our lines.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(**answer: object) -> None:
        replies.write(json.dumps(answer) + "\n")
        replies.flush()

    def report(stage: str, done: int, total: int) -> None:
        reply(step={"stage": stage, "done": done, "total": total})

    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.WARNING.value
    try:
        task = request.pop("task")
        if task not in _TASKS:
            raise unknown_name("task", str(task), _TASKS)
        reply(result=_TASKS[task](request, report))
    except (NndlError, ValueError, TypeError, RuntimeError, OSError, IndexError, KeyError, MemoryError) as error:
        reply(error=str(error) or type(error).__name__)
    os._exit(0)  # past the destructors of a large native library, and past the thread that reads stdin


def _leave_with_parent() -> None:
    """End this process when the parent is gone, however it went: nobody wants the rest of the work."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def directions(request: dict[str, Any], _: Report) -> dict[str, Any]:
    """Unit rays through all pixel centres of each camera, as arrays "0", "1", …, [h * w, 3]; NaN where there is none.

    COLMAP gives every pixel a ray, but beyond 90 degrees, or where a distortion folds back, one that leads elsewhere.
    """
    arrays: dict[str, np.ndarray] = {}
    for index, asked in enumerate(request["cameras"]):
        if asked["model"] not in CAMERA_MODELS:
            raise unknown_name("camera model", str(asked["model"]), CAMERA_MODELS)
        camera = pycolmap.Camera(
            model=asked["model"], width=asked["width"], height=asked["height"], params=asked["params"]
        )
        if not camera.verify_params():
            raise ValueError(f"camera model {asked['model']} cannot have the parameters {asked['params']}")
        x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        pixels = np.stack([x.ravel(), y.ravel()], axis=1)
        rays = np.array(camera.cam_ray_from_img(pixels), dtype=np.float64)
        back = np.asarray(camera.img_from_cam(rays, check_cheirality=False), dtype=np.float64)
        rays[~(np.abs(back - pixels).max(axis=1) < _AWAY)] = np.nan
        arrays[str(index)] = rays
    np.savez(request["arrays"], allow_pickle=False, **arrays)
    return {}


def read_model(request: dict[str, Any], _: Report) -> dict[str, Any]:
    """The largest of the models in the given folders: cameras and names in the answer, poses and points as arrays."""
    _limit_memory(request["folders"])
    models = [pycolmap.Reconstruction(folder) for folder in request["folders"]]
    chosen = max(range(len(models)), key=lambda index: models[index].num_reg_images())
    model = models[chosen]
    cameras = dict(sorted(model.cameras.items()))
    place = {camera_id: index for index, camera_id in enumerate(cameras)}
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    points = [point for _, point in sorted(model.points3D.items())]
    np.savez(
        request["arrays"],
        allow_pickle=False,
        camera_from_world=np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
        xyz=np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3),
        rgb=np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3),
    )
    return {
        "folder": request["folders"][chosen],
        "names": [image.name for image in images],
        "camera_of": [place[image.camera_id] for image in images],
        "cameras": [
            {
                "model": camera.model.name,
                "width": camera.width,
                "height": camera.height,
                "params": camera.params.tolist(),
            }
            for camera in cameras.values()
        ],
        "total": len(model.images),
        "mean_reprojection_error": model.compute_mean_reprojection_error() if points else None,
    }


def _limit_memory(folders: list[str]) -> None:
    """Let a model take no more memory than its files can fill: COLMAP believes whatever counts stand in them."""
    if sys.platform != "linux":
        return
    files = [file for folder in folders for file in Path(folder).iterdir() if file.is_file()]
    room = _SPARE_BYTES + _BYTES_OF_A_BYTE * sum(file.stat().st_size for file in files)
    held = resource.getpagesize() * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + room
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


_TASKS: dict[str, Callable[[dict[str, Any], Report], dict[str, Any]]] = {
    "directions": directions,
    "read_model": read_model,
    "estimate": lambda request, report: estimate(
        {name: value for name, value in request.items() if name != "arrays"}, report
    ),
}

if __name__ == "__main__":
    main()
