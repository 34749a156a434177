"""Asking COLMAP, which runs in a child process (see `colmap_child` for why)."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from nndl_suite.errors import CaptureError, RunError
from nndl_suite.training.files import Json
from nndl_suite.training.watch import Step, Watcher, ignore

_COMMAND = (sys.executable, "-m", "nndl_suite.nerf.colmap_child")


@dataclass(frozen=True, slots=True)
class Answer:
    """What COLMAP answered."""

    fields: Mapping[str, Any]
    """By the names that the task in `colmap_child` gives them."""
    arrays: Mapping[str, np.ndarray]


def ask_colmap(task: str, request: Mapping[str, Json], *, watch: Watcher = ignore) -> Answer:
    """Run one task of `colmap_child` and wait for its answer; whatever ends the wait ends the child too.

    Raises:
        CaptureError: COLMAP refused, aborted, or was killed.
        RunError: the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="nndl-suite-") as scratch:
        arrays = Path(scratch) / "arrays.npz"
        with (Path(scratch) / "stderr").open("w+b") as log:
            child = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C reaches us alone, and we end the child
            )
            try:
                fields = _converse(child, {**request, "task": task, "arrays": str(arrays)}, watch)
            finally:
                _end(child)
            if fields is None:
                raise CaptureError(_obituary(child.returncode, log))
        if not arrays.exists():
            return Answer(fields, {})
        with np.load(arrays, allow_pickle=False) as stored:
            return Answer(fields, {name: stored[name] for name in stored.files})


def _converse(child: "subprocess.Popen[bytes]", request: Mapping[str, Json], watch: Watcher) -> dict[str, Any] | None:
    """Put the request and read to the end of the answer; None when the child left without one."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()  # and stays open: its end tells the child that we are gone
    except BrokenPipeError:
        child.wait()
        return None
    for line in child.stdout:
        answer = json.loads(line)
        if "step" in answer:
            watch(Step(**answer["step"]))
        elif "error" in answer:
            if re.search("disk is full|No space left", answer["error"]):
                raise RunError(f"COLMAP cannot write: {answer['error']}; free some space or choose another --out")
            raise CaptureError(f"COLMAP: {answer['error']}")
        else:
            return answer["result"]
    child.wait()
    return None


def _end(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    try:
        child.wait(timeout=2)  # it leaves by itself at the end of its stdin
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _obituary(code: int, log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    said = f" Its last words: {lines[-1][:300]}" if lines else ""
    if code == -signal.SIGABRT:
        how = "aborted"
    elif code < 0:
        how = f"was killed (signal {-code}); the system does this when memory runs out: lower max_image_size"
    else:
        how = f"stopped with code {code}"
    return f"COLMAP {how}.{said}"
