"""Photos as flat arrays: the right bytes at the right place, rays that belong to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nndl_suite.errors import CaptureError, DataError
from nndl_suite.nerf.cameras import Camera, pixel_directions
from nndl_suite.nerf.frame import Similarity, field_frame
from nndl_suite.nerf.photos import load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.scene import PoseReport, Scene, View
from nndl_suite.training.watch import Step

STAY = Similarity(scale=1.0, rotation=np.eye(3), translation=np.zeros(3))


def scene_of(files: list[Path], cameras: list[Camera]) -> Scene:
    views = tuple(
        View(name=file.name, image=file, camera=n, world_from_camera=np.eye(3, 4) + 0.1 * n * np.eye(3, 4, k=3))
        for n, file in enumerate(files)
    )
    report = PoseReport(registered=len(files), total=len(files), mean_reprojection_error=None)
    return Scene(root=Path(), cameras=tuple(cameras), views=views, test_names=frozenset(), points=None, poses=report)


def pinhole(width: int, height: int) -> Camera:
    return Camera(model="PINHOLE", width=width, height=height, params=(20.0, 20.0, width / 2, height / 2))


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(folder: Path, name: str, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


def test_every_pixel_of_every_photo_has_its_place_and_its_ray(tmp_path: Path) -> None:
    pixels = [noise(6, 4, seed=1), noise(4, 6, seed=2), noise(6, 4, seed=3)]
    files = [save(tmp_path, f"{n}.png", image) for n, image in enumerate(pixels)]
    scene = scene_of(files, [pinhole(6, 4), pinhole(4, 6), pinhole(6, 4)])
    steps: list[Step] = []
    photos = load_photos(scene, [2, 1, 0], field_from_world=STAY, watch=steps.append)
    assert photos.names == ("2.png", "1.png", "0.png")
    assert photos.sizes == ((4, 6), (6, 4), (4, 6))
    assert len(photos.directions) == 48  # two shapes, though three photos
    assert (steps[-1].done, steps[-1].total) == (3, 3)
    for place, index in enumerate((2, 1, 0)):
        height, width = photos.sizes[place]
        rays = pixel_directions(scene.cameras[index])
        for y in range(height):
            for x in range(width):
                at = y * width + x
                np.testing.assert_array_equal(photos.pixels[photos.starts[place] + at], pixels[index][y, x])
                ray = photos.directions[photos.direction_starts[photos.camera_of[place]] + at]
                np.testing.assert_allclose(ray, rays[y, x], atol=1e-6)
        np.testing.assert_allclose(photos.field_from_camera[place], scene.views[index].world_from_camera, atol=1e-6)
    assert photos.starts[-1] == len(photos.pixels) == 72
    assert (photos.pixels.dtype, photos.directions.dtype) == (np.uint8, np.float32)


def test_whole_blocks_become_their_exact_mean(tmp_path: Path) -> None:
    image = noise(40, 24)
    file = save(tmp_path, "a.png", image)
    photos = load_photos(scene_of([file], [pinhole(40, 24)]), [0], field_from_world=STAY, max_side=10)
    sums = image.reshape(6, 4, 10, 4, 3).astype(np.int64).sum(axis=(1, 3))
    np.testing.assert_array_equal(photos.pixels.reshape(6, 10, 3), (sums + 8) // 16)
    np.testing.assert_allclose(
        photos.directions.reshape(6, 10, 3), pixel_directions(pinhole(40, 24).resized(10, 6)), atol=1e-6
    )


def test_other_sizes_keep_mean_and_shape(tmp_path: Path) -> None:
    image = noise(41, 23)
    file = save(tmp_path, "a.png", image)
    photos = load_photos(scene_of([file], [pinhole(41, 23)]), [0], field_from_world=STAY, max_side=10)
    assert photos.sizes == ((6, 10),)
    assert abs(photos.pixels.mean() - image.mean()) < 2
    larger = load_photos(scene_of([file], [pinhole(41, 23)]), [0], field_from_world=STAY, max_side=4000)
    assert larger.sizes == ((23, 41),)  # never enlarged


def test_alpha_is_kept_where_something_shows_through(tmp_path: Path) -> None:
    clear, opaque = noise(6, 4, 4, seed=1), noise(6, 4, 4, seed=2)
    clear[..., 3] = np.where(clear[..., 3] > 127, 255, 0)
    opaque[..., 3] = 255
    files = [save(tmp_path, "a.png", clear), save(tmp_path, "b.png", opaque), save(tmp_path, "c.png", noise(6, 4))]
    scene = scene_of(files, [pinhole(6, 4)] * 3)
    photos = load_photos(scene, [0, 2], field_from_world=STAY)
    np.testing.assert_array_equal(photos.pixels[:24].reshape(4, 6, 4), clear)
    assert (photos.pixels[24:, 3] == 255).all()
    assert load_photos(scene, [1, 2], field_from_world=STAY).pixels.shape == (48, 3)


def test_photos_are_turned_only_if_their_camera_is(tmp_path: Path) -> None:
    """COLMAP reads pixels as stored; other tools turn them first. The camera's shape tells which it was."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = noise(6, 4)
    file = save(tmp_path, "a.png", image, exif=exif)
    stored = load_photos(scene_of([file], [pinhole(6, 4)]), [0], field_from_world=STAY)
    np.testing.assert_array_equal(stored.pixels.reshape(4, 6, 3), image)
    turned = load_photos(scene_of([file], [pinhole(4, 6)]), [0], field_from_world=STAY)
    np.testing.assert_array_equal(turned.pixels.reshape(6, 4, 3), np.rot90(image, -1))


