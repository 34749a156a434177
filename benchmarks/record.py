"""What every result file begins with: machine, versions, commit, command, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba

from nndl_suite.training.files import Json, write_json

PACKAGES = ("nndl-suite", "numpy", "numba", "torch", "pycolmap")
MIB = 2**20


def _git(*words: str) -> str:
    """What git says of this checkout; empty where there is none."""
    found = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def circumstances() -> dict[str, Json]:
    """Where and how a result came about. Call it before the measurement: the load average is of the minute before."""
    return {
        "command": " ".join([Path(sys.executable).name, *(Path(word).name for word in sys.argv)]),
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--", ":/src").splitlines()),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def peak_bytes() -> int:
    """The most memory that this process has held (Linux; unlike `ru_maxrss` it does not begin with the parent's)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def save(name: str, start: dict[str, Json], results: dict[str, Json], folder: Path) -> Path:
    """Write `folder/NAME.json`: the circumstances, then the results."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    write_json(file, {**start, "load_after": os.getloadavg()[0], **results})
    return file
