"""WebDataset shards: tar files of images and their labels, read where they lie.

A sample is what stands together in a tar under one name up to the first dot of its file name: one image, and its label
in a `.cls` or `.json`. The tars are walked through once, from header to header; after that an image is a place in a
file, and any of them can be read in any order. Nothing is unpacked, so no member's name becomes a path.
"""

import glob
import hashlib
import json
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby, product
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from nndl_suite.data.folders import RESIDENT_BYTES, TEST_NAMES, default_size
from nndl_suite.data.image_set import ImageSet, ResidentImages, decode
from nndl_suite.data.splits import Split, own_split
from nndl_suite.errors import DataError
from nndl_suite.training.watch import Step, Watcher, ignore

SUFFIXES = ("jpg", "jpeg", "png", "webp")
"""Of the images in a shard."""
CLASS_NAMES = "classes.txt"
"""Beside the shards: one name a line, by label. Where it is missing the numbers are the names."""
_KEY_AND_SUFFIX = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+]+:")
_MOST_LABEL_BYTES = 2**20
_DECODE_CHUNK = 256
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class ShardImages:
    """Images in tar files, decoded on reading: shorter side resized to `image_size`, centre cropped."""

    shards: tuple[Path, ...]
    numbers: Int64[Tensor, "n"]
    """Which of the shards an image is in."""
    starts: Int64[Tensor, "n"]
    """Where in it the image file begins, bytes."""
    lengths: Int64[Tensor, "n"]
    image_size: int

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, indices: Int64[Tensor, "b"]) -> UInt8[Tensor, "b 3 h w"]:
        """The images at `indices`, in that order; each tar that holds some of them is opened once.

        Raises:
            DataError: a shard is gone or has changed, or an image is not readable.
        """
        pixels = torch.empty(len(indices), 3, self.image_size, self.image_size, dtype=torch.uint8)
        numbers = self.numbers[indices]
        for number in numbers.unique().tolist():
            places = (numbers == number).nonzero().squeeze(1)
            here = indices[places]
            starts, lengths = self.starts[here].tolist(), self.lengths[here].tolist()
            with _opened(self.shards[number]) as shard:
                for place, start, length in zip(places.tolist(), starts, lengths, strict=True):
                    pixels[place] = self._decoded(shard, self.shards[number], start, length)
        return pixels

    def select(self, indices: Int64[Tensor, "b"]) -> "ShardImages":
        """A store of only these images."""
        return replace(self, numbers=self.numbers[indices], starts=self.starts[indices], lengths=self.lengths[indices])

    def resident(self, watch: Watcher = ignore) -> ResidentImages:
        """All images decoded into memory, in threads (Pillow's decoders release the interpreter)."""
        pixels = torch.empty(len(self), 3, self.image_size, self.image_size, dtype=torch.uint8)
        done = 0
        with ThreadPoolExecutor() as pool:
            for chunk in torch.arange(len(self)).split(_DECODE_CHUNK):
                pixels[chunk] = torch.cat(list(pool.map(self.read, chunk.split(16))))
                done += len(chunk)
                watch(Step(stage="reading images", done=done, total=len(self)))
        return ResidentImages(pixels)

    def _decoded(self, shard: BinaryIO, path: Path, start: int, length: int) -> UInt8[Tensor, "3 h w"]:
        shard.seek(start)
        content = shard.read(length)
        if len(content) < length:
            raise DataError(f"{path} ends before an image that began in it: it has changed since it was opened")
        try:
            return decode(BytesIO(content), self.image_size)
        except DataError as error:
            raise DataError(f"{_member_at(path, start)} in {path}: {error}") from error