def test_a_photo_at_another_size_than_its_camera(tmp_path: Path) -> None:
    file = save(tmp_path, "a.png", noise(30, 20))
    photos = load_photos(scene_of([file], [pinhole(60, 40)]), [0], field_from_world=STAY)
    np.testing.assert_allclose(
        photos.directions.reshape(20, 30, 3), pixel_directions(pinhole(60, 40).resized(30, 20)), atol=1e-6
    )
    with pytest.raises(DataError, match="30 x 20 pixels, its camera 60 x 60"):
        load_photos(scene_of([file], [pinhole(60, 60)]), [0], field_from_world=STAY)


def masked_scene(folder: Path, masks: list[np.ndarray | None], size: tuple[int, int] = (40, 24)) -> Scene:
    files = [save(folder, f"{n}.png", noise(*size, seed=n)) for n in range(len(masks))]
    scene = scene_of(files, [pinhole(*size)] * len(masks))
    views = [
        view if mask is None else replace(view, mask=save(folder, f"mask-{view.name}", mask))
        for view, mask in zip(scene.views, masks, strict=True)
    ]
    return replace(scene, views=tuple(views))


def test_masks_say_which_pixels_count(tmp_path: Path) -> None:
    mask = np.random.default_rng(5).choice([0, 20, 235, 255], (24, 40)).astype(np.uint8)  # JPEG's black and white
    photos = load_photos(masked_scene(tmp_path, [None, mask]), [0, 1], field_from_world=STAY)
    assert photos.counted is not None
    assert photos.counted.shape == (len(photos.pixels),)
    assert photos.counted[:960].all()
    np.testing.assert_array_equal(photos.counted[960:].reshape(24, 40), mask > 127)


