"""The demo capture: same seed, same pixels; a floor point has one colour wherever the cameras say that it appears."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from nndl_suite.data.demo_capture import LOOK_AT, make_demo_capture
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.training.watch import Step


def digest(capture: Path) -> str:
    pixels = [np.asarray(Image.open(file)).tobytes() for file in sorted((capture / "images").iterdir())]
    return sha256(b"".join(pixels) + (capture / "transforms.json").read_bytes()).hexdigest()


def test_the_same_seed_makes_the_same_photos_whatever_the_caller_drew(tmp_path: Path):
    first = make_demo_capture(tmp_path / "a", photos=4, size=(48, 32))
    np.random.seed(5)  # noqa: NPY002 - the caller's own randomness, which must not matter
    second = make_demo_capture(tmp_path / "b", photos=4, size=(48, 32))
    other = make_demo_capture(tmp_path / "c", photos=4, size=(48, 32), seed=1)
    assert digest(first) == digest(second) != digest(other)


def test_it_says_that_it_is_made_and_reports_every_photo(tmp_path: Path):
    steps: list[Step] = []
    out = make_demo_capture(tmp_path / "a", photos=5, size=(48, 32), watch=steps.append)
    transforms = json.loads((out / "transforms.json").read_text())
    assert transforms["made"] is True
    assert "not taken with a camera" in (out / "README.txt").read_text()
    assert [frame["file_path"] for frame in transforms["frames"]] == [f"images/{i:04d}.png" for i in range(5)]
    assert [(step.done, step.total) for step in steps] == [(i + 1, 5) for i in range(5)]
    with Image.open(out / "images/0004.png") as image:
        assert image.size == (48, 32) == (transforms["w"], transforms["h"])


def test_making_it_again_replaces_it_but_never_other_files(tmp_path: Path):
    out = make_demo_capture(tmp_path / "a", photos=6, size=(48, 32))
    make_demo_capture(out, photos=4, size=(48, 32))
    assert len(list((out / "images").iterdir())) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not empty"):
        make_demo_capture(tmp_path / "mine")


def test_what_cannot_be_made_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="photos must be >= 4, got 3"):
        make_demo_capture(tmp_path / "a", photos=3)
    with pytest.raises(ConfigError, match="16 pixels"):
        make_demo_capture(tmp_path / "a", size=(320, 8))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_capture(tmp_path_factory.mktemp("demo") / "capture", photos=6, size=(320, 240))


def project(points: np.ndarray, transforms: dict, frame: dict) -> np.ndarray:
    """Pixel coordinates of world points, straight from the file's numbers; pixel centres at +0.5."""
    camera_from_world = np.linalg.inv(np.array(frame["transform_matrix"]))
    x, y, z = (camera_from_world[:3, :3] @ points.T) + camera_from_world[:3, 3:]
    assert (z < 0).all(), "OpenGL cameras look along -z"
    return np.stack(
        [transforms["fl_x"] * x / -z + transforms["cx"], transforms["fl_y"] * -y / -z + transforms["cy"]], -1
    )


def test_a_floor_point_has_one_colour_in_two_photos_at_its_projections(capture: Path):
    """The pinhole law: matt paint looks alike from both rounds' cameras, and 3 pixels beside it does not."""
    transforms = json.loads((capture / "transforms.json").read_text())
    low, high = transforms["frames"][0], transforms["frames"][3]  # both at azimuth 0, one above the other
    points = np.random.default_rng(0).uniform([-0.3, -1.2, 0], [0.6, -0.7, 0], (600, 3))  # beside the box

    def colours(frame: dict, shift: float) -> np.ndarray:
        with Image.open(capture / frame["file_path"]) as image:
            pixels = np.asarray(image, float)
        column, line = project(points, transforms, frame).T - 0.5
        return np.stack(
            [map_coordinates(pixels[..., c], [line, column + shift], order=1, cval=np.nan) for c in range(3)], -1
        )

    def disagreement(shift: float) -> float:
        return float(np.nanmedian(np.abs(colours(low, shift) - colours(high, 0)).mean(axis=-1)))

    shifts = np.arange(-3, 3.1, 0.5)
    curve = [disagreement(shift) for shift in shifts]
    assert abs(shifts[np.argmin(curve)]) <= 0.5
    assert max(curve[0], curve[-1]) > 2 * min(curve)


def test_cameras_face_the_object_from_two_heights(capture: Path):
    transforms = json.loads((capture / "transforms.json").read_text())
    poses = np.array([frame["transform_matrix"] for frame in transforms["frames"]])
    assert (transforms["cx"], transforms["cy"]) == (160, 120)
    middles = np.concatenate([project(np.array([LOOK_AT]), transforms, frame) for frame in transforms["frames"]])
    assert np.abs(middles - [160, 120]).max() < 20
    assert poses[:3, 2, 3].max() < poses[3:, 2, 3].min()
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.broadcast_to(np.eye(3), (6, 3, 3)), atol=1e-9
    )
