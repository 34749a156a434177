"""Videos of a field along a camera path: its colours, depths or normals."""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from nndl_suite.errors import ConfigError, Interrupted, unknown_name
from nndl_suite.nerf.cameras import Camera, pixel_directions
from nndl_suite.nerf.path import CameraPath
from nndl_suite.nerf.pictures import depth_picture, depth_range, normal_picture
from nndl_suite.nerf.rendering import AnyField, Rendering, check_samples, render_view
from nndl_suite.nerf.video import check_video, write_video
from nndl_suite.training.stopping import stop_requests
from nndl_suite.training.watch import Step, Watcher, ignore

What = Literal["rgb", "depth", "normal"]
Quality = Literal["full", "preview"]

_SIDES = (16, 8192)
"""Pixels; fewer show nothing, and H.264 ends near there."""
_WIDEST_DEG = 100.0
"""Vertical angle of view of a video; the straight lines of a wider one are stretched beyond recognition."""
_PROBES = 8
"""Small pictures along the path that settle which depths a video's colours span."""
_PROBE_SIDE = 120  # pixels
_PROBE_SAMPLES = 16
_DRAFT_STRIDE = 3

_Picture = Callable[[Rendering, Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "3 4"]], UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What a video shows, all settled."""

    path: CameraPath
    """From `settle`."""
    what: What = "rgb"
    samples: int = 32
    """Samples a ray."""

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise unknown_name("picture", self.what, get_args(What))
        check_samples(self.samples)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        assert self.path.size is not None
        return self.path.size

    @property
    def fov_deg(self) -> Float64[np.ndarray, "f"]:
        """Vertical angle of view, frame by frame."""
        assert self.path.fov_deg is not None
        return self.path.fov_deg

    @property
    def fps(self) -> float:
        """Frames a second."""
        assert self.path.fps is not None
        return self.path.fps


def settle(
    path: CameraPath,
    camera: Camera,
    *,
    usual_size: tuple[int, int],
    size: tuple[int, int] | int | None,
    fps: float | None,
) -> CameraPath:
    """The path with all that it left open: size and rate as asked for, else its own, else the photos'.

    Args:
        path: In the field's frame.
        camera: Of most photos; shows what a path without an angle of its own shows.
        usual_size: Width and height in pixels where nobody says.
        size: Asked for; of a height alone, the width follows the photos' shape.
        fps: Asked for.

    Raises:
        ConfigError: a size that no video has.
    """
    if isinstance(size, int):
        size = round(usual_size[0] * size / usual_size[1]), size
    width, height = size or path.size or usual_size
    if not all(_SIDES[0] <= side <= _SIDES[1] for side in (width, height)):
        raise ConfigError(f"a video's sides must have {_SIDES[0]} to {_SIDES[1]} pixels, got {width} x {height}")
    angle = video_angle(camera, (width, height))
    return replace(
        path,
        fov_deg=np.full(len(path.poses), angle) if path.fov_deg is None else path.fov_deg,
        size=(width, height),
        fps=path.fps or 30.0 if fps is None else fps,
    )


def draft(shot: Shot) -> Shot:
    """A shot to look at before the real one, for about a thirtieth of the time.

    Half the size, every third frame at a third of the rate, 16 samples a ray.
    """
    path, side = shot.path, _SIDES[0]
    width, height = shot.size
    fewer = replace(
        path,
        poses=path.poses[::_DRAFT_STRIDE],
        fov_deg=shot.fov_deg[::_DRAFT_STRIDE],
        size=(max(side, width // 2), max(side, height // 2)),
        fps=shot.fps / _DRAFT_STRIDE,
    )
    return replace(shot, path=fewer, samples=min(shot.samples, _PROBE_SAMPLES))


def film(field: AnyField, shot: Shot, file: Path, *, watch: Watcher = ignore) -> None:
    """Render a video. Ctrl-C or SIGTERM ends it after the frame at hand, as a shorter video; a second Ctrl-C at once.

    Raises:
        ConfigError: the name does not end in .mp4, or the frame rate is not above 0.
        Interrupted: somebody stopped it; the file holds the frames until then.
    """
    check_video(file, fps=shot.fps)
    total = len(shot.path.poses)
    with stop_requests() as stop:
        picture = _picture(field, shot, watch)
        written = write_video(_frames(field, shot, picture, stop, watch), file, fps=shot.fps)
        if written < total:
            raise Interrupted(f"stopped after {written} of {total} frames; {file} plays and holds these")


def frames_of(field: AnyField, shot: Shot, *, watch: Watcher = ignore) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The pictures of a video, one by one, for something else than a file."""
    return _frames(field, shot, _picture(field, shot, watch), threading.Event(), watch)


