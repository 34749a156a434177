"""Every kind of photo becomes the 8 bits that NumPy says, and one that cannot be says why."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.capture import prepare_capture
from nndl_suite.nerf.decode import UNREADABLE, as_8_bit, open_photo, reason
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.photos import load_photos
from nndl_suite.nerf.scene import PoseReport, Scene, View

SIZE = (64, 48)
DEEP = np.random.default_rng(0).integers(0, 65536, (48, 64, 4), dtype=np.uint16)
FLAT = np.random.default_rng(1).integers(0, 256, (48, 64, 4), dtype=np.uint8)


def save_png16(file: Path, pixels: np.ndarray) -> None:
    """Pillow writes 16 bits only in grey."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., :1], 3, axis=2)


def write(folder: Path) -> dict[str, np.ndarray]:
    """A file of each kind, and what it must come to."""
    folder.mkdir()
    deep = (DEEP / 257.0).round().astype(np.uint8)  # 65535 is 255
    for channels in (1, 2, 3, 4):
        save_png16(folder / f"deep{channels}.png", DEEP[..., :channels])
    Image.fromarray(DEEP[..., 0]).save(folder / "deep.tif")
    Image.fromarray(DEEP[..., 0].astype(">u2")).save(folder / "motorola.tif")
    Image.fromarray(FLAT[..., 0]).save(folder / "grey.png")
    Image.fromarray(FLAT[..., :2]).save(folder / "grey_alpha.png")
    Image.fromarray(FLAT).save(folder / "alpha.png")
    cyan = Image.fromarray(FLAT).convert("RGB").convert("CMYK")
    cyan.save(folder / "cmyk.tif")
    palette = Image.fromarray(FLAT[..., :3]).quantize(16)
    palette.save(folder / "palette.png")
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    inks = np.asarray(cyan).astype(np.int64)
    return {
        "deep1.png": grey(deep),
        "deep2.png": np.concatenate([grey(deep), deep[..., 1:2]], axis=2),
        "deep3.png": deep[..., :3],
        "deep4.png": deep,
        "deep.tif": grey(deep),
        "motorola.tif": grey(deep),
        "grey.png": grey(FLAT),
        "grey_alpha.png": np.concatenate([grey(FLAT), FLAT[..., 1:2]], axis=2),
        "alpha.png": FLAT,
        "cmyk.tif": ((255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255).round(),
        "palette.png": colours[np.asarray(palette)],
    }


def load(file: Path) -> np.ndarray:
    camera = Camera(model="PINHOLE", width=64, height=48, params=(60.0, 60.0, 32.0, 24.0))
    scene = Scene(
        root=file.parent,
        cameras=(camera,),
        views=(View(name=file.name, image=file, camera=0, world_from_camera=np.eye(3, 4)),),
        test_names=frozenset(),
        points=None,
        poses=PoseReport(registered=1, total=1, mean_reprojection_error=None),
    )
    stay = Similarity(scale=1.0, rotation=np.eye(3), translation=np.zeros(3))
    return load_photos(scene, [0], field_from_world=stay).pixels.reshape(48, 64, -1)


def test_every_mode_becomes_what_numpy_says(tmp_path: Path) -> None:
    for name, expected in write(tmp_path / "in").items():
        loaded = load(tmp_path / "in" / name)
        assert loaded.shape == expected.shape, name
        # Of 16-bit colour Pillow gives the upper byte, which may be a level lower.
        assert np.abs(loaded.astype(int) - expected).max() <= 1, name
    assert np.ptp(load(tmp_path / "in" / "deep1.png")) > 250  # clipped it would be white all over


def test_every_mode_comes_through_preparing_too(tmp_path: Path) -> None:
    expected = write(tmp_path / "in")
    prepared = prepare_capture(
        tmp_path / "in", tmp_path / "out", masks=tmp_path / "masks", max_side=1000, video_frames=9
    )
    assert prepared.skipped == ()
    assert len(prepared.names) == len(expected)
    for name, wanted in expected.items():
        made = next(iter((tmp_path / "out").glob(f"{name}*")))
        with Image.open(made) as image:
            assert image.mode in {"L", "RGB", "RGBA"}, name  # nothing that COLMAP has to guess at
        assert np.abs(load(made).astype(int) - wanted).max() <= 1, name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".heic"])
def test_all_orientations_end_upright_with_their_focal_length(tmp_path: Path, orientation: int, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    pillow_heif.register_heif_opener(thumbnails=False)  # which lets Pillow write it too
    names = [f"{n}{suffix}" for n in range(5)]
    small = np.random.default_rng(2).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for n, name in enumerate(names):
        exif = Image.Exif()
        exif[0x0112], exif[0x0110] = orientation, "A phone"
        exif.get_ifd(0x8769)[0xA405] = 28
        exif.get_ifd(0x8769)[0x920A] = 4.25
        picture = Image.fromarray(np.roll(small, n, axis=1)).resize(SIZE, Image.Resampling.NEAREST)
        picture.save(tmp_path / "in" / name, exif=exif, quality=95)
    prepared = prepare_capture(
        tmp_path / "in", tmp_path / "out", masks=tmp_path / "masks", max_side=1000, video_frames=9
    )
    assert len(prepared.groups) == 1
    for source, name in zip(names, prepared.names, strict=True):
        with open_photo(tmp_path / "in" / source) as opened:
            upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
        with Image.open(tmp_path / "out" / name) as image:
            exif = image.getexif()
            assert exif.get(0x0112, 1) == 1
            assert exif[0x0110] == "A phone"
            if suffix != ".tif":  # where Pillow does not write it
                assert exif.get_ifd(0x8769)[0xA405] == 28
                assert float(exif.get_ifd(0x8769)[0x920A]) == 4.25
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - upright).mean() < 4


def test_heic_costs_nothing_until_there_is_one(tmp_path: Path) -> None:
    pillow_heif.register_heif_opener(thumbnails=False)
    for name in ("a.jpg", "b.HEIC"):
        Image.new("RGB", SIZE).save(tmp_path / name)
    code = (
        "import sys; from pathlib import Path; from nndl_suite.nerf.decode import open_photo\n"
        "for file, heic in zip(map(Path, sys.argv[1:]), (False, True)):\n"
        "    with open_photo(file) as image: image.load()\n"
        "    assert ('pillow_heif' in sys.modules) == heic"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg"), str(tmp_path / "b.HEIC")], check=True)


BROKEN = {
    "cut.jpg": "truncated",
    "empty.png": "the file is empty",
    "text.jpg": "no photo in it",
    "text.heic": "no photo in it",
    "gone.jpg": "not there",
    "floats.tif": "floating-point",
    "long.tif": "32 bits",
    "bomb.png": "too large",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str) -> None:
    Image.fromarray(FLAT[..., :3]).resize((640, 480)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:3000])
    (tmp_path / "empty.png").write_bytes(b"")
    for text in ("text.jpg", "text.heic"):
        (tmp_path / text).write_text("words and more words")
    Image.fromarray(DEEP[..., 0].astype(np.float32)).save(tmp_path / "floats.tif")
    Image.fromarray(DEEP[..., 0].astype(np.int32) * 1000).save(tmp_path / "long.tif")
    save_png16(tmp_path / "bomb.png", DEEP[:1, :1, :1])
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "bomb.png").write_bytes(bytes(content))
    with pytest.raises(UNREADABLE) as caught, open_photo(tmp_path / name) as opened:
        as_8_bit(opened)
    assert BROKEN[name] in reason(caught.value, tmp_path / name)
