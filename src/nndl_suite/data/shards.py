"""WebDataset shards: tar files of images and their labels, read where they lie.

A sample is what stands together in a tar under one name up to the first dot of its file name: one image, and its label
in a `.cls` or `.json`. Each tar is walked through once, from header to header, or comes with an index of what is where
(`shard_index.py`); after that an image is a place in a file, and any of them can be read in any order.
"""

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch
from jaxtyping import Int32, Int64, UInt8
from torch import Tensor

from nndl_suite.data.folders import RESIDENT_BYTES, TEST_NAMES, default_size
from nndl_suite.data.image_set import ImageSet, ResidentImages, decode
from nndl_suite.data.shard_classes import CLASS_NAMES, classes_of
from nndl_suite.data.shard_index import INDEX_SUFFIX, ShardIndex, shard_index, write_index
from nndl_suite.data.splits import Split, own_split
from nndl_suite.data.tar_samples import SUFFIXES, member_at, opened
from nndl_suite.errors import DataError
from nndl_suite.training.watch import Step, Watcher, ignore

UNFINISHED = ".unfinished."
"""So begins the name of the hidden folder in which shards are written."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_DECODE_CHUNK = 256
_MOST_NUMBERED = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShardImages:
    """Images in tar files, decoded on reading: shorter side resized to `image_size`, centre cropped."""

    shards: tuple[Path, ...]
    numbers: Int32[Tensor, "n"]
    """Which of the shards an image is in."""
    starts: Int64[Tensor, "n"]
    """Where in it the image file begins, bytes."""
    lengths: Int32[Tensor, "n"]
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
            with opened(self.shards[number]) as shard:
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
            raise DataError(f"{member_at(path, start)} in {path}: {error}") from error


def read_shards(place: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """One split of WebDataset shards on this machine or a mounted disk.

    `place` is a tar, or many: numbers in braces (`images-{000..123}.tar`), a glob (`images-*.tar`), or a folder. The
    `train*.tar` and `test*.tar` (or `val*.tar`) of a folder are its splits where both exist; otherwise a fifth of each
    class is held out. Images are `image_size` pixels square, by default the first image's shorter side, at most 96.

    Raises:
        DataError: a shard is missing or damaged, or holds no images, or its labels are not as they must be.
    """
    tars, has_splits = find_shards(place), False
    if place.is_dir():
        tars, has_splits = of_split(tars, [tar.name for tar in tars], split)
    images = read_tars(f"wds:{place}", tars, tars[0].parent / CLASS_NAMES, image_size, watch)
    return images if has_splits else own_split(images, split)


def of_split(tars: list[T], names: Sequence[str], split: Split) -> tuple[list[T], bool]:
    """Those of a folder's tars that are of a split by their names, and whether there are splits; else all of them."""
    parts = {part: [t for t, name in zip(tars, names, strict=True) if name.startswith(part)] for part in TEST_NAMES}
    train = [t for t, name in zip(tars, names, strict=True) if name.startswith("train")]
    test = next((part for part in parts.values() if part), [])
    if not train or not test:
        return tars, False
    return (test if split == "test" else train), True


def index_shards(place: Path, watch: Watcher = ignore) -> int:
    """Keep an index beside each of the shards that `place` stands for, as `write_shards` does; return the images.

    Raises:
        DataError: as `read_shards`.
        RunError: a folder cannot be written in.
    """
    shards, images = find_shards(place), 0
    for number, shard in enumerate(shards):
        images += len(write_index(shard).starts)
        watch(Step(stage="indexing shards", done=number + 1, total=len(shards)))
    return images


