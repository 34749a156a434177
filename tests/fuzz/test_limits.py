"""Small files that would grow large, and numbers that would: refused by size, before anything grows, in a sentence."""

import io
import json
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import valid_inputs as valid
from PIL import Image

from nndl_suite.comparison.recipes import load_recipe
from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import CaptureError, ConfigError, DataError, RunError
from nndl_suite.models import weights
from nndl_suite.models.weights import read_header, read_state_dict
from nndl_suite.nerf.capture import prepare_capture
from nndl_suite.nerf.clip import sharpest_frames
from nndl_suite.nerf.path_file import read_path
from nndl_suite.nerf.readers import read_scene
from nndl_suite.training import array_files
from nndl_suite.training.array_files import load_npy, load_npz
from nndl_suite.training.files import read_json
from nndl_suite.training.json_files import MOST_JSON_BYTES, load_json
from nndl_suite.training.runs import RunFolder

_LITTLE = 64 * 2**20


@contextmanager
def _cheaply():
    """Less than two seconds of the processor's, however busy the machine, and little memory of Python's and NumPy's."""
    start = time.process_time()
    tracemalloc.start()
    try:
        yield
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < _LITTLE, f"{taken:,} bytes"
    assert time.process_time() - start < 2


@pytest.fixture(scope="module", autouse=True)
def _first_imports(tmp_path_factory):
    """The first reading of images imports what reads them, which takes its own time and memory."""
    folder = tmp_path_factory.mktemp("first")
    valid.photos(folder, [f"{n}.png" for n in range(4)])
    load_image_set(f"folder:{folder}", "unlabelled", image_size=16)


def png(width: int, height: int) -> bytes:
    """A PNG of zeros: a few hundred bytes for each thousand rows, whatever it unpacks to."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = bytes(1 + 3 * min(width, 10**6))
    packed = zlib.compress(row * min(height, 64), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((100_000, 100_000), "exceeds limit"),
        ((100_000, 100), "sides of at most 65,535"),
        ((100, 100_000), "sides of at most 65,535"),
        ((12_000, 12_000), "would unpack to 12000 x 12000 pixels"),
        ((60_000, 20), "too long and thin"),
    ],
)
def test_an_image_that_would_grow_is_refused_before_it_is_decoded(tmp_path, size, told):
    valid.photos(tmp_path, [f"{n}.png" for n in range(4)])
    (tmp_path / "5.png").write_bytes(png(*size))
    with _cheaply(), pytest.raises(DataError, match=told) as refused:
        load_image_set(f"folder:{tmp_path}", "unlabelled", image_size=16)
    assert "5.png" in str(refused.value)


def test_a_capture_says_which_photo_would_grow(tmp_path):
    (tmp_path / "capture").mkdir()
    valid.photos(tmp_path / "capture", [f"{n}.png" for n in range(5)])
    (tmp_path / "capture" / "big.png").write_bytes(png(100_000, 1000))
    with _cheaply():
        found = prepare_capture(
            tmp_path / "capture", tmp_path / "work", masks=tmp_path / "masks", max_side=64, video_frames=5
        )
    assert [name for name, _ in found.skipped] == ["big.png"]
    assert "100000 x 1000" in found.skipped[0][1]


def test_a_flat_photo_of_many_pixels_is_no_bomb(tmp_path):
    """The tightest that a JPEG can be packed: 36 megapixels of one colour."""
    Image.new("RGB", (6000, 6000), (200, 180, 160)).save(tmp_path / "flat.jpg", quality=30)
    assert (
        load_image_set(f"folder:{tmp_path}", "unlabelled", image_size=16).store.read(torch.tensor([0])).shape[-1] == 16
    )


def test_postscript_is_never_run(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, whatever its ending says."""
    from PIL import EpsImagePlugin  # noqa: PLC0415

    def run(*_, **__):
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match=r"a\.png is not a readable image"):
        load_image_set(f"folder:{tmp_path}", "unlabelled", image_size=16)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_playlist_is_no_video(tmp_path, suffix):
    """FFmpeg would open what it names."""
    valid.video(tmp_path)
    clip = tmp_path / f"list.{suffix}"
    clip.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path / 'clip.mp4'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(CaptureError, match=rf"list\.{suffix} cannot be read as a video"):
        list(sharpest_frames(clip, 3))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a":' + "[" * 70 + "]" * 70 + "}"])
def test_deep_json_is_refused(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with _cheaply(), pytest.raises(RunError, match=r"result\.json: it is nested more than 64 deep"):
        read_json(tmp_path / "result.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": NaN}', "no number"),
        ('{"a": [1, -Infinity]}', "no number"),
        ('{"a": 1e999}', "no number"),
        ('{"a": 1' + "0" * 400 + "}", "whole number"),
        ('{"a": 1' + "0" * 5000 + "}", "digit"),
        (r'{"a": "\ud800"}', "half of a character"),
        (r'{"\udfff": 1}', "half of a character"),
        ("[1]", "expected an object"),
    ],
)
def test_json_that_says_what_cannot_be_is_refused(tmp_path, text, told):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RunError, match=told) as refused:
        read_json(tmp_path / "result.json")
    assert "result.json" in str(refused.value)


