"""What NumPy, and what it reads with, raise at a damaged file of arrays."""

import struct
import tokenize
import zipfile
import zlib

DAMAGED_ARRAYS = (
    OSError,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,  # a header that asks for more than there is
    RuntimeError,  # what is encrypted, or packed in a way that zipfile does not know
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
