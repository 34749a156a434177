"""Captures: every photo and frame upright, with its focal length, and the bad ones named."""

import json
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nndl_suite.errors import CaptureError, DataError, RunError
from nndl_suite.nerf.capture import prepare_capture
from nndl_suite.nerf.clip import sharpest_frames, sharpness
from nndl_suite.nerf.photo_files import find_photos, natural_key

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
    masks = out.with_name(f"{out.name}-masks")
    return prepare_capture(capture, out, masks=masks, max_side=max_side, video_frames=video_frames)


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
    assert prepared.names == ("a.jpg", "b.png", "c.webp.png", "d.tif.png", "e.bmp.png")
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
    with pytest.raises(CaptureError, match=r"0 usable photos.*IMG_1.HEIC: there is no photo in it"):
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
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a rotation")
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file


def film(count: int, sharp: set[int]) -> list[np.ndarray]:
    picture = np.asarray(noise(size=(96, 64)))
    blurred = np.asarray(Image.fromarray(picture).resize((12, 8), Image.Resampling.BOX).resize((96, 64)))
    return [np.roll(picture if n in sharp else blurred, 3 * n, axis=1) for n in range(count)]  # a camera that moves


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


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    names = ["a b.jpg", "a.JPG", "a.png", "größe 1.Jpeg", "写真.jpg"]
    write(folder, names)
    for junk in ("database.db", "Thumbs.db", ".DS_Store", "._a.JPG", "a.json"):
        (folder / junk).write_bytes(b"\0\1\2\3")
    write(folder / "thumbnails", ["a.jpg", "z.jpg"])
    (folder / "round.jpg").symlink_to(folder / "round.jpg")
    (folder / "again").symlink_to(folder)
    prepared = prepare(folder, tmp_path / "out")
    assert set(prepared.names) == set(names)
    assert prepared.skipped == ()
    assert {file.name for file in (tmp_path / "out").iterdir()} == set(names)


def test_new_names_never_meet_old_ones(tmp_path: Path) -> None:
    write(tmp_path / "in", ["a.webp", "a.webp.png", "b.webp", "c.jpg", "d.jpg"])
    prepared = prepare(tmp_path / "in", tmp_path / "out")
    assert len(prepared.names) == 5
    with Image.open(tmp_path / "out" / "a.webp.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(noise(1)))


def test_copies_and_names_without_meaning_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, [f"{n}.jpg" for n in range(5)])
    (folder / "copy of 2.jpg").write_bytes((folder / "2.jpg").read_bytes())
    noise(7).save(folder / "x.jpg")
    try:
        (folder / "x.jpg").rename(folder / os.fsdecode(b"\xff\xfe.jpg"))
    except OSError:
        pytest.skip("this file system refuses such names by itself")
    prepared = prepare(folder, tmp_path / "out")
    assert len(prepared.names) == 5
    told = dict(prepared.skipped)
    assert told.pop("copy of 2.jpg" if "copy of 2.jpg" in told else "2.jpg").startswith("the same file as ")
    assert list(told.values()) == ["its name is not valid Unicode; rename it"]
    json.dumps(prepared.skipped).encode()


def test_photos_that_are_all_alike(tmp_path: Path) -> None:
    write(tmp_path / "one", ["a.jpg"])
    with pytest.raises(CaptureError, match="1 usable photo, at least 5"):
        prepare(tmp_path / "one", tmp_path / "out")
    for n in range(6):
        write(tmp_path / "copies", [f"{n}.jpg"])
    with pytest.raises(CaptureError, match="1 usable photo, at least 5.*1.jpg: the same file as 0.jpg"):
        prepare(tmp_path / "copies", tmp_path / "out")
    still = np.asarray(noise(size=(320, 240))).astype(np.int64)
    (tmp_path / "still").mkdir()
    (tmp_path / "wall").mkdir()
    for n in range(6):
        grain = np.random.default_rng(n).normal(0, 3, still.shape)  # of the sensor
        Image.fromarray((still + grain).clip(0, 255).astype(np.uint8)).save(tmp_path / "still" / f"{n}.jpg")
        Image.fromarray((120 + grain).clip(0, 255).astype(np.uint8)).save(tmp_path / "wall" / f"{n}.jpg")
    with pytest.raises(CaptureError, match=r"all 6 photos of .*still show the same picture.*walk round"):
        prepare(tmp_path / "still", tmp_path / "out")
    with pytest.raises(CaptureError, match="a single even surface"):
        prepare(tmp_path / "wall", tmp_path / "out")


