"""Cameras written for other programs, read back by our readers and by COLMAP itself in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from nndl_suite.errors import ConfigError, RunError
from nndl_suite.nerf.cameras import Camera, all_pixel_directions
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.scene import Points, PoseReport, Scene, View
from nndl_suite.nerf.write_cameras import write_colmap_text, write_transforms

WIDTH, HEIGHT = 24, 18
SAID_AS = {  # each model, and the one that says the same in transforms.json, term by term
    "SIMPLE_PINHOLE": ((20.0, 11.5, 9.25), "PINHOLE", (20.0, 20.0, 11.5, 9.25)),
    "PINHOLE": ((20.0, 21.0, 11.5, 9.25), "PINHOLE", (20.0, 21.0, 11.5, 9.25)),
    "SIMPLE_RADIAL": ((20.0, 11.5, 9.25, 0.05), "OPENCV", (20.0, 20.0, 11.5, 9.25, 0.05, 0.0, 0.0, 0.0)),
    "RADIAL": ((20.0, 11.5, 9.25, 0.05, -0.01), "OPENCV", (20.0, 20.0, 11.5, 9.25, 0.05, -0.01, 0.0, 0.0)),
    "OPENCV": ((20.0, 21.0, 11.5, 9.25, 0.05, -0.02, 1e-3, -2e-3), "OPENCV", None),
    "FULL_OPENCV": ((20.0, 21.0, 11.5, 9.25, 0.05, -0.02, 1e-3, -2e-3, 0.01, 0.0, 0.0, 0.0), "FULL_OPENCV", None),
    "OPENCV_FISHEYE": ((20.0, 21.0, 11.5, 9.25, 0.03, -0.01, 2e-3, 1e-3), "OPENCV_FISHEYE", None),
    "SIMPLE_RADIAL_FISHEYE": (
        (20.0, 11.5, 9.25, 0.05),
        "OPENCV_FISHEYE",
        (20.0, 20.0, 11.5, 9.25, 0.05, 0.0, 0.0, 0.0),
    ),
    "FISHEYE": ((20.0, 21.0, 11.5, 9.25), "OPENCV_FISHEYE", (20.0, 21.0, 11.5, 9.25, 0.0, 0.0, 0.0, 0.0)),
    "SIMPLE_FISHEYE": ((20.0, 11.5, 9.25), "OPENCV_FISHEYE", (20.0, 20.0, 11.5, 9.25, 0.0, 0.0, 0.0, 0.0)),
    "EQUIRECTANGULAR": ((24.0, 18.0), "EQUIRECTANGULAR", None),
}
CAMERAS = [Camera(model=model, width=WIDTH, height=HEIGHT, params=given[0]) for model, given in SAID_AS.items()]
FIVE = ("PINHOLE", "OPENCV", "FISHEYE", "SIMPLE_RADIAL", "OPENCV_FISHEYE")


def scene(root: Path, cameras: list[Camera], word: str = "photo é ") -> Scene:
    """A photo for each camera, the first with a mask, and points in front of them."""
    rng = np.random.default_rng(1)
    views: list[View] = []
    (root / "images").mkdir(parents=True)
    for index in range(len(cameras)):
        image = root / "images" / f"{word}{index:02d}.png"
        Image.new("RGB", (WIDTH, HEIGHT), (9 * index, 0, 0)).save(image)
        mask = root / "mask.png" if index == 0 else None
        if mask is not None:
            Image.new("L", (WIDTH, HEIGHT), 255).save(mask)
        turn = Rotation.from_rotvec(0.1 * rng.standard_normal(3)).as_matrix()
        pose = np.concatenate([turn, 0.3 * rng.standard_normal((3, 1))], axis=1)
        views.append(View(name=image.name, image=image, camera=index, world_from_camera=pose, mask=mask))
    xyz = rng.uniform([-1, -1, 4], [1, 1, 6], (20, 3))
    return Scene(
        root=root,
        cameras=tuple(cameras),
        views=tuple(views),
        test_names=frozenset(),
        points=Points(xyz=xyz, rgb=rng.integers(0, 256, (20, 3)).astype(np.uint8)),
        poses=PoseReport(registered=len(views), total=len(views), mean_reprojection_error=None),
    )


def test_transforms_come_back_with_the_same_cameras(tmp_path: Path):
    given = scene(tmp_path, CAMERAS)
    write_transforms(given, tmp_path / "transforms.json", test=(1, 3))
    back = read_scene(tmp_path)
    assert [view.image.name for view in back.views] == [view.image.name for view in given.views]
    for before, after in zip(given.views, back.views, strict=True):
        np.testing.assert_allclose(after.world_from_camera, before.world_from_camera, atol=1e-9)
        old, new = given.cameras[before.camera], back.cameras[after.camera]
        params, model, same = SAID_AS[old.model]
        assert new == Camera(model=model, width=WIDTH, height=HEIGHT, params=same or params)
        assert (after.mask is None) == (before.mask is None)


@pytest.mark.colmap
def test_what_transforms_say_are_the_same_rays(tmp_path: Path):
    given = scene(tmp_path, CAMERAS)
    write_transforms(given, tmp_path / "transforms.json")
    back = read_scene(tmp_path)
    rays = all_pixel_directions([back.cameras[view.camera] for view in back.views])
    np.testing.assert_allclose(rays, all_pixel_directions(CAMERAS), atol=1e-9)


def test_transforms_have_opengl_axes_and_tell_the_split(tmp_path: Path):
    given = scene(tmp_path, CAMERAS[:3])
    write_transforms(given, tmp_path / "transforms.json", test=(1,))
    told = json.loads((tmp_path / "transforms.json").read_text())
    assert told["train_filenames"] == ["images/photo é 00.png", "images/photo é 02.png"]
    assert told["test_filenames"] == told["val_filenames"] == ["images/photo é 01.png"]
    pose, matrix = given.views[0].world_from_camera, np.array(told["frames"][0]["transform_matrix"])
    np.testing.assert_array_equal(matrix[:3, 1:3], -pose[:, 1:3])  # y up, z backwards
    np.testing.assert_array_equal(matrix[:3, [0, 3]], pose[:, [0, 3]])
    assert told["frames"][0]["mask_path"] == "mask.png"


def test_photos_elsewhere_are_named_in_full(tmp_path: Path):
    given = scene(tmp_path / "capture", CAMERAS[:2])
    write_transforms(given, tmp_path / "out" / "transforms.json")
    told = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert told["frames"][0]["file_path"] == (tmp_path / "capture" / "images" / "photo é 00.png").as_posix()
    assert [view.image.name for view in read_scene(tmp_path / "out").views] == [view.name for view in given.views]


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("FOV", (20.0, 21.0, 11.5, 9.25, 0.3)),
        ("FULL_OPENCV", (20.0, 21.0, 11.5, 9.25, 0.05, -0.02, 1e-3, -2e-3, 0.01, 0.02, 0.0, 0.0)),
    ],
)
def test_a_model_without_a_name_there_is_refused(tmp_path: Path, model: str, params: tuple[float, ...]):
    given = scene(tmp_path, [Camera(model=model, width=WIDTH, height=HEIGHT, params=params)])
    with pytest.raises(ConfigError, match=f"{model}.*COLMAP text"):
        write_transforms(given, tmp_path / "transforms.json")
    assert not (tmp_path / "transforms.json").exists()


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    given = scene(tmp_path, CAMERAS[:1])
    with pytest.raises(ConfigError, match=r"\.json"):
        write_transforms(given, tmp_path / "transforms.txt")
    with pytest.raises(ConfigError, match=r"first space.*photo é 00\.png"):
        write_colmap_text(given, tmp_path / "sparse")
    given = scene(tmp_path / "other", CAMERAS[:1], "é")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="another --out"):
        write_colmap_text(given, tmp_path / "file")


READ = """
import zlib, json, sys, numpy as np, pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
xyz = np.array([model.points3D[i].xyz for i in sorted(model.points3D)])
print(json.dumps({
    "rgb": [model.points3D[i].color.tolist() for i in sorted(model.points3D)],
    "images": {i.name: {"pose": i.cam_from_world().inverse().matrix().tolist(), "model": i.camera.model.name,
        "params": i.camera.params.tolist(), "points": i.camera.img_from_cam(i.cam_from_world() * xyz).tolist()}
        for i in model.images.values()},
    "xyz": xyz.tolist()}))
