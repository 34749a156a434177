"""Opening image files that anybody may have made: only formats that are meant, and no larger than images are.

Pillow tries every format that it knows, among them PostScript, which it hands to another program; and fails at damaged
files in whatever words its decoders have.
"""

import struct
import threading
import warnings
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)
"""What decoders raise for files that are cut short, are no image at all, or are too large to be one."""
LONGEST_SIDE = 65_535
"""Pixels; the most that a JPEG can have."""
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF", "HEIF")
_MANY_PIXELS = 2**26
"""Up to here a mask of one bit may be packed as tightly as it will."""
_TIGHTEST = 500
"""Pixels a byte: a JPEG of a single colour has fewer than 300, photos have fewer than 100."""


@contextmanager
def open_image(source: Path | BytesIO) -> Generator[Image.Image]:
    """An image's header, and its pixels once they are asked for; Pillow mends what is merely odd without a word.

    Raises:
        UNREADABLE: here, or where the pixels are first used. Before any is decoded: a side over 65,535 pixels, more
            than 178 megapixels, or far more of them than the file has room for.
    """
    Image.init()  # so that it is known which formats this Pillow has
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with _QUIET, Image.open(source, formats=formats) as image:
        _check_size(image, source)
        yield image


class _QuietPillow:
    """Keeps Pillow's warnings to itself while anybody is within.

    `warnings.catch_warnings` puts back what it found, for all threads: of two that open images, the one that ends first
    would let warnings through to the other, and the other would leave them off for good. So the first of those within
    sets the filters, and the last puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._within == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _QuietPillow()


def _check_size(image: Image.Image, source: Path | BytesIO) -> None:
    width, height = image.size
    num_bytes = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
    if min(width, height) < 1:
        raise ValueError(f"it is {width} x {height} pixels, and so none at all")
    if max(width, height) > LONGEST_SIDE:
        raise ValueError(f"it is {width} x {height} pixels; sides of at most {LONGEST_SIDE:,} are read")
    if width * height > max(_MANY_PIXELS, _TIGHTEST * num_bytes):
        raise ValueError(f"its {num_bytes:,} bytes would unpack to {width} x {height} pixels, which no photo does")
