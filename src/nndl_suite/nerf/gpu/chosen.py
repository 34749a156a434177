"""Which code computes: Triton's kernels, or plain torch."""

import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from nndl_suite.nerf.gpu import plain

TRITON = find_spec("triton") is not None
"""Triton comes with torch on Linux; Windows and macOS have none."""


@lru_cache(maxsize=16)
def _multiplies_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def in_triton(tensor: Tensor) -> bool:
    """Whether work on this tensor is Triton's: on CUDA from Ampere up or under its interpreter, TRITON_INTERPRET=1."""
    return TRITON and (_multiplies_bfloat16(tensor.device) or os.environ.get("TRITON_INTERPRET") == "1")


def kernels(name: str, tensor: Tensor) -> ModuleType:
    """The module that has the functions of `name` for this tensor; Triton is imported when first needed."""
    return import_module(f"nndl_suite.nerf.gpu.triton_{name}") if in_triton(tensor) else plain
