"""Videos of a field whose pictures are known: size, rate, what is shown, and what a stop leaves."""

import os
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from nndl_suite.errors import ConfigError, Interrupted
from nndl_suite.nerf import filming
from nndl_suite.nerf.cameras import Camera, pixel_directions
from nndl_suite.nerf.field import Field, FieldSettings, new_field
from nndl_suite.nerf.filming import Shot, draft, film, settle, video_angle
from nndl_suite.nerf.path import CameraPath, look_at
from nndl_suite.nerf.rendering import Rendering
from nndl_suite.training.watch import Step

CAMERA = Camera(model="PINHOLE", width=64, height=48, params=(60.0, 60.0, 32.0, 24.0))


def circle(frames: int) -> CameraPath:
    azimuth = np.linspace(0, 2 * np.pi, frames, endpoint=False)
    return CameraPath(
        poses=look_at(2 * np.stack([np.cos(azimuth), np.sin(azimuth), np.full(frames, 0.5)], -1)), description=""
    )


def shot(frames: int = 4, size: tuple[int, int] | int | None = None, fps: float | None = None, **what) -> Shot:
    return Shot(path=settle(circle(frames), CAMERA, usual_size=(64, 48), size=size, fps=fps), **what)


@pytest.fixture
def field(monkeypatch: pytest.MonkeyPatch) -> Field:
    """A floor at z = 0 up to distance 3, painted one colour; the sky stops no light."""

    def floor(_field: Field, directions: np.ndarray, pose: np.ndarray, *, samples: int) -> Rendering:
        toward = directions @ pose[:, :3].T
        depth = np.where(toward[..., 2] < 0, -pose[2, 3] / np.minimum(toward[..., 2], -1e-9), 1e6)
        hit = depth < 3
        rgb = np.where(hit[..., None], np.float32([0.8, 0.2, 0.1]), np.float32(0))
        return Rendering(rgb.astype(np.float32), depth.astype(np.float32), hit.astype(np.float32))

    monkeypatch.setattr(filming, "render_view", floor)
    return new_field(FieldSettings(log2_rows=8, finest=64, background=None), seed=0)


def decoded(file: Path) -> tuple[list[np.ndarray], object]:
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], stream.average_rate


@pytest.mark.parametrize(
    ("size", "expected"), [(None, (64, 48)), (96, (128, 96)), ((50, 80), (50, 80)), ((51, 33), (50, 32))]
)
def test_a_video_has_the_size_and_rate_asked_for(tmp_path: Path, field: Field, size, expected: tuple[int, int]):
    steps: list[Step] = []
    film(field, shot(size=size, fps=24), tmp_path / "a.mp4", watch=steps.append)
    frames, rate = decoded(tmp_path / "a.mp4")
    assert rate == 24
    assert [(frame.shape[1], frame.shape[0]) for frame in frames] == [expected] * 4
    assert [(step.stage, step.done, step.total) for step in steps] == [("rendering", n, 4) for n in (1, 2, 3, 4)]


def test_colours_depths_and_normals(tmp_path: Path, field: Field):
    shown = {}
    for what in ("rgb", "depth", "normal"):
        film(field, shot(size=(64, 64), what=what), tmp_path / f"{what}.mp4")
        shown[what] = decoded(tmp_path / f"{what}.mp4")[0]
    middle = (slice(34, 50), slice(20, 44))
    assert np.abs(shown["rgb"][0][middle].astype(int) - [204, 51, 26]).max() < 8
    assert np.abs(shown["normal"][2][middle].astype(int) - [128, 128, 255]).max() < 12
    for frame in shown["depth"]:
        assert frame[2].max() < 12, "no surface is black"
        upper, lower = frame[30, 32].astype(int), frame[60, 32].astype(int)
        assert lower[0] - lower[2] > upper[0] - upper[2], "near is redder than far"
    assert np.abs(shown["depth"][0].astype(int) - shown["depth"][3]).mean() < 3, "the same place looks the same"


def test_a_stopped_video_plays_to_where_it_came(tmp_path: Path, field: Field):
    def stop_after_two(step: Step) -> None:
        if step.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    file = tmp_path / "a.mp4"
    with pytest.raises(Interrupted, match=r"after 2 of 30 frames; .*a\.mp4 plays"):
        film(field, shot(30), file, watch=stop_after_two)
    assert len(decoded(file)[0]) == 2
    assert list(tmp_path.iterdir()) == [file]


def test_one_frame_is_rendered_even_if_it_is_stopped_before(tmp_path: Path, field: Field):
    def stop(step: Step) -> None:
        if step.stage != "rendering" and step.done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="after 1 of 30"):
        film(field, shot(30, what="depth"), tmp_path / "a.mp4", watch=stop)
    assert len(decoded(tmp_path / "a.mp4")[0]) == 1


def test_a_preview_lasts_as_long_at_half_the_size():
    whole = shot(31, size=(64, 48), fps=30, samples=48)
    small = draft(whole)
    assert (small.size, small.fps, small.samples, len(small.path.poses)) == ((32, 24), 10, 16, 11)
    np.testing.assert_array_equal(small.path.poses, whole.path.poses[::3])


def test_what_the_path_says_comes_before_what_photos_say_and_after_what_is_asked():
    own = CameraPath(poses=circle(2).poses, description="", fov_deg=np.array([30.0, 40.0]), size=(100, 80), fps=12.0)
    settled = settle(own, CAMERA, usual_size=(64, 48), size=None, fps=None)
    assert (settled.size, settled.fps, settled.fov_deg.tolist()) == ((100, 80), 12, [30, 40])
    asked = settle(own, CAMERA, usual_size=(64, 48), size=(40, 40), fps=25)
    assert (asked.size, asked.fps) == ((40, 40), 25)
    usual = settle(circle(2), CAMERA, usual_size=(64, 48), size=None, fps=None)
    assert (usual.size, usual.fps) == ((64, 48), 30)


def test_a_video_shows_what_photos_show_and_never_more():
    corner = pixel_directions(CAMERA)[0, 0]
    assert video_angle(CAMERA, (128, 96)) == pytest.approx(2 * np.degrees(np.arctan(24 / 60)))
    for width, height in ((64, 48), (160, 48), (48, 160), (30, 30)):
        angle = video_angle(CAMERA, (width, height))
        focal = height / 2 / np.tan(np.radians(angle) / 2)
        assert height / 2 / focal <= -corner[1] / corner[2] * 1.03
        assert width / 2 / focal <= -corner[0] / corner[2] * 1.03
    fisheye = Camera(model="OPENCV_FISHEYE", width=100, height=200, params=(40.0, 40.0, 50.0, 100.0, 0, 0, 0, 0))
    assert video_angle(fisheye, (100, 200)) == 100


def test_shots_that_cannot_be_are_refused(tmp_path: Path, field: Field):
    with pytest.raises(ConfigError, match="16 to 8192 pixels, got 8 x 64"):
        shot(size=(8, 64))
    with pytest.raises(ConfigError, match="did you mean 'depth'"):
        shot(what="deepth")
    with pytest.raises(ConfigError, match="samples a ray must be one of"):
        shot(samples=33)
    with pytest.raises(ConfigError, match=r"\.mp4"):
        film(field, shot(), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []
