"""Features on disk, so that what a backbone once said of a set is not asked again.

A file's name is a digest of everything that decides its content; there is nothing to keep in step, and any file, or all
of them, can be deleted at any time.
"""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from lightning_fabric import Fabric
from torch import Tensor

from nndl_suite.data.catalog import user_cache
from nndl_suite.data.image_set import FileImages, ImageSet, ImageStore, ResidentImages
from nndl_suite.data.mirror import MirroredImages
from nndl_suite.errors import RunError
from nndl_suite.representation.features import FeatureSource, extract_features, weight_digests
from nndl_suite.training.array_files import in_our_words
from nndl_suite.training.files import write_atomically
from nndl_suite.training.watch import Step, Watcher, ignore

LARGEST_BYTES = 8 * 2**30
"""Of one cache; past it, the files that were not used for longest are deleted."""

_FORMAT = "features 2, bilinear antialiased"
"""To be changed with whatever in `extract_features` changes its result, and with what a file holds."""
_DIGEST_BYTES = 16
"""Behind the array of a file: of its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFeatures:
    """Features, and how they came."""

    features: Float[Tensor, "n d"]
    """float32, on the CPU; of a file they are read as they are used."""
    cached: bool
    """Whether they were on disk already."""
    seconds: float
    note: str = ""
    """Why they could not be kept, where that is so."""


def cache_folder(cache: Path | str) -> Path | None:
    """The folder that a setting means: "auto" the user's cache, "off" none, else itself."""
    if cache == "off":
        return None
    return user_cache() / "features" if cache == "auto" else Path(cache).expanduser()


def find_features(
    source: FeatureSource, images: ImageSet, fabric: Fabric, *, cache: Path | None, watch: Watcher = ignore
) -> FoundFeatures:
    """The features of every image, from the cache if they are there, else extracted and kept there.

    A damaged or foreign file is made anew. Where the cache cannot be written the features are extracted all the same,
    and a note says why they were not kept.

    Args:
        source: The backbone and how it wants its images.
        images: In the order of the rows.
        fabric: Device and precision, as for `extract_features`.
        cache: A folder, made if missing; None keeps nothing.
        watch: Told of progress.
    """
    start, stage = time.monotonic(), f"features of {images.name}"
    file = None if cache is None else cache / f"{_described(source)}-{feature_key(source, images, fabric)}.npy"
    found = None if file is None else _read(file, len(images), source.backbone.feature_dim)
    if found is not None:
        watch(Step(stage=f"{stage} (kept)", done=len(images), total=len(images)))
        return FoundFeatures(features=found, cached=True, seconds=time.monotonic() - start)
    features = extract_features(source, images, fabric, watch=watch)
    note = "" if file is None else _keep(file, features)
    if note:
        watch(Step(stage=note, done=1, total=1))
    return FoundFeatures(features=features, cached=False, seconds=time.monotonic() - start, note=note)


class FeatureReader:
    """Features of image sets by one backbone, and what it took to get them."""

    def __init__(self, source: FeatureSource, fabric: Fabric, cache: Path | None, watch: Watcher) -> None:
        """Read by `source`; the others are as in `find_features`."""
        self._source, self._fabric, self._cache, self._watch = source, fabric, cache, watch
        self._found: list[FoundFeatures] = []

    def __call__(self, images: ImageSet) -> Float[Tensor, "n d"]:
        """On the fabric's device."""
        found = find_features(self._source, images, self._fabric, cache=self._cache, watch=self._watch)
        self._found.append(replace(found, features=found.features[:0]))
        return found.features.to(self._fabric.device)

    @property
    def seconds(self) -> float:
        """For all sets together."""
        return sum(found.seconds for found in self._found)

    @property
    def cached(self) -> bool:
        """Whether none had to be extracted."""
        return bool(self._found) and all(found.cached for found in self._found)

    @property
    def notes(self) -> list[str]:
        """Why features were not kept, each reason once."""
        return list(dict.fromkeys(found.note for found in self._found if found.note))


def feature_key(source: FeatureSource, images: ImageSet, fabric: Fabric) -> str:
    """A digest of what decides the features: weights, architecture, pixels and their order, resolution, scale, machine.

    Labels are no part of it.
    """
    backbone = source.backbone
    content = {
        "format": _FORMAT,
        "torch": torch.__version__,
        "device": fabric.device.type,
        "precision": str(fabric.strategy.precision.precision),
        "backbone": backbone.name,
        "stem": backbone.stem,
        "weights": {name: digest.hex() for name, digest in weight_digests(backbone).items()},
        "normalisation": asdict(source.normalisation),
        "resolution": source.resolution,
        "images": _pixel_digest(images.store) or images.fingerprint,
    }
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _pixel_digest(store: ImageStore) -> str:
    """Of the pixels themselves where they are in memory, else of the files that they are in; empty for other stores.

    A set's own fingerprint has names and sizes of files only: two bitmaps of one name and size are the same to it.
    """
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(store, ResidentImages):
        digest.update(str(list(store.pixels.shape)).encode())
        digest.update(store.pixels.contiguous().numpy().data)
        return digest.hexdigest()
    if isinstance(store, FileImages):
        for file in store.files:
            stat = file.stat()
            digest.update(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
        return f"{digest.hexdigest()}@{store.image_size}"
    if isinstance(store, MirroredImages):
        inner = _pixel_digest(store.store)
        return inner and f"{inner}/mirrored"
    return ""


def _described(source: FeatureSource) -> str:
    """For a person who looks into the folder."""
    return f"{source.backbone.name}-{source.resolution}px"


def _read(file: Path, rows: int, columns: int) -> Float[Tensor, "n d"] | None:
    try:
        with in_our_words():
            # copy on write: torch wants an array that may be written to, and the file must not be
            found = np.lib.format.open_memmap(file, mode="c")  # not np.load, which takes a zip too
        if found.dtype != np.float32 or found.shape != (rows, columns) or not found.flags.c_contiguous:
            return None
        with file.open("rb") as stream:
            stream.seek(-_DIGEST_BYTES, os.SEEK_END)
            if stream.read() != _digest(found):
                return None
        os.utime(file)  # used now
    except (OSError, ValueError):
        return None
    return torch.from_numpy(found)


def _keep(file: Path, features: Float[Tensor, "n d"]) -> str:
    """Write the file; where that cannot be done, say so."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda part: _write(part, features.numpy()))
    except OSError as error:
        return f"features are not kept: {file.parent} cannot be made ({error.strerror or error})"
    except RunError as error:
        return f"features are not kept ({str(error).partition(';')[0]})"
    _make_room(file)
    return ""


def _write(part: Path, features: Float32[np.ndarray, "n d"]) -> None:
    with part.open("wb") as stream:
        np.save(stream, features)
        stream.write(_digest(features))


def _digest(features: Float32[np.ndarray, "n d"]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(features).data, digest_size=_DIGEST_BYTES).digest()


def _make_room(newest: Path) -> None:
    """Delete what was not used for longest, until the rest is small enough; other people's files are left alone."""
    used: list[tuple[float, int, Path]] = []
    for file in newest.parent.glob(f"*px-{'[0-9a-f]' * 32}.npy"):
        try:
            stat = file.stat()
        except OSError:
            continue  # another process was faster
        used.append((stat.st_mtime, stat.st_size, file))
    total = sum(size for _, size, _ in used)
    for _, size, file in sorted(used):
        if total <= LARGEST_BYTES:
            return
        if file != newest:
            try:
                file.unlink(missing_ok=True)
            except OSError:
                continue  # Windows keeps a file that is mapped
            total -= size
