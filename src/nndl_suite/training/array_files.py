"""Reading NumPy files that anybody may have written: what headers state is held against the bytes that are there.

`np.load` believes a header that asks for a terabyte, unpacks whatever a few bytes may unpack to, and fails in a dozen
ways of other packages.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

_LARGE_BYTES = 256 * 2**20
_TIGHTEST = 200
"""Times smaller that packing makes a large archive at most, unless it was made to burst."""
_MAGIC = b"\x93NUMPY"


def load_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, holds objects, or would unpack to far more than is in it.
    """
    with in_our_words(), file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        unpacked, packed = sum(member.file_size for member in members), file.stat().st_size
        if unpacked > max(_LARGE_BYTES, _TIGHTEST * packed):
            raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}: no images pack so tightly")
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(names)) < len(names):
            raise ValueError("it holds two arrays of one name")
        return {name: _member(archive, member) for name, member in zip(names, members, strict=True)}


def load_npy(file: Path) -> np.ndarray:
    """The array of a `.npy` file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds objects.
    """
    with in_our_words(), file.open("rb") as stream:
        _check_header(stream, file.stat().st_size)
        stream.seek(0)
        return npy.read_array(stream, allow_pickle=False)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        _check_header(stream, member.file_size)
    with archive.open(member) as stream:
        found = npy.read_array(stream, allow_pickle=False)
        if stream.read(1):  # which also makes zipfile compare the checksum
            raise ValueError(f"{member.filename} goes on after its array")
        return found


def _check_header(stream: IO[bytes], size: int) -> None:
    """Refuse an array that is not as large as its header says.

    Raises:
        ValueError: it is not, or it holds objects.
    """
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no NumPy array")
    stream.seek(0)
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, _, kind = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, kind = npy.read_array_header_2_0(stream)
    else:
        raise ValueError(f"it is a NumPy array of version {version}; save it with plain numbers")
    if kind.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    stated, there = math.prod(shape) * kind.itemsize, size - stream.tell()
    if stated != there or min(shape, default=0) < 0:
        raise ValueError(f"its header states {kind} {list(shape)}, {stated:,} bytes, but {there:,} are there")


@contextmanager
def in_our_words() -> Generator[None]:
    """What zipfile, zlib and NumPy raise at damaged files, as a ValueError."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RuntimeError,  # also for what is encrypted, or packed in a way that zipfile does not know
        SyntaxError,
        TypeError,
        struct.error,
        tokenize.TokenError,  # NumPy reads old headers as Python's own
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(str(error) or type(error).__name__) from error
