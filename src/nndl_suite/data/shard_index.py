"""What is where in a shard: found by a walk through the tar, and kept in a small file beside it.

The file is taken only where the tar still has the size and the time of change that it had when the file was written;
otherwise the tar is walked through again. 20 bytes an image: where it begins, how long it is, its label.
"""

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from nndl_suite.data.tar_samples import samples
from nndl_suite.errors import DataError
from nndl_suite.training.array_files import load_npz
from nndl_suite.training.files import write_atomically
from nndl_suite.training.json_files import parse_json

INDEX_SUFFIX = ".index.npz"
"""Of the file beside a shard: `images-000000.tar` has `images-000000.tar.index.npz`."""
UNLABELLED = -(2**63)
"""Stands for the label of an image that has none; labels have at most 18 digits."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The images of one shard, in its order."""

    starts: Int64[Tensor, "n"]
    """Where in the tar an image file begins, bytes."""
    lengths: Int32[Tensor, "n"]
    labels: Int64[Tensor, "n"]
    """The label's number, or its place in `words` where there are some, or `UNLABELLED`."""
    words: tuple[str, ...]
    """Sorted; empty where labels are numbers."""
    digest: str
    """Of names, lengths and labels, not of pixels."""


def shard_index(shard: Path) -> ShardIndex:
    """The index kept beside a shard where it fits, else a fresh one.

    Raises:
        DataError: the tar is gone or not whole, or a sample in it is not as it must be.
    """
    return _kept_index(shard) or walk(shard)


def walk(shard: Path) -> ShardIndex:
    """The index of a shard from one walk through its headers.

    Raises:
        DataError: as `shard_index`.
    """
    starts, lengths = array("q"), array("i")
    told: list[int | str | None] = []
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples(shard):
        starts.append(sample.start)
        lengths.append(sample.length)
        told.append(sample.label)
        digest.update(f"{sample.key}:{sample.length}:{sample.label};".encode(errors="surrogateescape"))
    named = any(isinstance(label, str) for label in told)
    words = sorted({str(label) for label in told if label is not None}) if named else []
    number = {word: i for i, word in enumerate(words)}
    labels = [UNLABELLED if label is None else number[str(label)] if named else label for label in told]
    return ShardIndex(
        starts=torch.from_numpy(np.array(starts, dtype=np.int64)),
        lengths=torch.from_numpy(np.array(lengths, dtype=np.int32)),
        labels=torch.from_numpy(np.array(labels, dtype=np.int64)),
        words=tuple(words),
        digest=digest.hexdigest(),
    )


def write_index(shard: Path) -> ShardIndex:
    """Walk through a shard and keep its index beside it.

    Raises:
        DataError: as `shard_index`.
        RunError: the folder cannot be written in.
    """
    state = _state(shard)  # before the walk: a shard that changes meanwhile must not fit
    index = walk(shard)
    about = {"version": _VERSION, "tar": state, "words": index.words, "digest": index.digest}
    write_atomically(index_file(shard), lambda part: _save(part, index, json.dumps(about)))
    return index


def index_file(shard: Path) -> Path:
    """Where the index of a shard is kept."""
    return shard.with_name(shard.name + INDEX_SUFFIX)


def _save(part: Path, index: ShardIndex, about: str) -> None:
    starts, lengths, labels = index.starts.numpy(), index.lengths.numpy(), index.labels.numpy()
    with part.open("wb") as stream:  # a stream, as numpy would add its suffix to a name
        np.savez(stream, about=np.array(about), starts=starts, lengths=lengths, labels=labels)


def _kept_index(shard: Path) -> ShardIndex | None:
    """The index beside a shard; None where there is none, it is not of this shard as it is now, or is damaged."""
    file = index_file(shard)
    return read_index(file, _state(shard)) if file.is_file() else None


def read_index(file: Path, state: Sequence[int]) -> ShardIndex | None:
    """What an index file says; None where it is damaged, or its tar's state did not begin with `state`.

    The state is a tar's bytes and time of change; of a tar that lies elsewhere the bytes alone are known.
    """
    try:
        content = load_npz(file)  # a zip, whose checksums tell damage
        about: Any = parse_json(str(content["about"]))
        if about["version"] != _VERSION or about["tar"][: len(state)] != list(state):
            return None
        starts, lengths, labels = (content[name] for name in ("starts", "lengths", "labels"))
        words, digest, size = tuple(map(str, about["words"])), str(about["digest"]), int(about["tar"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if (starts.dtype, lengths.dtype, labels.dtype) != (np.int64, np.int32, np.int64):
        return None
    if not starts.shape == lengths.shape == labels.shape == (len(starts),):
        return None
    if (starts < 0).any() or (lengths < 0).any() or (starts > size - lengths).any():
        return None
    if words and not ((labels == UNLABELLED) | ((labels >= 0) & (labels < len(words)))).all():
        return None
    return ShardIndex(*map(torch.from_numpy, (starts, lengths, labels)), words=words, digest=digest)


def _state(shard: Path) -> list[int]:
    """What a tar has to keep so that its index fits: bytes, and nanoseconds of its last change."""
    try:
        found = shard.stat()
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error.strerror or error}") from error
    return [found.st_size, found.st_mtime_ns]