def find_shards(place: Path) -> list[Path]:
    """The tars that a path, a glob, numbers in braces or a folder stand for.

    Raises:
        DataError: there are none, or some of the numbered ones are missing.
    """
    pattern = str(place / "*.tar") if place.is_dir() else str(place)
    named = [Path(path) for path in expanded(pattern)]
    found = [path for one in named for path in ([one] if one.is_file() else _globbed(one))]
    if not found:
        raise DataError(f"there are no shards {pattern}; wds: wants tar files, as `nndl-suite data shard` writes them")
    if place.is_dir() and any(place.glob(f"{UNFINISHED}*")):
        raise DataError(f"{place} holds part of a set whose writing was cut off; delete it, then write it again")
    missing = [one for one in named if not one.is_file() and not glob.has_magic(str(one))]
    if missing:
        raise DataError(f"{len(missing)} of {len(named)} shards are missing, the first is {missing[0]}")
    return found


def _globbed(pattern: Path) -> list[Path]:
    return sorted(Path(path) for path in glob.glob(str(pattern)) if not path.endswith(INDEX_SUFFIX))


def expanded(pattern: str) -> Iterator[str]:
    """Every path that `{000..123}` and `{a,b}` stand for, in order."""
    parts = _BRACES.split(pattern)  # what stands in braces is at odd places
    yield from map("".join, product(*(_choices(part) if i % 2 else [part] for i, part in enumerate(parts))))


def _choices(braced: str) -> list[str]:
    numbers = _RANGE.fullmatch(braced)
    if numbers is None:
        return braced.split(",")
    first, last = numbers.groups()
    if int(last) - int(first) >= _MOST_NUMBERED:
        raise DataError(f"{{{braced}}} stands for more than {_MOST_NUMBERED:,} shards; are there as many?")
    return [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]


def read_tars(name: str, shards: Sequence[Path], classes: Path, image_size: int | None, watch: Watcher) -> ImageSet:
    """All images of some tars; `classes` is the file that names the classes, where it exists.

    Raises:
        DataError: as `read_shards`.
    """
    indexes: list[ShardIndex] = []
    for number, shard in enumerate(shards):
        indexes.append(shard_index(shard))
        watch(Step(stage="looking through shards", done=number + 1, total=len(shards)))
    images = set_of(name, shards, indexes, classes, image_size)
    store = images.store
    assert isinstance(store, ShardImages)
    if len(store) * 3 * store.image_size**2 > RESIDENT_BYTES:
        return images
    return replace(images, store=store.resident(watch))


def set_of(
    name: str, shards: Sequence[Path], indexes: Sequence[ShardIndex], classes: Path, image_size: int | None
) -> ImageSet:
    """The set that the indexes of some tars describe, nothing decoded; of the tars, the first with an image is opened.

    Raises:
        DataError: as `read_shards`.
    """
    counts = torch.tensor([len(index.starts) for index in indexes])
    if not counts.any():
        raise DataError(
            f"no images in {len(shards)} shards of {name}; they are looked for as {', '.join(SUFFIXES)} files"
        )
    labels, class_names = classes_of(name, indexes, classes)
    store = ShardImages(
        shards=tuple(shards),
        numbers=torch.arange(len(shards), dtype=torch.int32).repeat_interleave(counts),
        starts=torch.cat([index.starts for index in indexes]),
        lengths=torch.cat([index.lengths for index in indexes]),
        image_size=0,
    )
    store = replace(store, image_size=image_size or _default_size(store))
    what = "".join(f"{index.digest};" for index in indexes)  # not the tars' names: it is the same set wherever it lies
    return ImageSet(
        name=name,
        store=store,
        labels=labels,
        class_names=class_names,
        fingerprint=hashlib.blake2b(f"{what}{store.image_size}".encode(), digest_size=16).hexdigest(),
    )


def _default_size(store: ShardImages) -> int:
    shard, start, length = (int(column[0]) for column in (store.numbers, store.starts, store.lengths))
    with opened(store.shards[shard]) as stream:
        stream.seek(start)
        try:
            return default_size(BytesIO(stream.read(length)))
        except DataError as error:
            raise DataError(f"{member_at(store.shards[shard], start)} in {store.shards[shard]}: {error}") from error
