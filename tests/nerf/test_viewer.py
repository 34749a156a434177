"""The page is served where it should be, holds the scene, and sends pictures of the field to who connects."""

import asyncio
import importlib
import io
import math
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

pytest.importorskip("viser", reason="the viewer is an extra")

import msgspec
import viser
import zstandard
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from nndl_suite import ColmapNerfReconstructor
from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.nerf.viewer import Viewer, fov_of, free_port, look_of, pose_of, thumbnail, wxyz_of


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> ColmapNerfReconstructor:
    folder = tmp_path_factory.mktemp("viewer")
    made = ColmapNerfReconstructor(make_demo_capture(folder / "capture", photos=9, size=(40, 30)), out=folder / "run")
    made.fit(steps=2)
    return made


@pytest.fixture
def viewer(scan: ColmapNerfReconstructor) -> Iterator[Viewer]:
    shown = Viewer(scan, port=free_port("127.0.0.1", 17007))
    yield shown
    shown.close()


def test_the_page_is_served_on_this_machine_alone(viewer: Viewer, capsys: pytest.CaptureFixture[str]):
    with urllib.request.urlopen(viewer.address, timeout=20) as answer:
        assert b"<html" in answer.read().lower()
    assert viewer.address == f"http://127.0.0.1:{viewer.port}"
    with socket.socket() as elsewhere:  # another address of the same machine: nobody listens there
        assert elsewhere.connect_ex(("127.0.0.2", viewer.port)) != 0
    for up in range(1, 20):  # viser alone would serve what the path leads to
        for path in (f"/{'../' * up}etc/passwd", f"/assets/{'../' * up}setup.py"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{viewer.address}{path}", timeout=20)
    assert capsys.readouterr().out == ""  # viser's banner


def test_where_others_reach_it_the_page_wants_a_secret(scan: ColmapNerfReconstructor):
    shown = Viewer(scan, host="0.0.0.0", port=free_port("0.0.0.0", 17307))
    try:
        assert shown.lets_others_in
        root, secret = shown.address.removesuffix("/").rsplit("/", 1)
        with urllib.request.urlopen(shown.address, timeout=20) as answer:
            assert b"<html" in answer.read().lower()
        for path in ("/", "/index.html", f"/{secret[:-1]}/", f"/{secret}/../../x.html"):
            with pytest.raises(urllib.error.HTTPError, match="40[34]"):
                urllib.request.urlopen(f"{root}{path}", timeout=20)
        assert asyncio.run(first_pictures(f"{root}/{secret}", 1)) == [(128, 96)]
        with pytest.raises(InvalidStatus, match="403"):
            asyncio.run(first_pictures(root, 1))
    finally:
        shown.close()


def test_another_website_cannot_look_in(viewer: Viewer):
    with pytest.raises(InvalidStatus, match="403"):
        asyncio.run(first_pictures(viewer.address, 1, origin="https://elsewhere.example"))


def test_a_page_that_reads_nothing_and_one_that_talks_nonsense_keep_no_other_from_its_pictures(viewer: Viewer):
    async def together() -> list[tuple[int, int]]:
        async with page_of(viewer.address) as slow, page_of(viewer.address) as mad:
            await slow.send(msgspec.msgpack.encode(CAMERA))
            for change in (
                {"position": (math.nan, 0.0, 0.0)},
                {"wxyz": (0.0, 0.0, 0.0, 0.0)},
                {"position": (1e30, 0.0, 0.0)},
                {"fov": math.inf},
                {"fov": -1.0},
                {"image_height": 0},
                {"image_width": 0},
            ):
                await mad.send(msgspec.msgpack.encode(CAMERA | change))
            return await asyncio.wait_for(first_pictures(viewer.address, 3), timeout=100)

    assert set(asyncio.run(together())) <= {(128, 96), (320, 240), (640, 480)}
    assert not any(work.done() for work in viewer._work[:1])


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, True),
        ({"wxyz": np.zeros(4)}, False),
        ({"wxyz": np.full(4, np.nan)}, False),
        ({"position": np.array([0.0, np.inf, 0.0])}, False),
        ({"position": np.array([0.0, 1e9, 0.0])}, False),
        ({"fov_rad": math.pi}, False),
        ({"fov_rad": math.nan}, False),
        ({"size": (0, 80)}, False),
        ({"size": (60, -1)}, False),
    ],
)
def test_a_camera_that_is_none_is_not_looked_through(change, seen):
    camera = {"wxyz": np.array([0.0, 1, 0, 0]), "position": np.zeros(3), "fov_rad": 0.8, "size": (60, 80)}
    assert (look_of(**camera | change) is not None) == seen


