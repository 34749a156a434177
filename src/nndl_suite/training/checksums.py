"""Safetensors files, and checksums of what they say, so that no changed bit is taken for a number."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from nndl_suite.training.files import write_atomically

CHECKSUM = "checksum"
"""The key, in the header of a safetensors file, that holds one."""


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
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
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


def write_tensors(file: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write a safetensors file, atomically.

    Through memory: safetensors' own writing to a file makes a temporary one beside it, which a kill leaves there.
    """
    content = save(tensors, metadata=header)
    write_atomically(file, lambda part: part.write_bytes(content))