def test_masks_go_through_the_same_as_their_photos(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "images"
    write(folder, ["0.jpg", "1.png", "2.jpg", "3.webp", "4.jpg"])
    noise(2).save(folder / "2.jpg", exif=phone_exif(orientation=6))
    left = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    left[:, :32] = 255
    masks = tmp_path / "in" / "masks"
    masks.mkdir()
    Image.fromarray(left).save(masks / "0.jpg.png")  # COLMAP's way
    Image.fromarray(left).save(masks / "1.png")  # the same name
    Image.fromarray(left).save(masks / "2.png")  # the stem, and drawn before the photo was turned
    Image.fromarray(left).resize((32, 24), Image.Resampling.NEAREST).save(masks / "3.webp.png")  # smaller
    prepared = prepare(tmp_path / "in", tmp_path / "out")
    assert prepared.masks == tmp_path / "out-masks"
    assert sorted(prepared.names) == ["0.jpg", "1.png", "2.jpg", "3.webp.png", "4.jpg"]
    wanted = {name: left for name in ("0.jpg", "1.png", "3.webp.png")}
    wanted |= {"2.jpg": np.rot90(left, -1), "4.jpg": np.full_like(left, 255)}  # COLMAP drops a photo without one
    for name, mask in wanted.items():
        np.testing.assert_array_equal(np.asarray(Image.open(prepared.masks / f"{name}.png")), mask, err_msg=name)


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, [f"{n}.jpg" for n in range(5)])
    (folder / "masks").mkdir()
    assert prepare(folder, tmp_path / "out").masks is None  # an empty folder says nothing
    noise().save(folder / "masks" / "other.png")
    with pytest.raises(CaptureError, match=r"no mask that is named after a photo; call the one of 0.jpg 0.jpg.png"):
        prepare(folder, tmp_path / "out")
    noise(size=(64, 64)).save(folder / "masks" / "0.jpg.png")
    with pytest.raises(DataError, match="64 x 64 pixels, its photo 64 x 48"):
        prepare(folder, tmp_path / "out")
    (folder / "masks" / "0.jpg.png").write_text("words")
    with pytest.raises(DataError, match="cannot read the mask .*0.jpg.png: there is no photo in it"):
        prepare(folder, tmp_path / "out")


def test_a_full_disk_is_not_the_photos_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "in", [f"{n}.jpg" for n in range(5)])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(RunError, match=r"cannot write to .*out: No space left on device; free some space"):
            prepare(tmp_path / "in", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(RunError, match="No space left"):
            prepare(tmp_path / "in", tmp_path / "out", max_side=32)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write to .*file"):
        prepare(tmp_path / "in", tmp_path / "file" / "out")


def test_a_video_says_what_it_lacks(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", film(60, set(range(60))))
    assert prepare(whole, tmp_path / "out").notes == ()
    for name in ("cut.mp4", "cut.mkv"):
        content = encode(tmp_path / f"whole-{name}", film(60, set(range(60)))).read_bytes()
        (tmp_path / name).write_bytes(content[: int(0.6 * len(content))])
        prepared = prepare(tmp_path / name, tmp_path / "out")
        assert len(prepared.names) >= 8  # of 10: the stretches are laid over what is there
        (note,) = prepared.notes
        assert re.fullmatch(rf"{name}: breaks off after [\d.]+ of 2.0 s; the \d+ frames up to there were used", note)


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for frame in film(30, set(range(30))):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray((tmp_path / "clip.avi").read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", content)]
    for number in (10, 11, 20):
        content[starts[number] : starts[number + 1] - 16] = bytes(starts[number + 1] - 16 - starts[number])
    (tmp_path / "clip.avi").write_bytes(bytes(content))
    notes: list[str] = []
    frames = list(sharpest_frames(tmp_path / "clip.avi", 60, note=notes.append))
    assert len(frames) == 27
    assert notes == ["clip.avi: 3 damaged pieces were passed over; the other 27 frames were used"]


def test_frames_at_uneven_times_are_frames_all_the_same(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "uneven.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
        time = 0
        for n, frame in enumerate(film(40, {3, 14, 22, 39})):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 600)
            time += 7 if n % 3 else 90
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    notes: list[str] = []
    frames = sharpest_frames(tmp_path / "uneven.mp4", 4, note=notes.append)
    assert [number for number, _ in frames] == [3, 14, 22, 39]
    assert notes == []


def test_videos_without_a_picture_or_without_movement(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(CaptureError, match="no picture track; is it a sound recording"):
        prepare(tmp_path / "sound.mp4", tmp_path / "out")
    still = np.asarray(noise(size=(96, 64)))
    encode(tmp_path / "still.mp4", [still] * 30)
    with pytest.raises(CaptureError, match="the same picture, taken from one place"):
        prepare(tmp_path / "still.mp4", tmp_path / "out")
    encode(tmp_path / "wall.mp4", [np.full((64, 96, 3), 130, np.uint8)] * 30)
    with pytest.raises(CaptureError, match="a single even surface"):
        prepare(tmp_path / "wall.mp4", tmp_path / "out")
    encode(tmp_path / "short.mp4", film(3, {1}))
    with pytest.raises(CaptureError, match="3 usable photos"):
        prepare(tmp_path / "short.mp4", tmp_path / "out")
    (tmp_path / "none.mp4").write_bytes(b"")
    with pytest.raises(CaptureError, match="cannot be read as a video"):
        prepare(tmp_path / "none.mp4", tmp_path / "out")
