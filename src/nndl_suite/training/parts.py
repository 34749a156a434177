"""Unfinished files: written under a name of their own, and known as left over once their writer is dead.

A writer holds a lock of the system on its unfinished file, which ends with the process however that ends. What nobody
holds any more is therefore rubbish, on this machine or on another one that shares the disk.
"""

import os
import sys
import tempfile
from pathlib import Path

if sys.platform != "win32":  # nothing tells there who is dead, and unfinished files stay until somebody deletes them
    import fcntl

_TRIES = 10


def new_part(path: Path) -> tuple[int, Path]:
    """An unfinished file beside `path`, hidden and held: an open handle, and its name, which ends as that of `path`.

    Closing the handle lets it go.
    """
    for _ in range(_TRIES):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part{path.suffix}", dir=path.parent)
        try:
            free = _hold(handle)
        except OSError:  # a disk that knows no locks: nobody can tidy up there either
            free = True
        if free and Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # somebody who tidied up found it in the moment before it was held
    raise OSError(f"no unfinished file stays beside {path}")


def tidy(path: Path) -> None:
    """Delete what dead writers of this one file left beside it."""
    prefix, suffix = f".{path.name}.", f".part{path.suffix}"
    with os.scandir(path.parent) as there:
        found = [Path(entry) for entry in there if entry.name.startswith(prefix) and entry.name.endswith(suffix)]
    for part in found:
        _delete_if_left(part)


def tidy_folder(folder: Path) -> None:
    """Delete what dead writers of any file left in a folder and those below it."""
    for part in folder.rglob(".*.part*"):
        if part.is_file() and not part.is_symlink():
            _delete_if_left(part)


def _delete_if_left(part: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        handle = os.open(part, os.O_RDWR)
    except OSError:
        return  # finished or deleted meanwhile, or not ours
    try:
        if _hold(handle):
            part.unlink(missing_ok=True)
    except OSError:
        pass  # a folder that cannot be written, or a disk that knows no locks, keeps its rubbish
    finally:
        os.close(handle)


def _hold(handle: int) -> bool:
    """Whether nobody else holds the file, which is held from then on.

    Raises:
        OSError: the disk knows no locks.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
