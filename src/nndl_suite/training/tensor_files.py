"""Safetensors files: written piece by piece, sealed by a checksum, read as copies."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors import safe_open
from torch import Tensor

from nndl_suite.training.files import write_atomically

CHECKSUM = "checksum"
"""The key, in the header of a safetensors file, that holds one."""
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As the format names them: https://huggingface.co/docs/safetensors."""


def checksum(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Of the words of a header and of tensors: their names, types, shapes and bytes, in no order.

    BLAKE2b of 128 bits, which reads about 1 GB a second on one core.

    Args:
        header: A `CHECKSUM` in it is left out.
        tensors: On the CPU.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(sorted((key, word) for key, word in header.items() if key != CHECKSUM)).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_bytes_of(tensor).data)
    return digest.hexdigest()


def sealed(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The header with the checksum of it and of the tensors."""
    return {**header, CHECKSUM: checksum(header, tensors)}


def tensors_of(content: safe_open) -> dict[str, Tensor]:
    """Everything in an open safetensors file, as copies.

    What safetensors gives is the file itself, mapped: it would change with the file after it was checked, and would
    keep Windows from deleting it.
    """
    return {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118 - not a dict


def write_tensors(file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file, atomically, tensor by tensor from where they lie.

    The format is written here since safetensors' own `save` takes the tensors' size in memory twice, and panics where
    there is no room; `save_file` makes a temporary file beside it, which a kill leaves there.

    Args:
        file: What is there is replaced.
        tensors: On the CPU; they may share memory, and each is written whole.
        header: Words about them.

    Raises:
        TypeError: a tensor is of a type that the format has no name for.
        RunError: the disk is full or the folder cannot be written.
    """
    entries: dict[str, object] = {"__metadata__": dict(header)}
    # the widest types first, so that every tensor begins at a multiple of its type's width, as readers expect
    names, end = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)), 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _DTYPES:
            raise TypeError(f"{name} is of {tensor.dtype}, which safetensors files do not hold")
        begin, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    words = json.dumps(entries).encode()
    words += b" " * (-len(words) % 8)

    def write(part: Path) -> None:
        with part.open("wb") as content:
            content.write(len(words).to_bytes(8, "little"))
            content.write(words)
            for name in names:
                content.write(_bytes_of(tensors[name]).data)

    write_atomically(file, write)


def _bytes_of(tensor: Tensor) -> UInt8[np.ndarray, "n"]:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
