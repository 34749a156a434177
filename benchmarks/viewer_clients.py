"""Fifty pages at once before one viewer: when each gets its first and its sharpest picture, and what memory it takes.

    python benchmarks/viewer_clients.py [--clients 1 10 50] [--slow 5]

Each page is a WebSocket that says where its camera is and then reads, but for the slow ones, which never read. One more
page walks all the while, as a person does, and must get a new picture for each of its steps. Needs the viewer extra.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import viser
import zstandard
from record import circumstances, save
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from nndl_suite import ColmapNerfReconstructor
from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.nerf.viewer import Viewer, free_port
from nndl_suite.training.files import Json

WALK_STEPS = 10
QUIET_SECONDS = 0.5
CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (0.0, 1.0, 0.0, 0.0),
    "position": (0.0, 0.0, 2.0),
    "fov": 0.8,
    "near": 0.01,
    "far": 100.0,
    "image_height": 480,
    "image_width": 640,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 1.0, 0.0),
}


def page(address: str) -> connect:
    """A connection as viser's own page opens it."""
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    return connect(address.replace("http", "ws"), subprotocols=[protocol], max_size=None, open_timeout=60)


def pictures_in(content: bytes | str) -> int:
    """How many pictures of the field a message brings."""
    assert isinstance(content, bytes)
    packed = int.from_bytes(content[8:16], "little")
    told = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(content[16 : 16 + packed]))
    return sum(m["type"] == "BackgroundImageMessage" and m["rgb_data"] is not None for m in told["messages"])


async def looker(address: str, number: int) -> tuple[float, float]:
    """Seconds until the first and the third picture of a camera at rest."""
    async with page(address) as client:
        await settled(client)  # what every page is sent before it has said where its camera is
        start, times = time.monotonic(), []
        await client.send(msgspec.msgpack.encode(CAMERA | {"position": (0.01 * number, 0.0, 2.0)}))
        while len(times) < 3:
            came = pictures_in(await client.recv())
            times += [time.monotonic() - start] * came
        return times[0], times[2]


async def settled(client: ClientConnection) -> None:
    """Read until nothing has come for a while."""
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(client.recv(), QUIET_SECONDS)


async def walker(address: str, steps: int) -> list[float]:
    """Seconds from each step of a page that walks to its next picture, which may still be of the step before."""
    waits = []
    async with page(address) as client:
        await settled(client)
        for step in range(steps):
            start = time.monotonic()
            await client.send(msgspec.msgpack.encode(CAMERA | {"position": (0.0, 0.02 * step, 2.0)}))
            while not pictures_in(await client.recv()):
                pass
            waits.append(time.monotonic() - start)
    return waits


async def sleeper(address: str, done: asyncio.Event) -> None:
    """A page that asks and never reads."""
    async with page(address) as client:
        await client.send(msgspec.msgpack.encode(CAMERA))
        await done.wait()
        client.transport.abort()


async def crowd(address: str, clients: int, slow: int) -> dict[str, Json]:
    """All of them together."""
    done = asyncio.Event()
    sleeping = [asyncio.create_task(sleeper(address, done)) for _ in range(slow)]
    await asyncio.sleep(0.5)
    looking = [asyncio.create_task(looker(address, number)) for number in range(clients)]
    waits = await walker(address, WALK_STEPS)
    seen = await asyncio.gather(*looking)
    done.set()
    await asyncio.gather(*sleeping, return_exceptions=True)
    first, sharp = ([one[i] for one in seen] for i in (0, 1))
    return {
        "clients": clients,
        "slow": slow,
        "first_picture_s": {"median": round(statistics.median(first), 2), "worst": round(max(first), 2)},
        "third_picture_s": {"median": round(statistics.median(sharp), 2), "worst": round(max(sharp), 2)},
        "walker_waits_s": {"median": round(statistics.median(waits), 2), "worst": round(max(waits), 2)},
        "memory_mib": round(memory_mib()),
    }


def memory_mib() -> float:
    """What this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Serve a small field, and look at it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--slow", type=int, default=5)
    asked = parser.parse_args()
    about = circumstances()
    with tempfile.TemporaryDirectory() as folder:
        capture = make_demo_capture(Path(folder) / "capture", photos=12, size=(80, 60))
        scan = ColmapNerfReconstructor(capture, out=Path(folder) / "run")
        scan.fit(steps=30)
        viewer = Viewer(scan, port=free_port("127.0.0.1", 17507))
        try:
            asyncio.run(looker(viewer.address, 0))  # compiles what renders
            before, found = memory_mib(), []
            for clients in asked.clients:
                found.append(asyncio.run(crowd(viewer.address, clients, asked.slow)))
                print(found[-1], flush=True)
            after = memory_mib()
        finally:
            viewer.close()
    results: dict[str, Json] = {"memory_before_mib": round(before), "memory_after_mib": round(after), "found": found}
    print(save("viewer_clients", about, results, Path(__file__).parent / "results"))


if __name__ == "__main__":
    main()
