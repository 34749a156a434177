"""From a trained field and a wish in a person's words to a video file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import unknown_name
from nndl_suite.nerf.aim import seen_aim
from nndl_suite.nerf.filming import Quality, Shot, What, draft, film, settle, video_angle
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.outcome import photo_size
from nndl_suite.nerf.path import CameraPath, PathKind, interpolate, orbit, spiral
from nndl_suite.nerf.path_file import read_path, write_path
from nndl_suite.nerf.photos import reduced_size
from nndl_suite.nerf.rendering import AnyField
from nndl_suite.nerf.scene import Scene, stacked_poses, usual_view
from nndl_suite.nerf.video import check_video
from nndl_suite.training.files import check_place
from nndl_suite.training.watch import Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A video as it is asked for; see `ColmapNerfReconstructor.render_path` for what each means."""

    kind: PathKind | Path | str = "orbit"
    frames: int = 120
    fps: float | None = None
    size: tuple[int, int] | int | None = None
    what: What = "rgb"
    quality: Quality = "full"
    samples: int = 32
    save_path: Path | str | None = None

    def __post_init__(self) -> None:
        if self.quality not in get_args(Quality):
            raise unknown_name("quality", self.quality, get_args(Quality))


def make_video(  # noqa: PLR0913 - all that a reconstruction has
    field: AnyField,
    scene: Scene,
    train: tuple[int, ...],
    wanted: Wanted,
    file: Path,
    *,
    field_from_world: Similarity,
    max_side: int | None,
    watch: Watcher = ignore,
) -> CameraPath:
    """Render a video, and write its path where that is wanted.

    Args:
        field: What is seen.
        scene: The photos, in their own frame.
        train: Indices of the training views: the path goes where these are.
        wanted: The wish.
        file: The .mp4 to write.
        field_from_world: From the photos' frame to the field's.
        max_side: Pixels that the photos were reduced to.
        watch: Told of every frame.

    Returns:
        The path in the field frame, all settled.

    Raises:
        ConfigError: an unknown kind of path, a name that does not end in .mp4, or a setting outside its range.
        DataError: the camera-path file is not one.
        Interrupted: somebody stopped it; the video holds the frames until then.
    """
    cameras = field_from_world.apply_pose(stacked_poses(scene, train))
    usual = scene.views[usual_view(scene, train)]
    usual_size = reduced_size(photo_size(scene, usual), max_side)
    about = partial(seen_aim, field, cameras, video_angle(scene.cameras[usual.camera], usual_size))
    settled = settle(
        _camera_path(wanted.kind, cameras, wanted.frames, about, field_from_world),
        scene.cameras[usual.camera],
        usual_size=usual_size,
        size=wanted.size,
        fps=wanted.fps,
    )
    shot = Shot(path=settled, what=wanted.what, samples=wanted.samples)
    shot = draft(shot) if wanted.quality == "preview" else shot
    check_video(file, fps=shot.fps)
    check_place(file)
    if wanted.save_path is not None:
        there = field_from_world.inverse().apply_pose(settled.poses)
        write_path(Path(wanted.save_path), replace(settled, poses=there))
    film(field, shot, file, watch=watch)
    return shot.path


def _camera_path(
    kind: PathKind | Path | str,
    cameras: Float64[np.ndarray, "n 3 4"],
    frames: int,
    about: Callable[[], Float64[np.ndarray, "3"]],
    field_from_world: Similarity,
) -> CameraPath:
    """In the field frame; `about` is what orbits go round."""
    if kind == "orbit":
        return orbit(cameras, frames=frames, about=about())
    if kind == "spiral":
        return spiral(cameras, frames=frames, about=about())
    if kind == "interpolate":
        return interpolate(cameras, frames=frames)
    if Path(kind).suffix.lower() != ".json":
        raise unknown_name("path", str(kind), [*get_args(PathKind), "FILE.json"])
    read = read_path(Path(kind))
    return replace(read, poses=field_from_world.apply_pose(read.poses))
