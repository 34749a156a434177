"""Cameras against COLMAP itself, which runs in a process of its own here too."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.errors import CaptureError, ConfigError, DataError
from nndl_suite.nerf.cameras import (
    CAMERA_MODELS,
    Camera,
    all_pixel_directions,
    directions_where_any,
    pixel_directions,
)

WIDTH, HEIGHT = 24, 18
SMALL = {
    "SIMPLE_PINHOLE": (20.0, 11.5, 9.25),
    "PINHOLE": (20.0, 21.0, 11.5, 9.25),
    "SIMPLE_RADIAL": (20.0, 11.5, 9.25, 0.05),
    "RADIAL": (20.0, 11.5, 9.25, 0.05, -0.01),
    "SIMPLE_RADIAL_FISHEYE": (20.0, 11.5, 9.25, 0.05),
    "RADIAL_FISHEYE": (20.0, 11.5, 9.25, 0.05, -0.01),
    "OPENCV": (20.0, 21.0, 11.5, 9.25, 0.05, -0.02, 0.001, -0.002),
    "OPENCV_FISHEYE": (20.0, 21.0, 11.5, 9.25, 0.03, -0.01, 0.002, 0.001),
    "FULL_OPENCV": (20.0, 21.0, 11.5, 9.25, 0.05, -0.02, 0.001, -0.002, 0.01, 0.02, 0.01, 0.005),
    "FOV": (20.0, 21.0, 11.5, 9.25, 0.3),
    "THIN_PRISM_FISHEYE": (20.0, 21.0, 11.5, 9.25, 0.03, -0.01, 0.001, -0.002, 0.002, 0.001, 0.001, -0.001),
    "RAD_TAN_THIN_PRISM_FISHEYE": (20.0, 21.0, 11.5, 9.25, *[0.01, -0.005, 0.002, 0.001, 0, 0], *[0.001] * 6),
    "SIMPLE_DIVISION": (20.0, 11.5, 9.25, -0.05),
    "DIVISION": (20.0, 21.0, 11.5, 9.25, -0.05),
    "SIMPLE_FISHEYE": (20.0, 11.5, 9.25),
    "FISHEYE": (20.0, 21.0, 11.5, 9.25),
    "EUCM": (20.0, 21.0, 11.5, 9.25, 0.5, 1.1),
    "EQUIRECTANGULAR": (24.0, 18.0),
}
CAMERAS = [
    Camera(model=model, width=WIDTH, height=HEIGHT, params=tuple(map(float, params))) for model, params in SMALL.items()
]

# Projects the given rays at twice their length: pixel and ray must belong together, whatever solver found the ray.
PROJECT = """
import zlib, json, sys, numpy as np, pycolmap
asked = json.load(sys.stdin)
out = []
for camera in asked:
    fields = {name: camera[name] for name in ("model", "width", "height", "params")}
    model = pycolmap.Camera(**fields)
    projected = model.img_from_cam(2 * np.array(camera["rays"]), check_cheirality=False)
    if camera["resize"]:
        model.rescale(*camera["resize"])
    out.append({"pixels": projected.tolist(), "params": model.params.tolist()})
