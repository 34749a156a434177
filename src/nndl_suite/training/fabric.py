"""Which device and precision a run uses, chosen once."""

from typing import Literal, get_args

import torch
from lightning_fabric import Fabric

from nndl_suite.errors import ConfigError, unknown_name

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "32-true", "bf16-mixed"]


def make_fabric(device: Device = "auto", precision: Precision = "auto") -> Fabric:
    """A launched Fabric on one device.

    Args:
        device: "auto" takes a CUDA device where there is one.
        precision: "auto" takes bf16 autocast where the machine computes it natively, else float32.

    Raises:
        ConfigError: an unknown name, or "cuda" on a machine without it.
    """
    chosen = resolve_device(device)
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    fabric = Fabric(accelerator=chosen.type, devices=1, precision=_resolve_precision(precision, chosen))
    fabric.launch()
    return fabric


def device_name(fabric: Fabric) -> str:
    """What a run's seconds were spent on: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "cpu"


def resolve_device(device: Device) -> torch.device:
    """The device behind a name.

    Raises:
        ConfigError: an unknown name, or "cuda" on a machine without it.
    """
    if device not in get_args(Device):
        raise unknown_name("device", device, get_args(Device))
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("device 'cuda' asked for, but torch sees no CUDA device; use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and has_cuda else "cpu")


def _resolve_precision(precision: Precision, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    if precision != "auto":
        return precision
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; without it autocast is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