@pytest.mark.parametrize("max_side", [10, 7])
def test_a_reduced_pixel_counts_if_all_that_it_covers_does(tmp_path: Path, max_side: int) -> None:
    mask = np.full((24, 40), 255, np.uint8)
    mask[5:9, 14:30] = 0
    photos = load_photos(masked_scene(tmp_path, [mask]), [0], field_from_world=STAY, max_side=max_side)
    assert photos.counted is not None
    height, width = photos.sizes[0]
    counted = photos.counted.reshape(height, width)
    for y in range(height):
        for x in range(width):
            rows = slice(int(y * 24 / height), -int(-(y + 1) * 24 // height))
            columns = slice(int(x * 40 / width), -int(-(x + 1) * 40 // width))
            assert counted[y, x] == (mask[rows, columns] == 255).all()
    assert 0 < counted.sum() < counted.size


def test_masks_that_hide_nothing_are_none(tmp_path: Path) -> None:
    white = np.full((24, 40), 255, np.uint8)
    assert load_photos(masked_scene(tmp_path, [white, None]), [0, 1], field_from_world=STAY).counted is None


@pytest.mark.colmap
def test_pixels_without_a_ray_do_not_count(tmp_path: Path) -> None:
    file = save(tmp_path, "a.png", noise(48, 36))
    wide = Camera(model="FISHEYE", width=48, height=36, params=(14.0, 14.0, 24.0, 18.0))
    photos = load_photos(scene_of([file], [wide]), [0], field_from_world=STAY)
    x, y = np.meshgrid(np.arange(48) + 0.5 - 24, np.arange(36) + 0.5 - 18)
    assert photos.counted is not None
    np.testing.assert_array_equal(photos.counted.reshape(36, 48), np.hypot(x, y) / 14.0 < np.pi / 2)
    np.testing.assert_allclose(np.linalg.norm(photos.directions, axis=1), 1, atol=1e-6)
    wrong = Camera(model="FISHEYE", width=48, height=36, params=(4.0, 4.0, 24.0, 18.0))
    with pytest.raises(CaptureError, match="not those of these photos"):
        load_photos(scene_of([file], [wrong]), [0], field_from_world=STAY)


def test_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    scene = masked_scene(tmp_path, [np.zeros((40, 40), np.uint8)])
    with pytest.raises(DataError, match=r"mask-0\.png is 40 x 40 pixels, its photo 40 x 24"):
        load_photos(scene, [0], field_from_world=STAY)


@pytest.mark.parametrize("drawn", ["stored", "seen"])
def test_a_mask_turns_with_its_photo(tmp_path: Path, drawn: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = save(tmp_path, "a.png", noise(40, 24), exif=exif)
    stored = np.full((24, 40), 255, np.uint8)
    stored[:10, :10] = 0
    upright = np.rot90(stored, -1)
    mask = save(tmp_path, "mask.png", np.ascontiguousarray(stored if drawn == "stored" else upright))
    for size, wanted in (((24, 40), upright), ((40, 24), stored)):
        scene = scene_of([photo], [pinhole(*size)])
        scene = replace(scene, views=(replace(scene.views[0], mask=mask),))
        counted = load_photos(scene, [0], field_from_world=STAY).counted
        assert counted is not None
        np.testing.assert_array_equal(counted.reshape(size[::-1]), wanted == 255)


def test_unreadable_photos_are_named(tmp_path: Path) -> None:
    whole = save(tmp_path, "whole.jpg", noise(64, 48)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no photo")
    for name in ("cut.jpg", "text.jpg", "gone.jpg"):
        with pytest.raises(DataError, match=name):
            load_photos(scene_of([tmp_path / name], [pinhole(64, 48)]), [0], field_from_world=STAY)
    with pytest.raises(DataError, match="no photo was chosen"):
        load_photos(scene_of([tmp_path / "whole.jpg"], [pinhole(64, 48)]), [], field_from_world=STAY)


@pytest.mark.realdata
@pytest.mark.colmap
def test_the_fox_in_blocks_of_four(real_data: Path) -> None:
    scene = read_scene(real_data / "captures" / "fox")
    photos = load_photos(scene, [3], field_from_world=field_frame(scene), max_side=480)
    assert photos.sizes == ((480, 270),)
    full = np.asarray(Image.open(scene.views[3].image)).astype(np.int64)
    sums = full.reshape(480, 4, 270, 4, 3).sum(axis=(1, 3))
    np.testing.assert_array_equal(photos.pixels.reshape(480, 270, 3), (sums + 8) // 16)