def read_shards(place: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """One split of WebDataset shards on this machine or a mounted disk.

    `place` is a tar, or many: numbers in braces (`images-{000..123}.tar`), a glob (`images-*.tar`), or a folder. The
    `train*.tar` and `test*.tar` (or `val*.tar`) of a folder are its splits where both exist; otherwise a fifth of each
    class is held out. Images are `image_size` pixels square, by default the first image's shorter side, at most 96.

    Raises:
        DataError: a shard is missing or damaged, or holds no images, or its labels are not as they must be.
    """
    if _URL.match(str(place)):
        raise DataError(
            f"wds: reads files on this machine or a mounted disk, and no URLs, got {place}; download the shards first"
        )
    name = f"wds:{place}"
    if place.is_dir():
        train, test = sorted(place.glob("train*.tar")), _test_shards(place)
        if train and test:
            return _read(name, test if split == "test" else train, image_size, watch)
    return own_split(_read(name, find_shards(place), image_size, watch), split)


def find_shards(place: Path) -> list[Path]:
    """The tars that a path, a glob, numbers in braces or a folder stand for.

    Raises:
        DataError: there are none, or some of the numbered ones are missing.
    """
    pattern = str(place / "*.tar") if place.is_dir() else str(place)
    named = [Path(path) for path in _expanded(pattern)]
    found = [path for one in named for path in ([one] if one.is_file() else sorted(map(Path, glob.glob(str(one)))))]
    if not found:
        raise DataError(f"there are no shards {pattern}; wds: wants tar files, as `nndl-suite data shard` writes them")
    missing = [one for one in named if not one.is_file() and not glob.has_magic(str(one))]
    if missing:
        raise DataError(f"{len(missing)} of {len(named)} shards are missing, the first is {missing[0]}")
    return found


def _expanded(pattern: str) -> Iterator[str]:
    """Every path that `{000..123}` and `{a,b}` stand for, in order."""
    parts = _BRACES.split(pattern)  # what stands in braces is at odd places
    yield from map("".join, product(*(_choices(part) if i % 2 else [part] for i, part in enumerate(parts))))


def _choices(braced: str) -> list[str]:
    numbers = _RANGE.fullmatch(braced)
    if numbers is None:
        return braced.split(",")
    first, last = numbers.groups()
    return [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]


def _test_shards(folder: Path) -> list[Path]:
    return next((found for name in TEST_NAMES if (found := sorted(folder.glob(f"{name}*.tar")))), [])


def _read(name: str, shards: Sequence[Path], image_size: int | None, watch: Watcher) -> ImageSet:
    numbers, starts, lengths = array("q"), array("q"), array("q")
    labels: list[int | str | None] = []
    digest = hashlib.blake2b(digest_size=16)
    for number, shard in enumerate(shards):
        digest.update(f"{shard.name}:".encode())
        for sample in _samples(shard):
            numbers.append(number)
            starts.append(sample.start)
            lengths.append(sample.length)
            labels.append(sample.label)
            digest.update(f"{sample.key}:{sample.length}:{sample.label};".encode())
        watch(Step(stage="looking through shards", done=number + 1, total=len(shards)))
    if not labels:
        raise DataError(
            f"no images in {len(shards)} shards of {name}; they are looked for as {', '.join(SUFFIXES)} files"
        )
    classes, names = _classes(name, labels, shards[0].parent / CLASS_NAMES)
    columns = [torch.frombuffer(column, dtype=torch.int64) for column in (numbers, starts, lengths)]
    store = ShardImages(tuple(shards), *columns, image_size=0)
    store = replace(store, image_size=image_size or _default_size(store))
    digest.update(f"{store.image_size}".encode())
    images = ImageSet(
        name=name,
        store=store,
        labels=None if classes is None else torch.tensor(classes),
        class_names=tuple(names),
        fingerprint=digest.hexdigest(),
    )
    if len(store) * 3 * store.image_size**2 > RESIDENT_BYTES:
        return images
    return replace(images, store=store.resident(watch))


def _default_size(store: ShardImages) -> int:
    shard, start, length = (int(column[0]) for column in (store.numbers, store.starts, store.lengths))
    with _opened(store.shards[shard]) as stream:
        stream.seek(start)
        try:
            return default_size(BytesIO(stream.read(length)))
        except DataError as error:
            raise DataError(f"{_member_at(store.shards[shard], start)} in {store.shards[shard]}: {error}") from error


def _classes(name: str, labels: Sequence[int | str | None], file: Path) -> tuple[list[int] | None, Sequence[str]]:
    """Labels as numbers, and what they are called."""
    told = [label for label in labels if label is not None]
    if not told:
        return None, ()
    if len(told) < len(labels):
        raise DataError(
            f"{name}: {len(labels) - len(told)} of {len(labels)} images have no label (.cls or .json) and the others "
            f"do; label all of them or none"
        )
    listed = _listed(file)
    numbers = [label for label in told if isinstance(label, int)]
    if len(numbers) == len(told):
        most = max(numbers)
        if min(numbers) < 0 or (listed is not None and most >= len(listed)):
            kept = f"in [0, {len(listed)}), as {file} names that many" if listed is not None else ">= 0"
            first = next(i for i, label in enumerate(numbers) if label < 0 or label >= len(listed or range(most + 1)))
            raise DataError(
                f"{name}: labels must be {kept}, found {min(numbers)} to {most}; the first is {numbers[first]}, of "
                f"image {first} (from 0, in the order of the shards)"
            )
        return numbers, listed if listed is not None else [str(i) for i in range(most + 1)]
    words = [str(label) for label in told]
    names = listed if listed is not None else sorted(set(words))
    number = {word: i for i, word in enumerate(names)}
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise DataError(f"{name}: the label {unknown[0]!r} is not among the {len(names)} classes that {file} names")
    return [number[word] for word in words], names


def _listed(file: Path) -> list[str] | None:
    """The names of the classes that stand in a file, where there is one."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.is_file() else None
    except OSError as error:
        raise DataError(f"cannot read {file}, the names of the classes: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    suffix: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Sample:
    key: str
    start: int
    length: int
    label: int | str | None


def _samples(shard: Path) -> Iterator[_Sample]:
    """The images of one tar in its order."""
    with _opened(shard) as stream:
        for key, group in groupby(_members(shard, stream), attrgetter("key")):
            members = list(group)
            images = [member for member in members if member.suffix in SUFFIXES]
            if len(images) > 1:
                raise DataError(f"{shard}: the sample {key} has {len(images)} images; keep one of them")
            for image in images:
                yield _Sample(key, image.start, image.length, _label(shard, stream, members))


def _members(shard: Path, stream: BinaryIO) -> Iterator[_Member]:
    """The files of a tar that have a key and a suffix; folders, links and the like are passed over."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - it would keep them all
                parts = _KEY_AND_SUFFIX.fullmatch(member.name)
                if member.isreg() and not member.issparse() and parts is not None:
                    yield _Member(parts[1], parts[2].lower(), member.offset_data, member.size)
            end = tar.offset
    except tarfile.TarError as error:
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
        content: object = json.loads(text) if member.suffix == "json" else text
    except (ValueError, RecursionError) as error:
        raise DataError(f"{told} is not readable: {error}") from error
    if isinstance(content, dict):
        content = content.get("label", content.get("cls"))
        if content is None:
            return None
    if isinstance(content, str) and content:
        return int(content) if re.fullmatch(r"-?[0-9]{1,18}", content) else content
    if isinstance(content, int) and not isinstance(content, bool):
        return content
    raise DataError(f"{told}: a label must be a whole number or a name, found {content!r}")


def _member_at(shard: Path, start: int) -> str:
    """The name of the file that begins at a byte of a tar, for a message."""
    with _opened(shard) as stream:
        return next(
            (f"{member.key}.{member.suffix}" for member in _members(shard, stream) if member.start == start),
            f"the file at byte {start}",
        )


def _opened(shard: Path) -> BinaryIO:
    try:
        return shard.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error.strerror or error}") from error
