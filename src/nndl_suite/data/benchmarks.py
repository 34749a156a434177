"""The public benchmark sets, from the data root or by torchvision's own download and checksum."""

import tempfile
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from nndl_suite.data.arrays import read_arrays
from nndl_suite.data.folders import keep_or_stream
from nndl_suite.data.image_set import ImageSet, fit_square, resident_set
from nndl_suite.data.splits import Split
from nndl_suite.errors import DataError
from nndl_suite.training.watch import Watcher

_TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

T = TypeVar("T")


def read_cifar10(root: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """CIFAR-10: `cifar10-{train,test}.npz` in the root, else torchvision's `cifar-10-batches-py`, else downloaded."""
    return _read_cifar("cifar10", datasets.CIFAR10, root, split, image_size, watch)


def read_cifar100(root: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """CIFAR-100: `cifar100-{train,test}.npz` in the root, else torchvision's `cifar-100-python`, else downloaded."""
    return _read_cifar("cifar100", datasets.CIFAR100, root, split, image_size, watch)


def _read_cifar(
    name: str, source: type[datasets.CIFAR10], root: Path, split: Split, image_size: int | None, watch: Watcher
) -> ImageSet:
    if (root / f"{name}-train.npz").exists():
        return replace(read_arrays(root / f"{name}.npz", split, image_size, watch), name=name)
    expected = f"{source.base_folder}/ or {name}-train.npz and {name}-test.npz"
    found = _there_or_downloaded(
        name, root, expected, lambda download: source(str(root), split != "test", download=download)
    )
    pixels = torch.from_numpy(np.ascontiguousarray(found.data.transpose(0, 3, 1, 2)))
    return resident_set(name, fit_square(pixels, image_size or 32), torch.tensor(found.targets), found.classes)


def read_stl10(root: Path, split: Split, image_size: int | None, _watch: Watcher) -> ImageSet:
    """STL-10, 96 pixels: 5,000 training, 8,000 test and 100,000 unlabelled images; pretraining takes the last."""
    theirs = "unlabeled" if split == "unlabelled" else split
    found = _there_or_downloaded(
        "stl10", root, "stl10_binary/", lambda download: datasets.STL10(str(root), theirs, download=download)
    )
    pixels = fit_square(torch.from_numpy(np.ascontiguousarray(found.data)), image_size or 96)
    labels = None if split == "unlabelled" else torch.from_numpy(np.asarray(found.labels, dtype=np.int64))
    return resident_set("stl10", pixels, labels, found.classes)


def read_tiny_imagenet(root: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """Tiny ImageNet, 64 pixels, 200 classes; its labelled validation split is the test split, as is usual."""
    folder = root / "tiny-imagenet-200"
    _there_or_downloaded("tiny-imagenet", root, "tiny-imagenet-200/", lambda download: _tiny_folder(folder, download))
    class_names = sorted(sub.name for sub in (folder / "train").iterdir() if sub.is_dir())
    number = {name: i for i, name in enumerate(class_names)}
    if split == "test":
        rows = _annotations(folder / "val" / "val_annotations.txt", number)
        files = [folder / "val" / "images" / file for file, _ in rows]
        labels = [number[wnid] for _, wnid in rows]
    else:
        files = sorted((folder / "train").glob("*/images/*.JPEG"))
        labels = [number[file.parent.parent.name] for file in files]
    return keep_or_stream("tiny-imagenet", files, torch.tensor(labels), class_names, image_size or 64, watch)


def _annotations(file: Path, known: Container[str]) -> list[tuple[str, str]]:
    """Names of images, each with its class's.

    Raises:
        DataError: a line says something else.
    """
    rows: list[tuple[str, str]] = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    for place, line in enumerate(lines, start=1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if line and (name != Path(name).name or wnid not in known):
            raise DataError(f"{file}, line {place}: expected an image's name and its class's, got {line[:80]!r}")
        if line:
            rows.append((name, wnid))
    if not rows:
        raise DataError(f"{file} names no image; put the whole set there")
    return rows


def _tiny_folder(folder: Path, download: bool) -> Path:  # noqa: FBT001 - torchvision's own manner
    if download:
        if folder.exists():
            raise RuntimeError(f"{folder} is there but not whole; delete it")
        # unpacked aside and then renamed: a folder that was left half unpacked would be taken for the set
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tiny-imagenet-") as part:
            download_and_extract_archive(_TINY_IMAGENET, str(folder.parent), part, md5=_TINY_IMAGENET_MD5)
            (Path(part) / folder.name).replace(folder)
    if not (folder / "train").is_dir() or not (folder / "val" / "val_annotations.txt").is_file():
        raise RuntimeError("not found")
    return folder


def _there_or_downloaded(name: str, root: Path, expected: str, read: Callable[[bool], T]) -> T:
    """What `read(False)` finds in the root, else what `read(True)` downloads; both verify torchvision's checksums."""
    try:
        return read(False)  # noqa: FBT003
    except (RuntimeError, OSError):
        pass  # torchvision's word for "not found or corrupted"
    try:
        root.mkdir(parents=True, exist_ok=True)
        return read(True)  # noqa: FBT003
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{name} is not in {root.resolve()} (looked for {expected}) and could not be downloaded ({error}); "
            f"put it there, or name another folder with --data-root or NNDL_SUITE_DATA"
        ) from error
