"""Image sets in NumPy archives: `images` uint8 [n, h, w, 3], `labels` int [n], optional `class_names`."""

from pathlib import Path

import numpy as np
import torch

from nndl_suite.data.image_set import ImageSet, check_shape, fit_square, resident_set
from nndl_suite.data.splits import Split, own_split
from nndl_suite.errors import DataError
from nndl_suite.training.array_files import load_npz
from nndl_suite.training.watch import Watcher

MOST_CLASSES = 1_000_000
"""Labels beyond are no numbers of classes: identities, or slips."""


def read_arrays(file: Path, split: Split, image_size: int | None, _watch: Watcher) -> ImageSet:
    """One split of `NAME.npz`, or of its pair `NAME-train.npz` and `NAME-test.npz`.

    Raises:
        DataError: the file is missing, or its arrays are not as they must be.
    """
    if file.exists():
        return own_split(read_archive(file, image_size), split)
    pair = {part: file.with_name(f"{file.stem}-{part}.npz") for part in ("train", "test")}
    if not all(half.exists() for half in pair.values()):
        raise DataError(
            f"no {file}, nor the pair {pair['train'].name} and {pair['test'].name} in {file.parent.resolve()}"
        )
    return read_archive(pair["test" if split == "test" else "train"], image_size)


def read_archive(file: Path, image_size: int | None) -> ImageSet:
    """All of one archive.

    Raises:
        DataError: the archive is damaged, or its arrays are not as they must be.
    """
    try:
        arrays = load_npz(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not a readable .npz archive ({error}); arrays of objects are not read") from error
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.size == 0:
        found = "none" if images is None else f"{images.dtype} {list(images.shape)}"
        raise DataError(f"{file}: images must be uint8 [n, h, w, 3] with n >= 1, found {found}")
    try:
        check_shape((images.shape[2], images.shape[1]))
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error
    if labels is not None and (labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise DataError(f"{file}: labels must be integers [{len(images)}], found {labels.dtype} {list(labels.shape)}")
    if labels is not None and labels.min() < 0:
        row = int((labels < 0).argmax())
        raise DataError(f"{file}: labels must be >= 0, found {labels[row]} in row {row}; mend or remove that row")
    names = _class_names(file, labels, arrays.get("class_names"))
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return resident_set(
        f"arrays:{file}",
        fit_square(pixels, image_size or min(pixels.shape[-2:])),
        None if labels is None else torch.from_numpy(labels.astype(np.int64)),
        names,
    )


def _class_names(file: Path, labels: np.ndarray | None, names: np.ndarray | None) -> list[str]:
    if labels is None:
        return []
    needed = int(labels.max()) + 1
    if needed > MOST_CLASSES:
        row = int(labels.argmax())
        raise DataError(
            f"{file}: labels must be below {MOST_CLASSES:,}, one for each class from 0 on, found {labels[row]} in row "
            f"{row}; number the classes"
        )
    if names is None:
        return [str(i) for i in range(needed)]
    if names.ndim != 1:
        raise DataError(f"{file}: class_names must name all {needed} classes in one row, found {list(names.shape)}")
    if len(names) < needed:
        row = int((labels >= len(names)).argmax())
        raise DataError(
            f"{file}: labels must be in [0, {len(names)}), as class_names names that many, found {labels[row]} in row "
            f"{row}; mend the label, or name all {needed} classes"
        )
    return [str(name) for name in names]
