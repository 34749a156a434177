"""Opening a photo of any kind, HEIC or 16 bits or palette or CMYK, as the 8-bit sRGB that everything after it takes."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from nndl_suite.data.open_image import UNREADABLE as UNREADABLE  # nerf's photos fail in the same ways
from nndl_suite.data.open_image import open_image

_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}) | _HEIC_SUFFIXES


@contextmanager
def open_photo(file: Path) -> Generator[Image.Image]:
    """`open_image` for what cameras and phones write: large is fine, enormous (178 megapixels) is not.

    Raises:
        UNREADABLE: here, or where the pixels are first used.
    """
    if file.suffix.lower() in _HEIC_SUFFIXES:
        _learn_heic()
    with open_image(file) as opened:
        yield opened


def reason(error: Exception, file: Path) -> str:
    """Why a photo cannot be used, for a person who sees its name already."""
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if file.is_file() and file.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "there is no photo in it, whatever its ending says"
    if isinstance(error, Image.DecompressionBombError):
        return f"it is too large ({error})"
    return str(error) or type(error).__name__


def _learn_heic() -> None:
    """Late, for it brings a video decoder along and most captures have no such photo."""
    import pillow_heif  # noqa: PLC0415

    pillow_heif.register_heif_opener(thumbnails=False)


def as_8_bit(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where something may show through; 16-bit grey is scaled, where Pillow itself would clip it.

    16-bit colour comes from Pillow as its upper bytes already, which is at most one level darker.

    Raises:
        ValueError: 32-bit pixels, whose white is anybody's guess.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError("it has 32 bits a pixel; save it with 8 or 16")
        return Image.fromarray(((values + 128) // 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it has floating-point pixels; save it with 8 or 16 bits")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def scaled_down(image: Image.Image, max_side: int) -> Image.Image:
    """At most `max_side` pixels on the longer side; never enlarged."""
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
