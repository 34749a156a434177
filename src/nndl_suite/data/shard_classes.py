"""The classes of a set of shards: labels as numbers from 0, and what they are called."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from nndl_suite.data.arrays import MOST_CLASSES
from nndl_suite.data.shard_index import UNLABELLED, ShardIndex
from nndl_suite.errors import DataError
from nndl_suite.training.json_files import is_unicode

CLASS_NAMES = "classes.txt"
"""Beside the shards: one name a line, by label. Where it is missing the numbers are the names."""


def classes_of(
    name: str, indexes: Sequence[ShardIndex], file: Path
) -> tuple[Int64[Tensor, "n"] | None, tuple[str, ...]]:
    """The labels of all images in order, None where there are none, and the names of the classes.

    Args:
        name: Of the set, for messages.
        indexes: Of its shards.
        file: Lists the classes, where it exists.

    Raises:
        DataError: some images have no label and others do, or a label is none of the listed classes.
    """
    labels = torch.cat([index.labels for index in indexes])
    missing = int((labels == UNLABELLED).sum())
    if missing == len(labels):
        return None, ()
    if missing:
        raise DataError(
            f"{name}: {missing} of {len(labels)} images have no label (.cls or .json) and the others do; label all of "
            f"them or none"
        )
    listed = _listed(file)
    if any(index.words for index in indexes):
        numbers, names = _by_words(name, indexes, file, listed)
    else:
        numbers, names = _by_numbers(name, labels, file, listed)
    for one in names:
        if not is_unicode(one):
            raise DataError(f"{name}: the class {one!r} is not in UTF-8; write it so, in the shards or in {file.name}")
    return numbers, names


def _by_numbers(
    name: str, labels: Int64[Tensor, "n"], file: Path, listed: Sequence[str] | None
) -> tuple[Int64[Tensor, "n"], tuple[str, ...]]:
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or (listed is not None and most >= len(listed)):
        kept = f"in [0, {len(listed)}), as {file} names that many" if listed is not None else ">= 0"
        wrong = (labels < 0) | (labels >= (most + 1 if listed is None else len(listed)))
        first = int(wrong.int().argmax())
        raise DataError(
            f"{name}: labels must be {kept}, found {least} to {most}; the first is {int(labels[first])}, of image "
            f"{first} (from 0, in the order of the shards)"
        )
    if most >= MOST_CLASSES:
        raise DataError(
            f"{name}: labels must be below {MOST_CLASSES:,}, one for each class from 0 on, found {most}, of image "
            f"{int(labels.argmax())} (from 0, in the order of the shards); number the classes"
        )
    return labels, tuple(listed if listed is not None else map(str, range(most + 1)))


def _by_words(
    name: str, indexes: Sequence[ShardIndex], file: Path, listed: Sequence[str] | None
) -> tuple[Int64[Tensor, "n"], tuple[str, ...]]:
    spelt = [_spelt(index) for index in indexes]
    used = sorted({word for words, _ in spelt for word in words})
    names = used if listed is None else listed
    number = {word: i for i, word in enumerate(names)}
    unknown = [word for word in used if word not in number]
    if unknown:
        raise DataError(f"{name}: the label {unknown[0]!r} is not among the {len(names)} classes that {file} names")
    labels = [torch.tensor([number[word] for word in words], dtype=torch.int64)[which] for words, which in spelt]
    return torch.cat(labels), tuple(names)


def _spelt(index: ShardIndex) -> tuple[Sequence[str], Int64[Tensor, "n"]]:
    """The words that a shard's labels are, and which of them each image has; numbers are words too beside words."""
    if index.words:
        return index.words, index.labels
    numbers, which = index.labels.unique(return_inverse=True)
    return [str(number) for number in numbers.tolist()], which


def _listed(file: Path) -> list[str] | None:
    """The names of the classes that stand in a file, where there is one."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.is_file() else None
    except OSError as error:
        raise DataError(f"cannot read {file}, the names of the classes: {error.strerror or error}") from error
