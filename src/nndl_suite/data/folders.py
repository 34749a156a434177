"""Image sets in folders: one folder per class, or a flat folder of unlabelled images."""

from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import torch

from nndl_suite.data.image_set import FileImages, ImageSet, check_shape, file_set, unreadable
from nndl_suite.data.open_image import UNREADABLE, open_image
from nndl_suite.data.splits import Split, own_split
from nndl_suite.errors import DataError
from nndl_suite.training.watch import Watcher

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif"})
LARGEST_DEFAULT = 96
"""Pixels; photos are far larger than what a small backbone is trained on."""
RESIDENT_BYTES = 2 * 1024**3
"""Sets up to this size are decoded once and kept; larger ones are decoded as they are used."""
TEST_NAMES = ("test", "val", "valid", "validation")


def read_folder(folder: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """One split of a folder of images.

    `folder/train` and `folder/test` (or `val`) are its splits where both exist; otherwise a fifth of each class is
    held out. Images are `image_size` pixels square, by default the first image's shorter side, at most 96.

    Raises:
        DataError: the folder is missing or holds no images.
    """
    splits = split_folders(folder)
    if splits is not None:
        return read_labelled(f"folder:{folder}", splits["test" if split == "test" else "train"], image_size, watch)
    return own_split(read_labelled(f"folder:{folder}", folder, image_size, watch), split)


def split_folders(folder: Path) -> dict[str, Path] | None:
    """Its `train` and `test` (or `val`), where both exist, by the names "train" and "test".

    Raises:
        DataError: the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder.resolve()} is not a folder; give class folders or a folder of images")
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    return None if test is None or not (folder / "train").is_dir() else {"train": folder / "train", "test": test}


def read_labelled(name: str, folder: Path, image_size: int | None, watch: Watcher) -> ImageSet:
    """All images of a folder; its subfolders that hold images are the classes.

    Raises:
        DataError: there are no images.
    """
    by_class = files_by_class(folder)
    files = [file for found in by_class.values() for file in found]
    class_names = [label for label in by_class if label is not None]
    counts = torch.tensor([len(found) for found in by_class.values()])
    labels = torch.arange(len(by_class)).repeat_interleave(counts) if class_names else None
    return keep_or_stream(name, files, labels, class_names, image_size, watch)


def files_by_class(folder: Path) -> dict[str | None, list[Path]]:
    """The image files of each subfolder that holds some, sorted; of a flat folder all under None.

    Raises:
        DataError: there are no images.
    """
    try:
        below = {sub.name: images_below(sub) for sub in sorted(folder.iterdir()) if sub.is_dir()}
        by_class: dict[str | None, list[Path]] = {label: files for label, files in below.items() if files}
        if not by_class:
            by_class = {None: [file for file in sorted(folder.iterdir()) if is_image(file)]}
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error}") from error
    if not any(by_class.values()):
        raise DataError(f"no images in {folder.resolve()} ({', '.join(sorted(_SUFFIXES))}), nor in its subfolders")
    _check_names(file for files in by_class.values() for file in files)
    return by_class


def _check_names(files: Iterable[Path]) -> None:
    """Refuse names that no report could hold, before the hours of training that it would report on.

    Raises:
        DataError: a name is not Unicode.
    """
    for file in files:
        name = str(file)
        try:
            name.encode()
        except UnicodeEncodeError as error:
            told = name.encode(errors="replace").decode()
            raise DataError(f"the name of {told} is not valid Unicode; rename the file or its folder") from error


def keep_or_stream(
    name: str,
    files: list[Path],
    labels: torch.Tensor | None,
    class_names: list[str],
    image_size: int | None,
    watch: Watcher,
) -> ImageSet:
    """A set of image files: decoded into memory where it fits, else decoded as it is used."""
    store = FileImages(tuple(files), image_size or default_size(files[0]))
    images = file_set(name, store, labels, class_names)
    if len(files) * 3 * store.image_size**2 > RESIDENT_BYTES:
        return images
    return replace(images, store=store.resident(watch))


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and all its subfolders, sorted by path."""
    return sorted(file for file in folder.rglob("*") if is_image(file))


def is_image(file: Path) -> bool:
    """Whether a file looks like an image by its name."""
    return file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()


def default_size(source: Path | BytesIO) -> int:
    """Pixels to which images are brought unless told otherwise: this one's shorter side, at most 96.

    Raises:
        DataError: it is not a readable image.
    """
    try:
        with open_image(source) as image:
            check_shape(image.size)
            return min(LARGEST_DEFAULT, *image.size)
    except UNREADABLE as error:
        raise unreadable(source, error) from error