def _frames(
    field: AnyField, shot: Shot, picture: _Picture, stop: threading.Event, watch: Watcher
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """At least one frame, whatever was asked for meanwhile: an empty video plays nowhere."""
    lens = _Lens(shot.size)
    total = len(shot.path.poses)
    for index, pose in enumerate(shot.path.poses.astype(np.float32)):
        directions = lens.directions(float(shot.fov_deg[index]))
        yield picture(render_view(field, directions, pose, samples=shot.samples), directions, pose)
        watch(Step(stage="rendering", done=index + 1, total=total))
        if stop.is_set():
            return


def video_angle(camera: Camera, size: tuple[int, int]) -> float:
    """The vertical angle, in degrees, at which a video without distortion shows what a camera's photos do.

    The middle of the photos fills the frame: of another shape it shows less of them, never more. Wide lenses are cut to
    100 degrees.
    """
    width, height = size
    if camera.num_focals == 0:  # all the way round
        return 60.0
    focal = camera.params[camera.num_focals - 1] * max(width / camera.width, height / camera.height)
    return min(2 * math.degrees(math.atan(height / 2 / focal)), _WIDEST_DEG)


class _Lens:
    """Directions of a pinhole's pixels, kept while the angle stays."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._last: tuple[float, np.ndarray] | None = None

    def directions(self, fov_deg: float) -> Float32[np.ndarray, "h w 3"]:
        """For a vertical angle of view; square pixels, the axis in the middle."""
        if self._last is None or self._last[0] != fov_deg:
            width, height = self._size
            focal = height / 2 / math.tan(math.radians(fov_deg) / 2)
            camera = Camera(model="PINHOLE", width=width, height=height, params=(focal, focal, width / 2, height / 2))
            self._last = fov_deg, pixel_directions(camera).astype(np.float32)
        return self._last[1]


def _picture(field: AnyField, shot: Shot, watch: Watcher) -> _Picture:
    """How a rendering becomes a frame."""
    if shot.what == "normal":
        return lambda seen, directions, pose: normal_picture(seen.depth, seen.opacity, directions, pose)
    if shot.what == "depth":
        span = _depth_range(field, shot, watch)
        return lambda seen, _directions, _pose: depth_picture(seen.depth, seen.opacity, span)
    return lambda seen, _directions, _pose: (seen.rgb * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _depth_range(field: AnyField, shot: Shot, watch: Watcher) -> tuple[float, float]:
    """One range for the whole video, so that a colour means one depth in all of it."""
    shrink = min(1.0, _PROBE_SIDE / max(shot.size))
    lens = _Lens((max(1, round(shot.size[0] * shrink)), max(1, round(shot.size[1] * shrink))))
    chosen = sorted({int(place) for place in np.linspace(0, len(shot.path.poses) - 1, _PROBES)})
    views: list[Rendering] = []
    for index in chosen:
        pose = shot.path.poses[index].astype(np.float32)
        views.append(render_view(field, lens.directions(float(shot.fov_deg[index])), pose, samples=_PROBE_SAMPLES))
        watch(Step(stage="finding the range of depths", done=len(views), total=len(chosen)))
    return depth_range([(view.depth, view.opacity) for view in views])
