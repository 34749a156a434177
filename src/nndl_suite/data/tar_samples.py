"""The samples of a tar, found from header to header without unpacking, so that no member's name becomes a path."""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from nndl_suite.errors import DataError
from nndl_suite.training.json_files import parse_json

SUFFIXES = ("jpg", "jpeg", "png", "webp")
"""Of the images in a shard."""
_KEY_AND_SUFFIX = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_MOST_LABEL_BYTES = 2**20
_MOST_IMAGE_BYTES = 2**31 - 1
_LARGEST_LABEL = 10**18
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a tar."""

    key: str
    start: int
    """Where its file begins, bytes from the tar's first."""
    length: int
    label: int | str | None


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    suffix: str
    start: int
    length: int


def samples(shard: Path) -> Iterator[Sample]:
    """The images of one tar in its order.

    Raises:
        DataError: the tar is not whole, or a sample in it is not as it must be.
    """
    with opened(shard) as stream:
        for key, group in groupby(_members(shard, stream), attrgetter("key")):
            members = list(group)
            images = [member for member in members if member.suffix in SUFFIXES]
            if len(images) > 1:
                raise DataError(f"{shard}: the sample {key} has {len(images)} images; keep one of them")
            for image in images:
                if image.length > _MOST_IMAGE_BYTES:
                    raise DataError(f"{shard}: {key}.{image.suffix} has {image.length} bytes, too many for an image")
                yield Sample(key, image.start, image.length, _label(shard, stream, members))


def member_at(shard: Path, start: int) -> str:
    """The name of the file that begins at a byte of a tar, for a message."""
    with opened(shard) as stream:
        return next(
            (f"{member.key}.{member.suffix}" for member in _members(shard, stream) if member.start == start),
            f"the file at byte {start}",
        )


def opened(shard: Path) -> BinaryIO:
    """A tar to be read.

    Raises:
        DataError: it cannot be.
    """
    try:
        return shard.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error.strerror or error}") from error


def _members(shard: Path, stream: BinaryIO) -> Iterator[_Member]:
    """The files of a tar that have a key and a suffix; folders, links and the like are passed over."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            at = -1
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - it would keep them all
                if member.size < 0 or tar.offset <= at:  # and so on in a circle
                    raise tarfile.ReadError(f"{member.name!r} has {member.size} bytes")
                at = tar.offset
                parts = _KEY_AND_SUFFIX.fullmatch(member.name)
                if member.isreg() and not member.issparse() and parts is not None:
                    yield _Member(parts[1], parts[2].lower(), member.offset_data, member.size)
            end = tar.offset
    except (tarfile.TarError, ArithmeticError, LookupError, MemoryError, OSError, RecursionError, ValueError) as error:
        raise DataError(
            f"{shard} is not a whole uncompressed tar ({error}); copy it again, and unpack a .tar.gz to .tar first"
        ) from error
    stream.seek(end)
    if stream.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes a broken header for the end
        raise DataError(
            f"{shard} breaks off at byte {end}, where the next file or the end mark should be; copy it again"
        )


def _label(shard: Path, stream: BinaryIO, members: Sequence[_Member]) -> int | str | None:
    """What `.cls` says, else `label` or `cls` in `.json`; None where nothing does."""
    by_suffix = {member.suffix: member for member in members}
    member = by_suffix.get("cls") or by_suffix.get("json")
    if member is None:
        return None
    told = f"{shard}: {member.key}.{member.suffix}"
    if member.length > _MOST_LABEL_BYTES:
        raise DataError(f"{told} has {member.length} bytes, too many for a label")
    stream.seek(member.start)
    try:
        text = stream.read(member.length).decode("utf-8").strip()
        content: object = parse_json(text) if member.suffix == "json" else text
    except ValueError as error:
        raise DataError(f"{told} is not readable: {error}") from error
    if isinstance(content, dict):
        content = content.get("label", content.get("cls"))
        if content is None:
            return None
    if isinstance(content, str) and content:
        return int(content) if re.fullmatch(r"-?[0-9]{1,18}", content) else content
    if isinstance(content, int) and not isinstance(content, bool) and abs(content) < _LARGEST_LABEL:
        return content
    raise DataError(f"{told}: a label must be a whole number (of at most 18 digits) or a name, found {content!r}")