def test_large_json_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "transforms.json").open("wb") as file:
        file.truncate(MOST_JSON_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(DataError, match=r"transforms\.json: it has more than 64 MB"):
        read_scene(tmp_path)


def test_json_is_only_ever_a_file(tmp_path):
    """A pipe without a writer would be waited for."""
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match="not a file"):
        load_json(tmp_path / "pipe.json")


def npy(shape: str, kind: str = "|u1", body: bytes = b"") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


@pytest.mark.parametrize(
    "content",
    [
        npy("(1000000000000,)"),
        npy("(1000000000000, 1000000000000, 100)", "<f8"),
        npy("(-1,)", body=b"x"),
        npy("(3,)", "|O", b"abc"),
        npy("(3, 1)", body=b"ab"),
        npy("(2,)", body=b"abc"),
        npy("[" * 3000),
        npy("__import__('os').abort()"),
        b"PK\x05\x06" + bytes(18),
        b"",
    ],
)
def test_an_array_is_as_large_as_its_file(tmp_path, content):
    (tmp_path / "poses_bounds.npy").write_bytes(content)
    valid.photos(tmp_path, ["a.png"])
    with _cheaply(), pytest.raises(ValueError, match=r"."):
        load_npy(tmp_path / "poses_bounds.npy")
    with pytest.raises(DataError, match=r"poses_bounds\.npy"):
        read_scene(tmp_path)
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with _cheaply(), pytest.raises(ValueError, match=r"."):
        load_npz(tmp_path / "set.npz")
    with pytest.raises(DataError, match=r"set\.npz is not a readable"):
        load_image_set(f"arrays:{tmp_path / 'set.npz'}", "train")


def test_arrays_that_would_unpack_to_far_more_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "_LARGE_BYTES", 2**20)
    np.savez_compressed(tmp_path / "set.npz", images=np.zeros((3 * 2**20,), np.uint8))
    with _cheaply(), pytest.raises(DataError, match=r"set\.npz .*would unpack to 3,145,"):
        load_image_set(f"arrays:{tmp_path / 'set.npz'}", "train")


def test_arrays_packed_as_images_pack_are_read(tmp_path):
    images = np.zeros((10, 8, 8, 3), np.uint8)
    np.savez_compressed(tmp_path / "set.npz", images=images, labels=np.arange(10) % 2)
    assert len(load_image_set(f"arrays:{tmp_path / 'set.npz'}", "train")) == 8


@pytest.mark.parametrize("label", [10**7, 10**17])
def test_a_label_is_the_number_of_a_class(tmp_path, label):
    """Every number below it would be a class."""
    labels = np.array([0, 1, label, 0, 1, 0])
    np.savez(tmp_path / "set.npz", images=np.zeros((6, 8, 8, 3), np.uint8), labels=labels)
    with (
        _cheaply(),
        pytest.raises(DataError, match=rf"set\.npz: labels must be below 1,000,000.*found {label} in row 2"),
    ):
        load_image_set(f"arrays:{tmp_path / 'set.npz'}", "train")
    valid.tar(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with tarfile.open(tmp_path / "images-000000.tar", "a") as tar:
        picture = io.BytesIO()
        valid.picture().save(picture, "PNG")
        for name, body in (("x.png", picture.getvalue()), ("x.cls", str(label).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    with _cheaply(), pytest.raises(DataError, match=rf"labels must be below 1,000,000.*found {label}, of image 8"):
        load_image_set(f"wds:{tmp_path}", "train", image_size=8)


def test_a_class_is_called_something_that_a_result_can_say(tmp_path):
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        picture = io.BytesIO()
        valid.picture().save(picture, "PNG")
        for name, body in (("x.png", picture.getvalue()), ("x.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"images\.tar: the class 'caf.udce9' is not in UTF-8"):
        load_image_set(f"wds:{tmp_path / 'images.tar'}", "train", image_size=8)


def _tar_of(head: tarfile.TarInfo, size: int) -> bytes:
    block = bytearray(head.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b"        "
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize("size", [-512, -1024, 2**62, 2**80])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_whose_sizes_lie_is_refused(tmp_path, size, kind):
    """Negative ones would lead in a circle, huge ones ask for their memory at once."""
    head = tarfile.TarInfo("a.png")
    head.type = kind
    (tmp_path / "bad.tar").write_bytes(_tar_of(head, size) + bytes(2048))
    with _cheaply(), pytest.raises(DataError, match=r"bad\.tar"):
        load_image_set(f"wds:{tmp_path / 'bad.tar'}", "train")


def test_a_tar_of_names_within_names_is_refused(tmp_path):
    head = tarfile.TarInfo("a.png")
    head.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "bad.tar").write_bytes((_tar_of(head, 1) + b"x" + bytes(511)) * 3000 + bytes(2048))
    with _cheaply(), pytest.raises(DataError, match=r"bad\.tar"):
        load_image_set(f"wds:{tmp_path / 'bad.tar'}", "train")


def test_numbers_in_braces_are_as_many_as_shards_are(tmp_path):
    with _cheaply(), pytest.raises(DataError, match="more than 1,000,000 shards"):
        load_image_set(f"wds:{tmp_path}/a-{{0..99999999999}}.tar", "train")


def test_weights_that_would_unpack_to_far_more_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_LARGE_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "weights.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**22))
    with _cheaply(), pytest.raises(DataError, match=r"weights\.pth.*would unpack"):
        read_state_dict(tmp_path / "weights.pth")


def test_pickled_weights_run_nothing(tmp_path):
    """Of a file that asks for more than tensors."""

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"a": Payload()}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"weights\.pth"):
        read_state_dict(tmp_path / "weights.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", "1000000000"),
        ("image_size", "0"),
        ("mean", "[NaN, 0, 0]"),
        ("std", "[1, 1]"),
        ("std", "[1, 1, 0]"),
    ],
)
def test_weights_that_describe_what_cannot_be_are_refused(tmp_path, field, value):
    from safetensors.torch import save_file  # noqa: PLC0415

    said = {"format": "nndl-suite backbone 1", "backbone": "resnet18", "stem": "cifar", "image_size": "32"}
    said |= {"mean": "[0.5, 0.5, 0.5]", "std": "[0.2, 0.2, 0.2]", field: value}
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata=said)
    with pytest.raises(DataError, match=r"w\.safetensors"):
        read_header(tmp_path / "w.safetensors")


