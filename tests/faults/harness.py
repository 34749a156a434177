"""Victims, the ways to disturb them, and the oracle that says whether anything was lost."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import trimesh
from PIL import Image
from safetensors.numpy import load_file

from nndl_suite.training.checkpoints import equal_states, load_newest

HERE = Path(__file__).parent
HUNG = 124
"""The code of a victim that did not end by itself."""
VARYING = {
    *("seconds", "images_per_second", "train_seconds", "render_seconds_per_frame", "seconds_features"),
    *("features_cached", "storage", "wall_seconds"),
    *("number", "put_back"),
}
"""Of a result: what the clock decides, and that a tuning tells of the trials it had to begin again."""
UNFINISHED = (".part", ".rename", ".tmp", ".holder.json", "nndl-suite-")


@dataclass
class Death:
    """How a victim ended."""

    code: int
    """Exit code; minus the signal that killed it."""
    seconds: float
    said: str


class Victim:
    """A command that runs."""

    def __init__(self, forge: "Forge", pid: int, log: Path) -> None:
        self._forge, self.pid, self._log, self._born = forge, pid, log, time.monotonic()

    def signal(self, number: int) -> None:
        if self.pid not in self._forge.dead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def alive(self, within: float) -> bool:
        """Whether it lives still after so many seconds; waits no longer than it lives."""
        until = time.monotonic() + within
        while self.pid not in self._forge.dead:
            left = until - time.monotonic()
            if left <= 0:
                return True
            self._forge.listen(left)
        return False

    def wait(self, timeout: float = 120.0) -> Death:
        if self.alive(timeout):
            self.signal(signal.SIGUSR1)  # it says where it is
            self.alive(1)
            self.signal(signal.SIGKILL)
            self.alive(10)
            return Death(HUNG, timeout, self.said())
        return Death(self._forge.dead[self.pid], self._forge.died[self.pid] - self._born, self.said())

    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Forge:
    """The process that forks victims; see `forge.py`."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self._count = scratch, 0
        self.dead: dict[int, int] = {}
        self.died: dict[int, float] = {}
        self._born: list[int] = []
        self._pending = b""
        self.environment = {
            "XDG_CACHE_HOME": str(scratch / "cache"),
            "TMPDIR": str(scratch / "tmp"),
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        for folder in ("cache", "tmp", "logs"):
            (scratch / folder).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forge.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        )
        self._ready = False
        while not self._ready:
            self.listen(120)

    def listen(self, seconds: float) -> None:
        """Take in what the forge says, for at most so long."""
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], max(0.0, seconds))[0]:
            return
        read = os.read(out.fileno(), 65536)
        if not read:
            raise RuntimeError("the forge is gone")
        *lines, self._pending = (self._pending + read).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "born" in said:
                self.dead.pop(said["born"], None)  # numbers come again
                self._born.append(said["born"])
            elif "dead" in said:
                self.dead[said["dead"]], self.died[said["dead"]] = said["status"], time.monotonic()
            else:
                self._ready = True

    def start(self, words: Sequence[object], *, folder: Path | None = None, **tweaks: Any) -> Victim:
        self._count += 1
        log = self.scratch / "logs" / f"{self._count:05d}.txt"
        request = {
            "words": [str(word) for word in words],
            "folder": str(folder or self.scratch),
            "log": str(log),
            "environment": {**self.environment, **tweaks.pop("environment", {})},
            "tweaks": tweaks,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while not self._born:
            self.listen(30)
        return Victim(self, self._born.pop(), log)

    def run(self, words: Sequence[object], **tweaks: Any) -> Death:
        return self.start(words, **tweaks).wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass(frozen=True)
class Command:
    """A command of which victims are made."""

    name: str
    words: Callable[[Path], list[object]]
    """Of a fresh output place."""
    again: tuple[str, ...] = ("--resume",)
    """What is added the second time."""
    server: Any = None
    """Where it fetches from; see `shard_server`."""
    tweaks: Mapping[str, Any] = field(default_factory=dict)
    """As in `forge.tweak`, for every one of its victims."""
    exact: bool = True
    """Whether an undisturbed run repeats to the bit; else only what it is about does."""


def damaged(folder: Path) -> list[str]:
    """Files under final names that do not parse, each with its reason."""
    found = []
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not file.is_file() or hidden or file.suffix == ".part" or _is_material(file):
            continue
        try:
            _parse(file)
        except Exception as error:  # noqa: BLE001 - whatever a reader says
            found.append(f"{file.relative_to(folder)}: {type(error).__name__}: {error}")
    return found


def _is_material(file: Path) -> bool:
    """Whether nobody trusts it by its name: COLMAP's work before poses.json, photos before request.json names them."""
    if "sparse" in file.parts or ".db" in file.name:
        return True
    request = file.parent.parent / "request.json"
    return request.exists() and "groups" not in json.loads(request.read_text())


def _parse(file: Path) -> None:  # noqa: C901 - a case for each kind of file
    if file.stat().st_size == 0 and file.suffix not in {".journal", ".lock", ".jsonl"}:
        raise ValueError("empty")
    if file.suffix == ".json":
        json.loads(file.read_text())
    elif file.suffix in {".jsonl", ".journal"}:
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                json.loads(line)
    elif file.suffix == ".safetensors":
        load_file(file)
    elif file.suffix in {".npz", ".npy"}:
        np.load(file, allow_pickle=False)
    elif file.suffix in {".png", ".jpg"}:
        with Image.open(file) as image:
            image.load()
    elif file.suffix == ".mp4":
        with av.open(str(file)) as container:
            if not list(container.decode(video=0)):
                raise ValueError("no frames")
    elif file.suffix in {".glb", ".ply", ".obj"}:
        trimesh.load(file)


def left_over(*folders: Path) -> list[str]:
    """Unfinished files that nobody has cleared away."""
    return [
        str(file)
        for folder in folders
        for file in folder.rglob("*")
        if any(mark in file.name for mark in UNFINISHED) and "numba" not in str(file)
    ]


def outcome(place: Path) -> dict[str, Any]:
    """What finished commands left, without what the clock decides: results, last checkpoints, bytes of exports."""
    found: dict[str, Any] = {}
    for file in sorted(place.rglob("*")):
        name = str(file.relative_to(place))
        if file.name == "result.json":
            found[name] = _steady(json.loads(file.read_text()))
        elif file.name == "poses.json":
            found[name] = json.loads(file.read_text())["registered"]
        elif file.suffix in {".mp4", ".ply", ".glb"}:
            found[name] = file.read_bytes()
        elif file.name == "checkpoints" and (newest := load_newest(file)) is not None:
            found[name] = (newest.step, newest.state)
    return found


def _steady(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _steady(value) for name, value in node.items() if name not in VARYING}
    return [_steady(value) for value in node] if isinstance(node, list) else node


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names under which two outcomes differ, to the bit."""
    if sorted(a) != sorted(b):
        return [f"files: {sorted(set(a) ^ set(b))}"]
    return [
        name
        for name in a
        if not (
            a[name][0] == b[name][0] and equal_states(a[name][1], b[name][1])
            if isinstance(a[name], tuple)
            else a[name] == b[name]
        )
    ]


def saved_steps(place: Path) -> dict[Path, tuple[int, int]]:
    """For each training below: bytes of its log now, and the step of its newest checkpoint."""
    found = {}
    for folder in place.rglob("checkpoints"):
        log = folder.parent / "metrics.jsonl"
        steps = [int(file.stem.removeprefix("step-")) for file in folder.glob("step-*.safetensors")]
        found[folder.parent] = (log.stat().st_size if log.exists() else 0, max(steps, default=0))
    return found


def repeated_too_much(before: Mapping[Path, tuple[int, int]]) -> list[str]:
    """Trainings whose next sitting began before the step after the checkpoint that was there."""
    found = []
    for folder, (size, step) in before.items():
        log = folder / "metrics.jsonl"
        new = log.read_bytes()[size:].split(b"\n") if log.exists() else []
        firsts = [json.loads(line)["step"] for line in new if line.startswith(b"{")][:1]
        if firsts and firsts[0] != step + 1:
            found.append(f"{folder.name}: checkpoint at {step}, went on with {firsts[0]}")
    return found


def fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
