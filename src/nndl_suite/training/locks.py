"""One command at a time writes into a folder; whoever comes second hears who that is."""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from nndl_suite.errors import RunError
from nndl_suite.training.parts import tidy_folder

_LOCK, _HOLDER = ".lock", ".holder.json"
_LAST_SECONDS = 10.0
"""For children of a dead command to end, which hold its lock as long as they live."""
_LOOK_SECONDS = 0.1


@contextmanager
def only_writer(folder: Path) -> Generator[None, None, None]:
    """Keep every other command from writing into a folder, and clear away what dead ones left unfinished in it.

    Of several processes that train together the first holds the folder for all.

    Args:
        folder: Made if missing.

    Raises:
        RunError: another command writes there, and which; or the folder cannot be written.
    """
    from nndl_suite.training.processes import from_first  # noqa: PLC0415 - brings torch, which no reader of runs needs

    with ExitStack() as stack:
        from_first(lambda: stack.enter_context(held(folder)))
        yield


@contextmanager
def held(folder: Path, *, patience: float = 0.0) -> Generator[None, None, None]:
    """As `only_writer`, for this process alone.

    The lock is the system's and ends with the process, so nothing needs to be deleted after a crash. One thread may
    hold it several times over.

    Args:
        folder: Made if missing.
        patience: Seconds to wait for a holder who is alive.
    """
    # not Path.resolve, which loses its head over links that go round in circles
    lock = FileLock(Path(os.path.realpath(folder)) / _LOCK, is_singleton=True)
    try:
        _take(lock, folder, patience)
        yield
    finally:
        if lock.is_locked:
            if lock.lock_counter == 1:
                with suppress(OSError):  # the disk may have gone meanwhile
                    (folder / _HOLDER).unlink(missing_ok=True)
            lock.release()


def _take(lock: BaseFileLock, folder: Path, patience: float) -> None:
    start = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not _taken(lock):
            holder = _holder(folder)
            alive = bool(holder) and not is_gone(holder)
            if time.monotonic() - start > (patience if alive else max(patience, _LAST_SECONDS)):
                raise RunError(
                    f"{folder} is being written by {_told(holder)}; wait for its end, or stop it and add --resume, "
                    "or choose another --out"
                )
            time.sleep(_LOOK_SECONDS)
        if lock.lock_counter == 1:
            _say_who(folder)
            tidy_folder(folder)
    except OSError as error:
        raise RunError(
            f"cannot write in {folder}: {error.strerror or error}; free some space or choose another --out"
        ) from error


def _taken(lock: BaseFileLock) -> bool:
    """Whether it is ours now; also where the disk knows no locks, for then nobody can be kept out."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except NotImplementedError:  # filelock's word for such a disk
        return True
    return True


def _say_who(folder: Path) -> None:
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else ["python"]
    options = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    holder = {
        **this_process(),
        "command": shlex.join(words[:options]),  # options may name what is nobody's business
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    (folder / _HOLDER).write_text(json.dumps(holder), encoding="utf-8")


def this_process() -> dict[str, str]:
    """What `is_gone` wants to know of the process that runs this."""
    return {"pid": str(os.getpid()), "host": platform.node()}


def is_gone(process: Mapping[str, str]) -> bool:
    """Whether it is a process of this machine that has ended; of other machines, and on Windows, nobody knows."""
    if process.get("host") != platform.node() or os.name != "posix":
        return False
    try:
        os.kill(int(process.get("pid", "")), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OSError):
        return False
    return False


def _holder(folder: Path) -> dict[str, str]:
    """Who holds the lock; empty in the moment before it is written down."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {str(name): str(value) for name, value in found.items()}
    return {}


def _told(holder: dict[str, str]) -> str:
    if not holder:
        return "another command"
    command, pid, host, since = (holder.get(name, "?") for name in ("command", "pid", "host", "since"))
    return f"`{command}` (process {pid} on {host}, since {since})"
