"""Reading scenes in all their formats; COLMAP's are made here by COLMAP itself, in a process of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nndl_suite.errors import CaptureError, ConfigError, DataError
from nndl_suite.nerf.cameras import Camera, all_pixel_directions
from nndl_suite.nerf.readers import has_poses, read_scene
from nndl_suite.nerf.scene import PoseReport, Scene, View, hold_out

OPENGL = np.diag([1.0, -1.0, -1.0])


def write_photos(folder: Path, names: list[str], size: tuple[int, int] = (32, 24), mode: str = "RGB") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, (10, 20, 30, 40)[: len(mode)]).save(folder / name)


def matrix(number: int) -> list[list[float]]:
    angle = 0.3 * number
    pose = np.eye(4)
    pose[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose[:3, 3] = [number, 2.0, -1.0]
    return pose.tolist()


def transforms(folder: Path, names: list[str], **fields: object) -> Path:
    frames = [{"file_path": name, "transform_matrix": matrix(n)} for n, name in enumerate(names)]
    content = {"w": 32, "h": 24, "fl_x": 30.0, "fl_y": 31.0, "cx": 16.5, "cy": 11.5, "frames": frames, **fields}
    folder.mkdir(exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "transforms.json"


def test_transforms_turn_opengl_axes_into_opencv_axes(tmp_path: Path) -> None:
    names = ["images/b.png", "images/a.png"]
    write_photos(tmp_path, names)
    transforms(tmp_path, names)
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.views] == ["images/a.png", "images/b.png"]
    assert scene.cameras == (Camera(model="PINHOLE", width=32, height=24, params=(30.0, 31.0, 16.5, 11.5)),)
    given = np.array(matrix(1))
    pose = scene.views[0].world_from_camera
    np.testing.assert_allclose(pose[:, 3], given[:3, 3])
    np.testing.assert_allclose(pose[:, 0], given[:3, 0], atol=1e-12)  # x right in both
    np.testing.assert_allclose(pose[:, 1], -given[:3, 1], atol=1e-12)  # y down
    np.testing.assert_allclose(pose[:, 2], -given[:3, 2], atol=1e-12)  # z forward
    np.testing.assert_allclose(read_scene(tmp_path / "transforms.json").views[1].world_from_camera[:, 3], [0, 2, -1])


@pytest.mark.parametrize(
    ("fields", "model", "params"),
    [
        ({"k1": 0.1, "p2": 0.01}, "OPENCV", (30, 31, 16.5, 11.5, 0.1, 0, 0, 0.01)),
        ({"k1": 0.1, "k3": 0.02}, "FULL_OPENCV", (30, 31, 16.5, 11.5, 0.1, 0, 0, 0, 0.02, 0, 0, 0)),
        ({"camera_model": "OPENCV_FISHEYE", "k4": 0.1}, "OPENCV_FISHEYE", (30, 31, 16.5, 11.5, 0, 0, 0, 0.1)),
        ({"is_fisheye": True, "k1": 0.1}, "OPENCV_FISHEYE", (30, 31, 16.5, 11.5, 0.1, 0, 0, 0)),
        ({"fl_y": None, "cx": None, "cy": None}, "PINHOLE", (30, 30, 16, 12)),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": np.pi / 2}, "PINHOLE", (16, 16, 16.5, 11.5)),
        ({"w": None, "h": None}, "PINHOLE", (30, 31, 16.5, 11.5)),
    ],
)
def test_intrinsics_of_transforms(
    tmp_path: Path, fields: dict[str, object], model: str, params: tuple[float, ...]
) -> None:
    write_photos(tmp_path, ["a.png"])
    transforms(tmp_path, ["a.png"], **fields)
    (camera,) = read_scene(tmp_path).cameras
    assert (camera.model, camera.width, camera.height) == (model, 32, 24)
    np.testing.assert_allclose(camera.params, params, rtol=1e-12)


def test_a_frame_can_have_its_own_camera_and_a_missing_photo_is_counted(tmp_path: Path) -> None:
    write_photos(tmp_path, ["a.png", "b.png"])
    file = transforms(tmp_path, ["a.png", "b.png", "gone.png"])
    content = json.loads(file.read_text())
    content["frames"][1]["fl_x"] = 77.0
    file.write_text(json.dumps(content))
    scene = read_scene(tmp_path)
    assert [scene.cameras[view.camera].params[0] for view in scene.views] == [30.0, 77.0]
    assert (scene.poses.registered, scene.poses.total, scene.poses.missing) == (2, 3, ("gone.png",))


def test_masks_of_frames_are_read_and_never_photos(tmp_path: Path) -> None:
    write_photos(tmp_path, ["images/a.png", "images/b.png", "masks/a.png"])
    file = transforms(tmp_path, ["images/a.png", "images/b.png"])
    content = json.loads(file.read_text())
    content["frames"][0]["mask_path"] = "masks\\a.png"  # as Windows writes it
    file.write_text(json.dumps(content))
    scene = read_scene(tmp_path)
    assert [view.mask for view in scene.views] == [tmp_path / "masks" / "a.png", None]


def test_blender_scenes_hold_out_their_own_test_file(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        names = [f"./{split}/r_{n}" for n in range(3)]
        write_photos(tmp_path, [f"{name}.png" for name in names], mode="RGBA")
        frames = [{"file_path": name, "transform_matrix": matrix(n)} for n, name in enumerate(names)]
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))
    scene = read_scene(tmp_path)
    train, test = hold_out(scene, "every8")
    assert [scene.views[n].name for n in train] == ["train/r_0.png", "train/r_1.png", "train/r_2.png"]
    assert [scene.views[n].name for n in test] == ["test/r_0.png", "test/r_1.png", "test/r_2.png"]
    assert scene.cameras[0].params[0] == pytest.approx(16 / np.tan(0.35))


BAD = {
    "not JSON": ("{", "cannot read"),
    "a list": ("[]", "frames"),
    "no frames": ('{"frames": []}', "frames"),
    "a frame that is a number": ('{"frames": [3]}', "frame 0"),
    "no file name": ('{"frames": [{"transform_matrix": 1}]}', "file_path"),
    "half a matrix": ('{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[1, 0], [0, 1]]}]}', "4 x 4"),
    "ragged": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[1], [0, 1]]}]}',
        "transform_matrix",
    ),
    "text": ('{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": "no"}]}', "transform_matrix"),
    "no rotation": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[2,0,0,0],[0,2,0,0],[0,0,2,0]]}]}',
        "rotation",
    ),
    "NaN": ('{"fl_x": NaN, "frames": [{"file_path": "a.png", "transform_matrix": 1}]}', "fl_x"),
    "no focal length": ('{"frames": [{"file_path": "a.png", "transform_matrix": 1}]}', "fl_x"),
    "negative focal length": ('{"fl_x": -1, "frames": [{"file_path": "a.png", "transform_matrix": 1}]}', "positive"),
    "angle": ('{"camera_angle_x": 4, "frames": [{"file_path": "a.png", "transform_matrix": 1}]}', "camera_angle_x"),
    "model": ('{"fl_x": 9, "camera_model": "ORTHO", "frames": [{"file_path": "a.png"}]}', "camera_model"),
    "singular": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,1,0,0]]}]}',
        "no rotation",
    ),
    "all zero": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[0,0,0,0],[0,0,0,0],[0,0,0,0]]}]}',
        "no rotation",
    ),
    "NaN in the matrix": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[1,0,0,NaN],[0,1,0,0],[0,0,1,0]]}]}',
        "finite",
    ),
    "endless matrix": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": [[1,0,0,1e999],[0,1,0,0],[0,0,1,0]]}]}',
        "finite",
    ),
    "outside": ('{"fl_x": 9, "cx": 960, "cy": 540, "frames": [{"file_path": "a.png"}]}', "far outside the photo"),
    "mask that is a number": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "mask_path": 3, "transform_matrix": %s}]}',
        "mask_path",
    ),
    "mask that is not there": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "mask_path": "m.png", "transform_matrix": %s}]}',
        "there is no mask",
    ),
    "twice": (
        '{"fl_x": 9, "frames": [{"file_path": "a.png", "transform_matrix": %s}, {"file_path": "a.png"}]}',
        "twice",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_transforms_are_named(tmp_path: Path, case: str) -> None:
    text, told = BAD[case]
    write_photos(tmp_path, ["a.png"])
    (tmp_path / "transforms.json").write_text(text.replace("%s", json.dumps(matrix(0))))
    with pytest.raises(DataError, match=told) as caught:
        read_scene(tmp_path)
    assert "transforms.json" in str(caught.value)


def test_rounded_rotations_are_mended(tmp_path: Path) -> None:
    write_photos(tmp_path, ["a.png"])
    file = transforms(tmp_path, ["a.png"])
    content = json.loads(file.read_text())
    content["frames"][0]["transform_matrix"] = np.array(matrix(1)).round(3).tolist()
    file.write_text(json.dumps(content))
    rotation = read_scene(tmp_path).views[0].world_from_camera[:, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_llff(tmp_path: Path) -> None:
    write_photos(tmp_path / "images", ["0.png", "1.png"])
    pose = np.array(matrix(1))[:3]  # OpenGL: right, up, backwards
    stored = np.stack([-pose[:, 1], pose[:, 0], pose[:, 2], pose[:, 3], np.array([24, 32, 30])], axis=1)
    row = np.concatenate([stored.ravel(), [1.0, 9.0]])
    np.save(tmp_path / "poses_bounds.npy", np.stack([row, row]))
    scene = read_scene(tmp_path)
    np.testing.assert_allclose(scene.views[0].world_from_camera[:, :3], pose[:, :3] @ OPENGL, atol=1e-12)
    np.testing.assert_allclose(scene.views[1].world_from_camera[:, 3], pose[:, 3])
    assert scene.cameras == (Camera(model="SIMPLE_PINHOLE", width=32, height=24, params=(30.0, 16.0, 12.0)),)
    np.save(tmp_path / "poses_bounds.npy", np.stack([row] * 3))
    with pytest.raises(DataError, match="3 poses for the 2 photos"):
        read_scene(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read"):
        read_scene(tmp_path)


SYNTHESIZE = """
import zlib, json, sys, pycolmap
from pathlib import Path
out = Path(sys.argv[1])
options = pycolmap.SyntheticDatasetOptions(
    num_rigs=2, num_frames_per_rig=3, num_points3D=20, camera_model_id=pycolmap.CameraModelId.OPENCV,
    camera_params=[30.0, 31.0, 16.0, 12.0, 0.05, -0.01, 0.001, 0.002], camera_width=32, camera_height=24)