def _transforms_with(folder, change):
    valid.transforms(folder)
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(fl_x=0), "focal length"),  # once taken for absent, and replaced by fl_y
        (lambda c: c.update(w=10**7), "pixels a side"),
        (lambda c: c.update(k1=10**300 * 10**200), "digits"),
        (lambda c: c.update(camera_model=["OPENCV"]), "camera_model"),
        (lambda c: c["frames"][2].update(file_path="."), "file_path"),
        (lambda c: c["frames"][2].update(file_path="images/.."), "file_path"),
        (lambda c: c["frames"][2].update(file_path="\ud800.png"), "character"),
        (lambda c: c["frames"][2].update(file_path="images/../images/1.png"), "twice"),
        (lambda c: c["frames"][2]["transform_matrix"][0].__setitem__(3, 1e300), "coordinates"),
        (lambda c: c["frames"][2]["transform_matrix"][0].__setitem__(0, 1e200), "rotation"),
    ],
)
def test_transforms_that_say_what_cannot_be_are_refused(tmp_path, change, told):
    _transforms_with(tmp_path, change)
    with pytest.raises((DataError, CaptureError), match=told) as refused:
        read_scene(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_a_frame_never_shows_what_is_no_photo(tmp_path):
    """A name may lead anywhere, but only to pictures."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "capture").mkdir()
    _transforms_with(tmp_path / "capture", lambda c: c["frames"][2].update(file_path="../secret.txt"))
    scene = read_scene(tmp_path / "capture")
    assert scene.poses.missing == ("../secret.txt",)


def test_a_name_too_long_for_any_disk_is_a_missing_photo(tmp_path):
    _transforms_with(tmp_path, lambda c: c["frames"][2].update(file_path="x" * 5000 + ".png"))
    assert len(read_scene(tmp_path).poses.missing) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(render_width=0.3), "render_width"),
        (lambda c: c.update(render_height=1e300), "render_width"),
        (lambda c: c["camera_path"][1].update(camera_to_world=[10**300] * 16), "camera 1"),
        (lambda c: c["camera_path"][1]["camera_to_world"].__setitem__(3, 1e200), "camera 1"),
    ],
)
def test_a_camera_path_that_cannot_be_is_refused(tmp_path, change, told):
    valid.path_json(tmp_path)
    content = json.loads((tmp_path / "path.json").read_text())
    change(content)
    (tmp_path / "path.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=told) as refused:
        read_path(tmp_path / "path.json")
    assert "path.json" in str(refused.value)


def test_a_recipe_names_its_file_and_takes_no_infinity(tmp_path):
    (tmp_path / "mine.json").write_text('{"mean": [1e999, 0, 0], "std": [1, 1, 1]}')
    with pytest.raises(ConfigError, match=r"mine\.json.*no number"):
        load_recipe(str(tmp_path / "mine.json"))
    (tmp_path / "mine.json").write_text('{"batchsize": 3}')
    with pytest.raises(ConfigError, match=r"mine\.json.*batch_size"):
        load_recipe(str(tmp_path / "mine.json"))


def test_a_log_gives_only_figures_that_can_be_drawn(tmp_path):
    lines = [
        '{"step": 1, "loss": 2.5}',
        '{"step": 2, "loss": NaN, "rate": 0.1}',
        '{"step": 3, "loss": "high", "rate": [1]}',
        '{"step": true, "loss": 1}',
        '{"step": 1e999, "loss": 1}',
        "[" * 100_000,
        '{"step": 4, "loss": 1' + "0" * 400 + "}",
        "{",
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert RunFolder(tmp_path).metrics() == [
        {"step": 1, "loss": 2.5},
        {"step": 2, "rate": 0.1},
        {"step": 3, "loss": "high"},
        {"step": 4},
    ]
