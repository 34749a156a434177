"""Captures: every photo and frame upright, with its focal length, and the bad ones named."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nndl_suite.errors import CaptureError
from nndl_suite.nerf.capture import find_photos, natural_key, prepare_capture, sharpest_frames, sharpness

SIZE = (64, 48)


def noise(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def phone_exif(orientation: int = 1, focal: int = 28) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0110] = "A phone"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA405] = focal
    exif.get_ifd(0x8825)[1] = "N"  # where it was taken
    return exif


def write(folder: Path, names: list[str], **options: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        noise(seed).save(folder / name, **options)


def prepare(capture: Path, out: Path, max_side: int = 1000, video_frames: int = 10):
    return prepare_capture(capture, out, max_side=max_side, video_frames=video_frames)


def test_photos_come_in_natural_order(tmp_path: Path) -> None:
    write(tmp_path, ["IMG_10.jpg", "img_9.JPG", "IMG_1.png", "b.tiff", "a2.webp", ".hidden.jpg"])
    (tmp_path / "notes.txt").write_text("no photo")
    names = [photo.name for photo in find_photos(tmp_path)]
    assert names == ["a2.webp", "b.tiff", "IMG_1.png", "img_9.JPG", "IMG_10.jpg"]


@given(st.lists(st.text("ab01279_."), min_size=2))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    keys = sorted(map(natural_key, names))
    assert keys == sorted(keys, reverse=True)[::-1]


def test_good_photos_are_copied_byte_for_byte(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(5)]
    write(tmp_path / "in" / "images", names, exif=phone_exif())
    prepared = prepare(tmp_path / "in", tmp_path / "out")
    assert prepared.groups == (tuple(names),)
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / "images" / name).read_bytes()


def test_orientation_is_baked_in_and_the_focal_length_kept(tmp_path: Path) -> None:
    write(tmp_path / "in", [f"{n}.jpg" for n in range(5)], exif=phone_exif(orientation=6), quality=95)
    prepare(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out" / "3.jpg") as image:
        assert image.size == (SIZE[1], SIZE[0])
        exif = image.getexif()
        assert exif.get(0x0112, 1) == 1
        assert exif[0x0110] == "A phone"
        assert exif.get_ifd(0x8769)[0xA405] == 28
        assert not exif.get_ifd(0x8825)  # nobody asked for the place
        upright = np.rot90(np.asarray(noise(3)), -1).astype(int)
        assert np.abs(np.asarray(image).astype(int) - upright).mean() < 12  # JPEG halves the colours


def test_large_photos_shrink_and_other_formats_become_png(tmp_path: Path) -> None:
    write(tmp_path / "in", ["a.jpg", "b.png", "c.webp", "d.tif", "e.bmp"])
    prepared = prepare(tmp_path / "in", tmp_path / "out", max_side=32)
    assert prepared.names == ("a.jpg", "b.png", "c.webp.png", "d.tif", "e.bmp")
    for name in prepared.names:
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (32, 24)


def test_photos_of_one_camera_stay_together(tmp_path: Path) -> None:
    write(tmp_path / "in", ["a1.jpg", "a2.jpg"], exif=phone_exif(focal=28))
    write(tmp_path / "in", ["b1.jpg"], exif=phone_exif(focal=77))  # the other lens of the same phone
    write(tmp_path / "in", ["c1.jpg", "c2.jpg"], exif=phone_exif(orientation=8, focal=28))  # upright
    prepared = prepare(tmp_path / "in", tmp_path / "out")
    assert sorted(prepared.groups) == [("a1.jpg", "a2.jpg"), ("b1.jpg",), ("c1.jpg", "c2.jpg")]


def test_bad_photos_are_named_and_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, [f"{n}.jpg" for n in range(5)])
    whole = (folder / "0.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no photo")
    prepared = prepare(folder, tmp_path / "out")
    assert len(prepared.names) == 5
    assert [name for name, _ in prepared.skipped] == ["cut.jpg", "empty.jpg", "text.png"]
    assert all(reason for _, reason in prepared.skipped)


def test_captures_that_cannot_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CaptureError, match="does not exist"):
        prepare(tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="is empty"):
        prepare(tmp_path / "empty", out)
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(CaptureError, match="export them as JPEG"):
        prepare(tmp_path / "heic", out)
    write(tmp_path / "few", ["a.jpg", "b.jpg"])
    (tmp_path / "few" / "c.jpg").write_text("no photo")
    with pytest.raises(CaptureError, match=r"2 usable photos, at least 5 .*c\.jpg"):
        prepare(tmp_path / "few", out)
    with pytest.raises(CaptureError, match="not a folder"):
        prepare(tmp_path / "few" / "a.jpg", out)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(CaptureError, match="neither a folder of photos nor a video"):
        prepare(tmp_path / "notes.txt", out)
    (tmp_path / "fake.mp4").write_text("words")
    with pytest.raises(CaptureError, match="cannot be read as a video"):
        prepare(tmp_path / "fake.mp4", out)


def test_blur_lowers_sharpness() -> None:
    grey = np.asarray(noise().convert("L"), dtype=np.float32)
    blurred = (grey + np.roll(grey, 1, 1) + np.roll(grey, 2, 1)) / 3
    assert sharpness(blurred) < 0.5 * sharpness(grey)
    laplacian = [
        [grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x] for x in range(1, 63)]
        for y in range(1, 47)
    ]
    assert sharpness(grey) == pytest.approx(np.var(np.array(laplacian, dtype=np.float64)), rel=1e-5)


def encode(file: Path, frames: list[np.ndarray], rotation: int = 0) -> Path:
    height, width, _ = frames[0].shape
    options = {"movflags": "+faststart"} if file.suffix == ".mp4" else {}
    with av.open(str(file), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": "10", "g": "6"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file


def film(count: int, sharp: set[int]) -> list[np.ndarray]:
    picture = np.asarray(noise(size=(96, 64)))
    blurred = np.asarray(Image.fromarray(picture).resize((12, 8), Image.Resampling.BOX).resize((96, 64)))
    return [picture if n in sharp else blurred for n in range(count)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])  # mkv does not say how many frames it has
def test_the_sharpest_frame_of_each_stretch_is_taken(tmp_path: Path, name: str) -> None:
    file = encode(tmp_path / name, film(40, {3, 14, 22, 39}))
    assert [number for number, _ in sharpest_frames(file, 4)] == [3, 14, 22, 39]
    assert len(list(sharpest_frames(file, 100))) == 40


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_frames_are_turned_as_a_player_turns_them(tmp_path: Path, rotation: int, turns: int) -> None:
    frame = film(1, {0})[0]
    plain = next(sharpest_frames(encode(tmp_path / "plain.mp4", [frame] * 6), 1))[1]
    turned = next(sharpest_frames(encode(tmp_path / "turned.mp4", [frame] * 6, rotation), 1))[1]
    # The encoder's way to 4:2:0 is not the same bits each time; the wrong way round differs by about 80.
    difference = turned.astype(int) - np.rot90(plain, turns)
    assert np.abs(difference).mean() < 2


def test_a_video_that_breaks_off_gives_what_is_whole(tmp_path: Path) -> None:
    content = encode(tmp_path / "whole.mp4", film(40, set(range(40)))).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(0.7 * len(content))])
    numbers = [number for number, _ in sharpest_frames(tmp_path / "cut.mp4", 20)]
    assert 5 <= len(numbers) < 20
    prepared = prepare(tmp_path / "cut.mp4", tmp_path / "out")
    assert prepared.names[0].startswith("frame_00000")


def test_a_video_becomes_one_group_of_upright_frames(tmp_path: Path) -> None:
    file = encode(tmp_path / "clip.mp4", film(40, set(range(40))), rotation=-90)
    prepared = prepare(file, tmp_path / "out", max_side=48, video_frames=8)
    assert len(prepared.groups) == 1
    assert len(prepared.names) == 8
    with Image.open(tmp_path / "out" / prepared.names[0]) as image:
        assert image.size == (32, 48)