print(json.dumps(out))
"""


def ask(requests: list[dict[str, object]]) -> list[dict[str, list[float]]]:
    done = subprocess.run([sys.executable, "-c", PROJECT], input=json.dumps(requests), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def as_request(camera: Camera, rays: np.ndarray, resize: tuple[int, int] | None = None) -> dict[str, object]:
    return {
        "model": camera.model,
        "width": camera.width,
        "height": camera.height,
        "params": camera.params,
        "rays": rays.reshape(-1, 3).tolist(),
        "resize": resize,
    }


@pytest.mark.colmap
def test_every_ray_projects_back_to_its_pixel_centre() -> None:
    tables = all_pixel_directions(CAMERAS)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    answers = ask([as_request(camera, table) for camera, table in zip(CAMERAS, tables, strict=True)])
    for camera, table, answer in zip(CAMERAS, tables, answers, strict=True):
        assert table.shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_allclose(np.linalg.norm(table, axis=-1), 1.0, atol=1e-12, err_msg=camera.model)
        np.testing.assert_allclose(answer["pixels"], pixels, atol=1e-4, err_msg=camera.model)


@pytest.mark.colmap
def test_every_model_of_colmap_is_here() -> None:
    code = "import zlib, pycolmap; print(*pycolmap.CameraModelId.__members__)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) - {"INVALID"} == set(SMALL) == CAMERA_MODELS


@pytest.mark.colmap
def test_an_equidistant_fisheye_has_the_rays_of_its_formula_up_to_a_right_angle() -> None:
    """theta = r / f, out to the corners; beyond 90 degrees COLMAP has no ray, and no wrong one is passed on."""
    camera = Camera(model="FISHEYE", width=48, height=36, params=(14.0, 14.0, 24.0, 18.0))
    (rays,) = directions_where_any([camera])
    x, y = np.meshgrid(np.arange(48) + 0.5 - 24, np.arange(36) + 0.5 - 18)
    radius = np.hypot(x, y)
    theta = radius / 14.0
    expected = np.stack([np.sin(theta) * x / radius, np.sin(theta) * y / radius, np.cos(theta)], axis=-1)
    inside = theta < np.radians(89.9)
    assert 0.05 < (~inside).mean() < 0.5
    np.testing.assert_allclose(rays[inside], expected[inside], atol=1e-5)
    assert np.isnan(rays[theta > np.radians(90.1)]).all()
    with pytest.raises(CaptureError, match=r"of the 48 x 36 pixels of a FISHEYE camera have no ray"):
        pixel_directions(camera)


@pytest.mark.colmap
def test_halving_a_photo_averages_the_rays_of_its_pixels() -> None:
    """A pixel of the half-size photo looks where the four old ones meet, for every model."""
    halves = [camera.resized(WIDTH // 2, HEIGHT // 2) for camera in CAMERAS]
    for camera, full, half in zip(CAMERAS, all_pixel_directions(CAMERAS), all_pixel_directions(halves), strict=True):
        blocks = full.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
        blocks /= np.linalg.norm(blocks, axis=-1, keepdims=True)
        angle = np.arccos(np.clip((blocks * half).sum(axis=-1), -1, 1))
        assert angle.max() < 5e-3, camera.model  # a pixel of the half-size photo is 0.1 wide, and more


@pytest.mark.colmap
def test_resizing_agrees_with_colmap_where_models_are_alike() -> None:
    two_focals = [camera for camera in CAMERAS if camera.num_focals == 2]
    answers = ask([as_request(camera, np.ones((1, 3)), resize=(36, 45)) for camera in two_focals])
    for camera, answer in zip(two_focals, answers, strict=True):
        np.testing.assert_allclose(camera.resized(36, 45).params, answer["params"], rtol=1e-12, err_msg=camera.model)


@pytest.mark.colmap
def test_axes_that_scale_differently_keep_their_pixels() -> None:
    """24 x 18 to 12 x 18: the ray of the left-over row law, x at twice the step, for models with one focal length."""
    for model in (
        "SIMPLE_RADIAL",
        "RADIAL",
        "SIMPLE_RADIAL_FISHEYE",
        "RADIAL_FISHEYE",
        "SIMPLE_DIVISION",
        "SIMPLE_FISHEYE",
    ):
        camera = Camera(model=model, width=WIDTH, height=HEIGHT, params=SMALL[model])
        squeezed = camera.resized(3 * WIDTH, HEIGHT)
        wide, narrow = all_pixel_directions([squeezed, camera])
        np.testing.assert_allclose(wide[:, 1::3], narrow, atol=1e-6, err_msg=model)


@given(
    st.floats(5, 100), st.floats(5, 100), st.floats(-10, 30), st.floats(-10, 30), st.integers(1, 9), st.integers(1, 9)
)
def test_pinhole_rays_are_the_closed_form(fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> None:
    camera = Camera(model="PINHOLE", width=width, height=height, params=(fx, fy, cx, cy))
    rays = pixel_directions(camera)
    for y in range(height):
        for x in range(width):
            ray = np.array([(x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy, 1.0])
            np.testing.assert_allclose(rays[y, x], ray / np.sqrt(ray @ ray), atol=1e-12)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    assert all(camera.resized(WIDTH, HEIGHT) is camera for camera in CAMERAS)


def test_cameras_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        Camera(model="OPENCVV", width=4, height=4, params=())
    with pytest.raises(DataError, match="4 parameters, got 3"):
        Camera(model="PINHOLE", width=4, height=4, params=(1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="finite"):
        Camera(model="SIMPLE_PINHOLE", width=4, height=4, params=(float("nan"), 1.0, 1.0))
    with pytest.raises(DataError, match="positive"):
        Camera(model="SIMPLE_PINHOLE", width=4, height=4, params=(-3.0, 1.0, 1.0))
    with pytest.raises(DataError, match="one pixel"):
        Camera(model="SIMPLE_PINHOLE", width=0, height=4, params=(3.0, 1.0, 1.0))
