"""The one way to an image set: by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from nndl_suite.data.arrays import read_arrays
from nndl_suite.data.benchmarks import read_cifar10, read_cifar100, read_stl10, read_tiny_imagenet
from nndl_suite.data.demo_images import demo_images
from nndl_suite.data.folders import read_folder
from nndl_suite.data.image_set import ImageSet, fit_square, resident_set
from nndl_suite.data.remote_shards import is_url, read_remote_shards
from nndl_suite.data.shards import read_shards
from nndl_suite.data.splits import Split
from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.training.watch import Watcher, ignore

_Reader = Callable[[Path, Split, int | None, Watcher], ImageSet]

_NAMED: dict[str, _Reader] = {
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "stl10": read_stl10,
    "tiny-imagenet": read_tiny_imagenet,
    "demo": lambda _root, split, size, _watch: _demo(split, size),
}
_PREFIXED: dict[str, _Reader] = {"folder": read_folder, "arrays": read_arrays, "wds": read_shards}


def load_image_set(
    name: str,
    split: Split,
    *,
    data_root: Path | str | None = None,
    image_size: int | None = None,
    watch: Watcher = ignore,
) -> ImageSet:
    """An image set by its data name.

    Args:
        name: `cifar10`, `cifar100`, `stl10`, `tiny-imagenet`, `demo`, `folder:PATH`, `arrays:FILE.npz` or
            `wds:PATH-{000..123}.tar`, PATH on this machine or a URL (`https://…`, `s3://…`).
        split: "train", "test", or "unlabelled" for pretraining: the set's own unlabelled images where it has any,
            else its training images with the labels forgotten. Test images are in neither.
        data_root: Where named sets lie; else `NNDL_SUITE_DATA`, else the user's cache. A set that is not there is
            downloaded to it.
        image_size: Resize (shorter side) and centre crop to this many pixels; None keeps the set's own size.
        watch: Told of long reading.

    Raises:
        ConfigError: no such name, or a URL that holds a secret.
        DataError: the set is missing and cannot be downloaded, or a file of it is unusable.
    """
    if split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))
    if image_size is not None and image_size < 8:
        raise ConfigError(f"image_size must be >= 8 pixels, got {image_size}")
    found = _load(name, split, data_root, image_size, watch)
    return found.without_labels() if split == "unlabelled" else found


def load_pretraining_set(name: str, *, data_root: Path | str | None = None, watch: Watcher = ignore) -> ImageSet:
    """As the split "unlabelled" of `load_image_set`, with their labels where the images have some.

    They are for reports on what is learned, not for learning.
    """
    return _load(name, "unlabelled", data_root, None, watch)


def default_data_root(data_root: Path | str | None) -> Path:
    """The folder of the named sets: the one given, else `NNDL_SUITE_DATA`, else the user's cache."""
    if data_root is not None:
        return Path(data_root).expanduser()
    if from_environment := os.environ.get("NNDL_SUITE_DATA"):
        return Path(from_environment).expanduser()
    return user_cache()


def user_cache() -> Path:
    """Where this package keeps what can be made again: `$XDG_CACHE_HOME/nndl-suite`, else `~/.cache/nndl-suite`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nndl-suite"


def _load(name: str, split: Split, data_root: Path | str | None, image_size: int | None, watch: Watcher) -> ImageSet:
    kind, colon, place = name.partition(":")
    if kind == "wds" and is_url(place):
        return read_remote_shards(place, default_data_root(data_root), split, image_size, watch)
    if colon and kind in _PREFIXED:
        return _PREFIXED[kind](Path(place).expanduser(), split, image_size, watch)
    if name in _NAMED:
        return _NAMED[name](default_data_root(data_root), split, image_size, watch)
    if Path(name).expanduser().exists():
        raise ConfigError(f"{name!r} is a file or folder; say what it holds: {_as_what(Path(name).expanduser())}")
    raise unknown_name("dataset", name, [*_NAMED, "folder:PATH", "arrays:FILE.npz", "wds:SHARDS.tar"])


def _as_what(place: Path) -> str:
    """The data name that a place on the disk most likely has."""
    if place.is_dir():
        return f"folder:{place} for images in folders, wds:{place} for shards"
    return f"wds:{place}" if place.suffix == ".tar" else f"arrays:{place}"


def _demo(split: Split, size: int | None) -> ImageSet:
    pixels, labels, class_names = demo_images("test" if split == "test" else "train")
    return resident_set("demo", pixels if size is None else fit_square(pixels, size), labels, class_names)