model = pycolmap.synthesize_dataset(options)
for image in model.images.values():
    image.name = f"p{image.image_id:02}.png"
for name, write in (("bin/sparse/0", model.write), ("text/sparse", model.write_text), ("flat", model.write)):
    (out / name).mkdir(parents=True); write(out / name)
small = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_frames_per_rig=1, num_points3D=9))
(out / "several/sparse/0").mkdir(parents=True); small.write(out / "several/sparse/0")
(out / "several/sparse/1").mkdir(parents=True); model.write(out / "several/sparse/1")
truth = []
for image in sorted(model.images.values(), key=lambda i: i.name):
    camera = model.cameras[image.camera_id]
    seen = []
    for point in image.points2D:
        if point.has_point3D():
            xyz = model.points3D[point.point3D_id].xyz
            seen.append((xyz.tolist(), camera.img_from_cam(image.cam_from_world() * xyz).tolist()))
    centre = image.projection_center().tolist()
    truth.append({"name": image.name, "centre": centre, "params": camera.params.tolist(), "seen": seen})
(out / "truth.json").write_text(json.dumps(truth))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    done = subprocess.run([sys.executable, "-c", SYNTHESIZE, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = [item["name"] for item in json.loads((out / "truth.json").read_text())]
    for name in ("bin", "text", "several"):
        write_photos(out / name / "images", names)
    write_photos(out / "flat", names)
    return out


@pytest.mark.colmap
@pytest.mark.parametrize("kind", ["bin", "text", "flat", "several"])
def test_colmap_models(models: Path, kind: str) -> None:
    truth = json.loads((models / "truth.json").read_text())
    scene = read_scene(models / kind)
    assert [view.name for view in scene.views] == [item["name"] for item in truth]
    assert (scene.poses.registered, scene.poses.total) == (6, 6)
    assert scene.points is not None
    assert len(scene.points.xyz) == 20
    for view, item in zip(scene.views, truth, strict=True):
        assert view.image.exists()
        np.testing.assert_allclose(view.world_from_camera[:, 3], item["centre"], atol=1e-9)
        np.testing.assert_allclose(scene.cameras[view.camera].params, item["params"])


@pytest.mark.colmap
def test_masks_lie_beside_the_photos_of_a_colmap_model(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "bin", tmp_path / "scene")
    first = read_scene(tmp_path / "scene").views[0].name
    write_photos(tmp_path / "scene" / "masks", [f"{first}.png"], mode="L")
    masks = [view.mask for view in read_scene(tmp_path / "scene").views]
    assert masks == [tmp_path / "scene" / "masks" / f"{first}.png", None, None, None, None, None]


@pytest.mark.colmap
def test_a_point_lies_on_the_ray_of_the_pixel_that_sees_it(models: Path) -> None:
    """What ties poses, axes, distortion and pixel centres together; pixel corners would miss by half a pixel."""
    scene = read_scene(models / "bin")
    tables = all_pixel_directions(scene.cameras)
    checked = 0
    for view, item in zip(scene.views, json.loads((models / "truth.json").read_text()), strict=True):
        for xyz, (u, v) in item["seen"]:
            x, y = int(u - 0.5), int(v - 0.5)
            table = tables[view.camera]
            if not (u >= 0.5 and v >= 0.5 and x + 1 < table.shape[1] and y + 1 < table.shape[0]):
                continue
            a, b = u - 0.5 - x, v - 0.5 - y
            ray = (1 - b) * ((1 - a) * table[y, x] + a * table[y, x + 1])
            ray += b * ((1 - a) * table[y + 1, x] + a * table[y + 1, x + 1])
            seen = view.world_from_camera[:, :3].T @ (np.array(xyz) - view.world_from_camera[:, 3])
            sine = np.linalg.norm(np.cross(ray / np.linalg.norm(ray), seen / np.linalg.norm(seen)))
            assert sine < 1e-3  # a pixel is 0.03 wide
            checked += 1
    assert checked > 20


@pytest.mark.colmap
def test_broken_colmap_models_are_errors(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "bin", tmp_path / "cut")
    images = tmp_path / "cut/sparse/0/images.bin"
    content = images.read_bytes()
    images.write_bytes(content[:60])
    with pytest.raises(CaptureError, match="cannot be read"):
        read_scene(tmp_path / "cut")
    images.write_bytes(content)
    frames = images.with_name("frames.bin")
    frames.write_bytes((2**61).to_bytes(8, "little") + frames.read_bytes()[8:])
    with pytest.raises(DataError, match=r"frames\.bin is damaged: it says that it holds 2,305,843"):
        read_scene(tmp_path / "cut")
    shutil.copytree(models / "bin/sparse", tmp_path / "bare/sparse")
    with pytest.raises(CaptureError, match="none of the 6 photos"):
        read_scene(tmp_path / "bare")


def test_what_is_not_a_scene(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="does not exist"):
        read_scene(tmp_path / "nowhere")
    write_photos(tmp_path, ["a.png"])
    assert not has_poses(tmp_path)
    with pytest.raises(CaptureError, match="no camera poses"):
        read_scene(tmp_path)
    transforms(tmp_path, ["gone.png"])
    assert has_poses(tmp_path)
    with pytest.raises(CaptureError, match="not one of their photos"):
        read_scene(tmp_path)


def scene_of(count: int) -> Scene:
    pose = np.eye(3, 4)
    views = tuple(View(name=f"{n:03}", image=Path(), camera=0, world_from_camera=pose) for n in range(count))
    report = PoseReport(registered=count, total=count, mean_reprojection_error=None)
    return Scene(root=Path(), cameras=(), views=views, test_names=frozenset(), points=None, poses=report)


def test_hold_out_rules() -> None:
    train, test = hold_out(scene_of(20), "every8")
    assert test == (0, 8, 16)
    assert sorted((*train, *test)) == list(range(20))
    assert hold_out(scene_of(20), 0.1)[1] == (5, 15)
    assert hold_out(scene_of(3), 0.01)[1] == (1,)
    for rule in ("every9", 0.0, 1.0, -0.5):
        with pytest.raises(ConfigError, match="hold-out"):
            hold_out(scene_of(20), rule)
    with pytest.raises(ConfigError, match="leave 0 to train"):
        hold_out(scene_of(1), "every8")


@pytest.mark.realdata
def test_the_fox(real_data: Path) -> None:
    scene = read_scene(real_data / "captures" / "fox")
    assert (scene.poses.registered, scene.poses.total) == (50, 67)
    centres = np.stack([view.world_from_camera[:, 3] for view in scene.views])
    axes = np.stack([view.world_from_camera[:, 2] for view in scene.views])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    crossing = np.linalg.solve(across.sum(0), (across @ centres[:, :, None]).sum(0))[:, 0]
    ahead = ((crossing - centres) * axes).sum(axis=1)
    aside = np.linalg.norm((across @ (crossing - centres)[:, :, None])[:, :, 0], axis=1)
    assert (ahead > 0).all()
    assert np.median(aside / ahead) < 0.2  # all look about at the fox
