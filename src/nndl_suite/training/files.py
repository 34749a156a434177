"""Writing files so that a reader sees the old content or the new one, never half of it."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from nndl_suite.errors import RunError
from nndl_suite.training.json_files import Json, check_finite, load_json
from nndl_suite.training.parts import new_part, tidy


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it to `path`.

    What a writer of the same file that was killed has left beside it is deleted.

    Raises:
        RunError: the disk is full or the folder cannot be written; nothing of the new content is left behind.
    """
    handle, part = -1, None
    try:
        tidy(path)
        handle, part = new_part(path)
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        if os.name == "nt":  # where an open file cannot be renamed
            os.close(handle)
            handle = -1
        part.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another --out"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut (POSIX only: Windows has no handle on a folder)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: Json) -> None:
    """Write `content` as indented JSON, atomically; NaN and infinity are refused, JSON has no word for them."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Json]:
    """The object in a JSON file.

    Raises:
        RunError: the file is missing, is not JSON, holds something other than an object, or a NaN or infinity.
    """
    try:
        content = load_json(path)
        check_finite(content)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content


def append_line(file: Path, line: str) -> None:
    """Append one line. Behind one that was cut short, by a full disk say, it begins anew, and is not lost with it."""
    with file.open("ab+") as lines:
        if lines.tell() > 0:
            lines.seek(-1, os.SEEK_END)
            if lines.read(1) != b"\n":
                lines.write(b"\n")
        lines.write(line.encode() + b"\n")


def check_place(file: Path) -> None:
    """Refuse a place where no file can be written, before the work that would be lost; its folder is made.

    Raises:
        RunError: the name is a folder's, or its folder cannot be made or written in.
    """
    if file.is_dir():
        raise RunError(f"{file} is a folder; give the name of a file in it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise RunError(f"cannot write in {file.parent}: {error.strerror or error}; choose another place") from error