def test_it_ends_when_closed_and_the_port_is_free_again(scan: ColmapNerfReconstructor):
    shown = Viewer(scan, port=free_port("127.0.0.1", 17107))
    port = shown.port
    shown.close()
    shown.wait()  # returns: closed already
    assert free_port("127.0.0.1", port) == port


def test_a_taken_port_gives_the_next_and_an_address_elsewhere_is_refused():
    first = free_port("127.0.0.1", 17207)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert first < free_port("127.0.0.1", first) <= first + 50
    with pytest.raises(ConfigError, match="no address of this machine"):
        free_port("no such host", 17207)
    with pytest.raises(ConfigError, match="cannot listen on 192"):
        free_port("192.0.2.1", 17207)  # reserved for documentation, RFC 5737


def test_a_run_that_was_never_trained_is_refused(tmp_path: Path, scan: ColmapNerfReconstructor):
    with pytest.raises(RunError, match="not been trained"):
        Viewer(ColmapNerfReconstructor(scan.settings.source, out=tmp_path / "run"))


def test_without_viser_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.delitem(sys.modules, "nndl_suite.nerf.viewer")
    with pytest.raises(ConfigError, match=r'pip install "nndl-suite\[viewer\]"'):
        importlib.import_module("nndl_suite.nerf.viewer")


def test_visers_numbers_are_opencv_poses():
    turn = Rotation.from_rotvec([0.3, -1.0, 0.4]).as_matrix()
    pose = np.concatenate([turn, [[1.0], [2.0], [3.0]]], axis=1)
    np.testing.assert_allclose(pose_of(wxyz_of(pose), pose[:, 3]), pose, atol=1e-12)
    about_x = np.array([np.cos(0.25), np.sin(0.25), 0, 0])  # wxyz of half a radian about x
    np.testing.assert_allclose(pose_of(about_x, np.zeros(3))[:, :3], Rotation.from_rotvec([0.5, 0, 0]).as_matrix())


def test_thumbnails_are_small_and_angles_those_of_the_photos(scan: ColmapNerfReconstructor):
    assert thumbnail(np.zeros((300, 900, 4), np.uint8)).shape == (50, 150, 3)
    assert fov_of(scan.arrays(), 0) == pytest.approx(2 * np.arctan(15 / 44))


def test_who_connects_gets_the_scene_and_ever_sharper_pictures(viewer: Viewer):
    """A page's first words, as viser's own client says them: its camera; then the pictures come by themselves."""

    async def talk() -> tuple[set[str], list[tuple[int, int]]]:
        heard: set[str] = set()
        sizes: list[tuple[int, int]] = []
        async with page_of(viewer.address) as page:
            await page.send(msgspec.msgpack.encode(CAMERA))
            while (640, 480) not in sizes:
                for message, pictures in unpack(await asyncio.wait_for(page.recv(), timeout=100)):
                    heard.add(message["type"])
                    sizes += pictures
        return heard, sizes

    heard, sizes = asyncio.run(talk())
    assert "CameraFrustumMessage" in heard
    assert set(sizes) <= {(128, 96), (320, 240), (640, 480)}  # a slow page is spared what is out of date
    assert sizes == sorted(sizes)


CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (0.0, 1.0, 0.0, 0.0),
    "position": (0.0, 0.0, 2.0),
    "fov": 0.8,
    "near": 0.01,
    "far": 100.0,
    "image_height": 60,
    "image_width": 80,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 1.0, 0.0),
}


def page_of(address: str, origin: str | None = None) -> connect:
    return connect(
        address.replace("http", "ws"),
        origin=origin,
        subprotocols=[Subprotocol(f"viser-v{viser.__version__}")],
        max_size=None,
    )


async def first_pictures(address: str, count: int, origin: str | None = None) -> list[tuple[int, int]]:
    """The sizes of the pictures that a page gets first."""
    sizes: list[tuple[int, int]] = []
    async with page_of(address, origin) as page:
        await page.send(msgspec.msgpack.encode(CAMERA))
        while len(sizes) < count:
            for _, pictures in unpack(await page.recv()):
                sizes += pictures
    return sizes[:count]


def unpack(content: bytes | str) -> list[tuple[dict[str, Any], list[tuple[int, int]]]]:
    """Messages of viser's wire format, each with the size of the background picture in it, if it is one."""
    assert isinstance(content, bytes)
    packed = int.from_bytes(content[8:16], "little")
    told = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(content[16 : 16 + packed]))
    return [(message, sizes_in(message)) for message in told["messages"]]


def sizes_in(message: dict[str, Any]) -> list[tuple[int, int]]:
    if message["type"] != "BackgroundImageMessage" or message["rgb_data"] is None:  # None: the scene as it was made
        return []
    return [Image.open(io.BytesIO(message["rgb_data"])).size]
