"""Which code computes: Triton's kernels, or plain torch."""

import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from nndl_suite.nerf.gpu import plain
from nndl_suite.training.fabric import Device, resolve_device

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


def choose_device(device: Device) -> torch.device:
    """Where a field is learned and looked at; "auto" is the CPU.

    On CUDA a field learns a hundred times as fast, but so far what it learns shows held-out photos worse
    (`benchmarks/results/gpu_h200_nerf.json`), so one has to ask for it.

    Raises:
        ConfigError: an unknown name, or "cuda" on a machine without it.
    """
    return torch.device("cpu") if device == "auto" else resolve_device(device)


def lacks(device: torch.device) -> str | None:
    """Why a field on this device is slower than it could be, in a sentence; None where nothing is amiss."""
    if device.type != "cuda":
        return None
    if not TRITON:
        return "Triton is missing (it comes with torch on Linux), so the field was computed on CUDA by plain torch"
    if not _multiplies_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        return f"{name} is older than Ampere, for which the Triton kernels are made, so plain torch computed the field"
    return None


def name_of(device: torch.device) -> str:
    """What seconds were spent on: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
