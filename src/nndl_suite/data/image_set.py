"""An image set: pixels in memory or on disk, labels if there are any, and a fingerprint of both."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.data.open_image import UNREADABLE, open_image
from nndl_suite.errors import DataError
from nndl_suite.training.watch import Step, Watcher, ignore

_DECODE_CHUNK = 256
_LONGEST_SHAPE = 256
"""Times longer than wide: the shorter side is what is resized to, and the longer one grows with it."""


class ImageStore(Protocol):
    """Square images of one size, readable in any order."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        ...

    def __len__(self) -> int: ...

    def read(self, indices: Int64[Tensor, "b"]) -> UInt8[Tensor, "b 3 h w"]:
        """The images at `indices`, in that order."""
        ...

    def select(self, indices: Int64[Tensor, "b"]) -> Self:
        """A store of only these images."""
        ...


@dataclass(frozen=True, slots=True)
class ResidentImages:
    """All images as one tensor in memory."""

    pixels: UInt8[Tensor, "n 3 h w"]

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: Int64[Tensor, "b"]) -> UInt8[Tensor, "b 3 h w"]:
        """The images at `indices`, in that order."""
        return self.pixels[indices]

    def select(self, indices: Int64[Tensor, "b"]) -> "ResidentImages":
        """A store of only these images."""
        return ResidentImages(self.pixels[indices])


@dataclass(frozen=True, slots=True)
class FileImages:
    """Image files, decoded on reading: shorter side resized to `image_size`, centre cropped."""

    files: tuple[Path, ...]
    image_size: int

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Int64[Tensor, "b"]) -> UInt8[Tensor, "b 3 h w"]:
        """The images at `indices`, in that order.

        Raises:
            DataError: a file is not a readable image.
        """
        return torch.stack([decode(self.files[i], self.image_size) for i in indices.tolist()])

    def select(self, indices: Int64[Tensor, "b"]) -> "FileImages":
        """A store of only these images."""
        return FileImages(tuple(self.files[i] for i in indices.tolist()), self.image_size)

    def resident(self, watch: Watcher = ignore) -> ResidentImages:
        """All images decoded into memory, in threads (Pillow's decoders release the interpreter)."""
        pixels = torch.empty(len(self), 3, self.image_size, self.image_size, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self), _DECODE_CHUNK):
                chunk = self.files[start : start + _DECODE_CHUNK]
                decoded = pool.map(decode, chunk, [self.image_size] * len(chunk))
                pixels[start : start + len(chunk)] = torch.stack(list(decoded))
                watch(Step(stage="reading images", done=start + len(chunk), total=len(self)))
        return ResidentImages(pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images, and their labels where there are any."""

    name: str
    store: ImageStore
    labels: Int64[Tensor, "n"] | None
    """On the CPU; None for a set without labels."""
    class_names: tuple[str, ...]
    fingerprint: str
    """Changes when pixels, labels or their order change."""

    def __len__(self) -> int:
        return len(self.store)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.store.image_size

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def subset(self, indices: Int64[Tensor, "b"]) -> "ImageSet":
        """Only these images, in this order."""
        chosen = hashlib.blake2b(indices.numpy().tobytes(), digest_size=8).hexdigest()
        return replace(
            self,
            store=self.store.select(indices),
            labels=None if self.labels is None else self.labels[indices],
            fingerprint=f"{self.fingerprint}/{chosen}",
        )

    def without_labels(self) -> "ImageSet":
        """The same images, their labels forgotten."""
        return replace(self, labels=None, class_names=())

    def required_labels(self) -> Int64[Tensor, "n"]:
        """The labels.

        Raises:
            DataError: the set has none.
        """
        if self.labels is None:
            raise DataError(
                f"{self.name} has no labels; put the images into one folder per class, or choose a labelled set"
            )
        return self.labels


def resident_set(
    name: str, pixels: UInt8[Tensor, "n 3 h w"], labels: Int64[Tensor, "n"] | None, class_names: Sequence[str]
) -> ImageSet:
    """An image set of pixels that are in memory already."""
    digest = hashlib.blake2b(pixels.contiguous().numpy().data, digest_size=16)
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return ImageSet(
        name=name,
        store=ResidentImages(pixels),
        labels=labels,
        class_names=tuple(class_names),
        fingerprint=digest.hexdigest(),
    )


def file_set(name: str, store: FileImages, labels: Int64[Tensor, "n"] | None, class_names: Sequence[str]) -> ImageSet:
    """An image set of files; its fingerprint covers names, sizes in bytes and labels, not pixels."""
    digest = hashlib.blake2b(digest_size=16)
    for file in store.files:
        digest.update(f"{file.parent.name}/{file.name}:{file.stat().st_size};{store.image_size}".encode())
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return ImageSet(
        name=name, store=store, labels=labels, class_names=tuple(class_names), fingerprint=digest.hexdigest()
    )


def decode(source: Path | BytesIO, size: int) -> UInt8[Tensor, "3 h w"]:
    """One image file, or its bytes, as RGB: shorter side resized to `size` with antialiasing, centre cropped.

    Raises:
        DataError: it is not a readable image.
    """
    try:
        with open_image(source) as image:
            check_shape(image.size)
            image.draft("RGB", (size, size))  # lets JPEG decode at a fraction of its size, never below `size`
            rgb = image.convert("RGB")
    except UNREADABLE as error:
        raise unreadable(source, error) from error
    scale = size / min(rgb.size)
    width, height = (max(size, round(side * scale)) for side in rgb.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = rgb.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)


def unreadable(source: Path | BytesIO, error: Exception) -> DataError:
    """The error for an image that Pillow refuses; bytes have no name, so whoever reads them says whose they are."""
    what = str(source) if isinstance(source, Path) else "it"
    why = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
    return DataError(f"{what} is not a readable image ({why}); remove or replace it")


def check_shape(size: tuple[int, int]) -> None:
    """Refuse a shape that would grow beyond all measure where its shorter side is enlarged.

    Raises:
        ValueError: the longer side is more than 256 times the shorter one.
    """
    if max(size) > _LONGEST_SHAPE * min(size):
        raise ValueError(f"its {size[0]} x {size[1]} pixels are too long and thin to be cut to a square")


def fit_square(pixels: UInt8[Tensor, "b 3 h w"], size: int) -> UInt8[Tensor, "b 3 s s"]:
    """Shorter side resized to `size` with antialiasing, centre cropped; the same tensor where nothing changes."""
    height, width = pixels.shape[-2:]
    if (height, width) == (size, size):
        return pixels
    scale = size / min(height, width)
    fitted = (max(size, round(height * scale)), max(size, round(width * scale)))
    if fitted != (height, width):
        chunks = [
            F.interpolate(chunk.float(), fitted, mode="bilinear", antialias=True).round_().to(torch.uint8)
            for chunk in pixels.split(1024)
        ]
        pixels = torch.cat(chunks)
    top, left = (fitted[0] - size) // 2, (fitted[1] - size) // 2
    return pixels[:, :, top : top + size, left : left + size].contiguous()
