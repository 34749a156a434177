"""Which code computes: Triton's kernels, or plain torch."""

import os
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor

from nndl_suite.nerf.gpu import plain

TRITON = find_spec("triton") is not None
"""Triton comes with torch on Linux; Windows and macOS have none."""


def in_triton(tensor: Tensor) -> bool:
    """Whether work on this tensor is Triton's: it lies on CUDA, or Triton's interpreter (TRITON_INTERPRET=1) runs."""
    return TRITON and (tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")


def kernels(name: str, tensor: Tensor) -> ModuleType:
    """The module that has the functions of `name` for this tensor; Triton is imported when first needed."""
    return import_module(f"nndl_suite.nerf.gpu.triton_{name}") if in_triton(tensor) else plain