"""


@pytest.mark.colmap
def test_colmap_reads_its_text_and_its_points_fall_where_they_did(tmp_path: Path):
    cameras = [camera for camera in CAMERAS if camera.model in FIVE]
    given = scene(tmp_path, cameras, "é")
    write_colmap_text(given, tmp_path / "sparse" / "0")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "sparse" / "0")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert given.points is not None
    np.testing.assert_array_equal(told["xyz"], given.points.xyz)
    np.testing.assert_array_equal(told["rgb"], given.points.rgb)
    for view, camera in zip(given.views, cameras, strict=True):
        seen = told["images"][view.name]
        assert (seen["model"], tuple(seen["params"])) == (camera.model, camera.params)
        np.testing.assert_allclose(seen["pose"], view.world_from_camera, atol=1e-12)
        if camera.model == "PINHOLE":
            fx, fy, cx, cy = camera.params
            x, y, z = ((given.points.xyz - view.world_from_camera[:, 3]) @ view.world_from_camera[:, :3]).T
            np.testing.assert_allclose(seen["points"], np.stack([fx * x / z + cx, fy * y / z + cy], 1), atol=1e-9)


@pytest.mark.colmap
def test_our_reader_reads_the_text_too(tmp_path: Path):
    given = scene(tmp_path, [camera for camera in CAMERAS if camera.model in FIVE], "é")
    write_colmap_text(given, tmp_path / "sparse" / "0")
    back = read_scene(tmp_path)
    assert back.cameras == given.cameras
    for before, after in zip(given.views, back.views, strict=True):
        assert (after.name, after.camera, after.image) == (before.name, before.camera, before.image)
        np.testing.assert_allclose(after.world_from_camera, before.world_from_camera, atol=1e-9)
