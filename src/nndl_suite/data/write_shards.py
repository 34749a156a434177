"""Class folders, or a flat folder of images, as WebDataset shards."""

import math
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from nndl_suite.data.folders import files_by_class, split_folders
from nndl_suite.data.image_set import unreadable
from nndl_suite.data.open_image import UNREADABLE, open_image
from nndl_suite.data.shard_classes import CLASS_NAMES
from nndl_suite.data.shard_index import write_index
from nndl_suite.data.shards import UNFINISHED
from nndl_suite.data.tar_samples import SUFFIXES
from nndl_suite.errors import ConfigError, DataError, RunError
from nndl_suite.training.parts import new_part, tidy_folder
from nndl_suite.training.watch import Step, Watcher, ignore, within

_ALIVE = "writing"
_MIB = 2**20
_END = tarfile.RECORDSIZE
"""Bytes, at most, that a tar ends with."""
_TOLD_EVERY = 64
"""Images between two reports of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShards:
    """What a folder of images has become."""

    folder: Path
    """`wds:FOLDER` reads it."""
    shards: tuple[Path, ...]
    images: int
    classes: int
    """0 where the images have no labels."""


@dataclass(frozen=True, slots=True)
class _Labelled:
    file: Path
    label: int | None


def write_shards(
    folder: Path | str, out: Path | str, *, shard_mib: int = 256, watch: Watcher = ignore
) -> WrittenShards:
    """Write the images of a folder, in the order in which `folder:` reads them, into tars in a new or empty folder.

    Image files go in byte by byte; those of a kind that shards do not hold (bmp, tiff, ppm, gif) as PNG of the same
    pixels. `train` and `test` (or `val`) below the folder become shards of that name, and so the splits of `wds:OUT`.
    The shards appear in `out` when all are written, and not at all when that is interrupted; until then they are in a
    hidden folder in it, which only a killed process leaves behind.

    Args:
        folder: Class folders, or a flat folder of images.
        out: Where the shards go, with an index beside each, and `classes.txt` with the names of the classes.
        shard_mib: A shard has at most this many MiB, unless a single image has more.
        watch: Told of progress, in images.

    Raises:
        ConfigError: `shard_mib` is less than 1.
        DataError: the folder is missing or holds no images, or one of them is not readable.
        RunError: `out` is not empty or cannot be written.
    """
    folder, out = Path(folder), Path(out)
    if shard_mib < 1:
        raise ConfigError(f"shard_mib must be >= 1, got {shard_mib}")
    parts, class_names = _parts(folder)
    _check_empty(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _clear_dead(out)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=out))
        handle, _ = new_part(unfinished / _ALIVE)
        try:
            shards = _write(parts, unfinished, shard_mib * _MIB, watch)
            if class_names:
                lines = "".join(f"{name}\n" for name in class_names)
                (unfinished / CLASS_NAMES).write_text(lines, encoding="utf-8", errors="surrogateescape")
            _move(unfinished, out)
        finally:
            os.close(handle)
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise RunError(
            f"cannot write shards into {out}: {error.strerror or error}; free some space or choose another --out"
        ) from error
    return WrittenShards(
        folder=out,
        shards=tuple(out / name for name in shards),
        images=sum(len(images) for images in parts.values()),
        classes=len(class_names),
    )


def _clear_dead(out: Path) -> None:
    """Delete what killed writers of shards have left in hidden folders."""
    for left in out.glob(f"{UNFINISHED}*"):
        tidy_folder(left)
        if not any(left.glob(f".{_ALIVE}.*")):
            shutil.rmtree(left, ignore_errors=True)


def _move(unfinished: Path, out: Path) -> None:
    """All files, or none: while some are missing the hidden folder is there, and readers refuse the others."""
    moved: list[Path] = []
    try:
        for file in sorted(unfinished.glob("[!.]*")):
            moved.append(file.replace(out / file.name))
    except BaseException:
        for file in moved:
            file.unlink(missing_ok=True)
        raise


def _parts(folder: Path) -> tuple[dict[str, list[_Labelled]], list[str]]:
    """The images of each split, or of the one part without splits, and the names of all classes."""
    folders = split_folders(folder) or {"images": folder}
    found = {part: files_by_class(place) for part, place in folders.items()}
    class_names = sorted({name for by_class in found.values() for name in by_class if name is not None})
    broken = [name for name in class_names if len(name.splitlines()) != 1]
    if broken:
        raise DataError(f"the class folder {broken[0]!r} has a line break in its name; rename it")
    number: dict[str | None, int | None] = {name: i for i, name in enumerate(class_names)}
    parts = {
        part: [_Labelled(file, number.get(name)) for name, files in by_class.items() for file in files]
        for part, by_class in found.items()
    }
    return parts, class_names


def _check_empty(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; --out wants the name of a new folder")
    if not out.exists() or all(item.name.startswith(".") for item in out.iterdir()):
        return
    if any(out.glob(f"{UNFINISHED}*")):
        raise RunError(f"{out} holds part of a set whose writing was cut off; delete the folder, then write it again")
    raise RunError(f"{out} is not empty; choose a new folder for --out")


def _write(parts: dict[str, list[_Labelled]], folder: Path, most_bytes: int, watch: Watcher) -> list[str]:
    """Write every part; return the names of the shards in order."""
    written: list[str] = []
    for part, images in parts.items():
        shards, at = 0, 0
        while at < len(images):
            name = f"{part}-{shards:06d}.tar"
            with (folder / name).open("wb") as stream:
                at = _fill(stream, images, at, most_bytes, within(watch, part))
                stream.flush()
                os.fsync(stream.fileno())
            write_index(folder / name)
            written.append(name)
            shards += 1
    return written


def _fill(stream: BinaryIO, images: Sequence[_Labelled], at: int, most_bytes: int, watch: Watcher) -> int:
    """Write images from number `at` on into one tar until it is full; return the number of the first that is left."""
    with tarfile.open(fileobj=stream, mode="w") as tar:
        first = at
        while at < len(images):
            files = _sample(images[at], at)
            if at > first and tar.offset + sum(_bytes_in_tar(content) for _, content in files) + _END > most_bytes:
                break
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
            tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - it would keep them all
            at += 1
            if at % _TOLD_EVERY == 0 or at == len(images):
                watch(Step(stage="writing shards", done=at, total=len(images)))
    return at


def _sample(image: _Labelled, number: int) -> list[tuple[str, bytes]]:
    """Names and contents of an image's files: a number that keeps their order, and what the image was called."""
    key = f"{number:08d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', image.file.stem)[:60]}"
    suffix, content = _content(image.file)
    label = [] if image.label is None else [(f"{key}.cls", str(image.label).encode())]
    return [(f"{key}.{suffix}", content), *label]


def _content(file: Path) -> tuple[str, bytes]:
    """The suffix and the bytes under which an image goes into a shard."""
    suffix = file.suffix[1:].lower()
    try:
        content = file.read_bytes()
        with open_image(BytesIO(content)) as image:  # reads its head, and so finds what is no image
            if suffix in SUFFIXES:
                return suffix, content
            png = BytesIO()
            image.convert("RGB").save(png, "png")
            return "png", png.getvalue()
    except UNREADABLE as error:
        raise unreadable(file, error) from error


def _bytes_in_tar(content: bytes) -> int:
    return tarfile.BLOCKSIZE * (1 + math.ceil(len(content) / tarfile.BLOCKSIZE))
