"""A small turn round the object, rendered when training ends, for the report to play."""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nndl_suite.errors import CaptureError
from nndl_suite.nerf.aim import seen_aim
from nndl_suite.nerf.filming import Shot, frames_of, settle, video_angle
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.outcome import photo_size
from nndl_suite.nerf.path import orbit
from nndl_suite.nerf.photos import reduced_size
from nndl_suite.nerf.rendering import AnyField
from nndl_suite.nerf.scene import Scene, stacked_poses, usual_view
from nndl_suite.report.turning import TURN_COLUMNS, TURN_FILE, TURN_FRAMES
from nndl_suite.training.files import write_atomically
from nndl_suite.training.watch import Watcher, ignore, within

_SIDE = 200  # pixels of a frame's longer side: some seconds to render, some 200 kB in all
_SAMPLES = 24


def write_turn(  # noqa: PLR0913 - all that a reconstruction has
    folder: Path,
    field: AnyField,
    scene: Scene,
    train: tuple[int, ...],
    *,
    field_from_world: Similarity,
    max_side: int | None,
    watch: Watcher = ignore,
) -> None:
    """Write `turn.jpg` into a run folder: 36 small frames of an orbit in one picture, row by row.

    Photos that were all taken from right above have no orbit; then there is none.
    """
    cameras = field_from_world.apply_pose(stacked_poses(scene, train))
    usual = scene.views[usual_view(scene, train)]
    size, camera = reduced_size(photo_size(scene, usual), max_side), scene.cameras[usual.camera]
    try:
        path = orbit(cameras, frames=TURN_FRAMES, about=seen_aim(field, cameras, video_angle(camera, size)))
    except CaptureError:
        return
    scale = min(1.0, _SIDE / max(size))
    small = max(16, round(size[0] * scale)), max(16, round(size[1] * scale))
    shot = Shot(path=settle(path, camera, usual_size=size, size=small, fps=None), samples=_SAMPLES)
    frames = list(frames_of(field, shot, watch=within(watch, "a small turn for the report")))
    picture = Image.fromarray(_tiled(frames))
    write_atomically(folder / TURN_FILE, partial(picture.save, quality=80))


def _tiled(frames: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "hh ww 3"]:
    rows = [np.concatenate(frames[i : i + TURN_COLUMNS], axis=1) for i in range(0, len(frames), TURN_COLUMNS)]
    return np.concatenate(rows)
