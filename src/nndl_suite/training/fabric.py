"""Which device and precision a run uses, chosen once."""

import atexit
from inspect import signature
from typing import Any, Literal, cast, get_args

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.training.environment import Spread, slurm_started, torchrun_started
from nndl_suite.training.processes import close_connections, everywhere, world_size
from nndl_suite.training.starting import start_others

_SENDS_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
"""The name of that setting of DDP, and the one that it had until then."""

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "32-true", "bf16-mixed"]


def make_fabric(device: Device = "auto", precision: Precision = "auto") -> Fabric:
    """A launched Fabric on one device.

    Args:
        device: "auto" takes a CUDA device where there is one.
        precision: "auto" takes bf16 autocast where the machine computes it natively, else float32.

    Raises:
        ConfigError: an unknown name, or "cuda" on a machine without it; or several processes want to do this at once.
    """
    chosen = resolve_device(device)
    started = torchrun_started() or Spread()
    if max(world_size(), started.processes) > 1:
        raise everywhere(
            ConfigError("this is done by one process alone; give it a command of its own, without torchrun")
        )
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    fabric = Fabric(accelerator=chosen.type, devices=1, precision=resolve_precision(precision, chosen))
    fabric.launch()
    return fabric


def join_fabric(
    device: Device, precision: Precision, spread: Spread, *, find_unused_parameters: bool = False
) -> Fabric:
    """A launched Fabric in each of several processes, which are started unless torchrun or SLURM has done so.

    Args:
        device: As for `make_fabric`; each process has a GPU of its own.
        precision: As for `make_fabric`.
        spread: How many processes. One means as many as torchrun or SLURM has started.
        find_unused_parameters: Whether a step may leave out some weights.

    Raises:
        ConfigError: as `make_fabric`; or there are fewer GPUs, or another number of processes has been started.
    """
    found = torchrun_started() or slurm_started()
    spread = check_spread(spread, found)
    if spread.processes == 1:
        return make_fabric(device, precision)
    chosen = resolve_device(device)
    if chosen.type == "cuda" and spread.devices > torch.cuda.device_count():
        raise ConfigError(
            f"{spread.devices} processes want a GPU each, and this machine has {torch.cuda.device_count()}; "
            "use fewer --devices, or --device cpu"
        )
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    if found is None:
        start_others(spread)
    fabric = Fabric(
        accelerator=chosen.type,
        devices=spread.devices,
        num_nodes=spread.nodes,
        strategy=DDPStrategy(
            # what lies on the CPU goes by gloo in any case, so that words between processes never wait for a GPU
            process_group_backend="cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo",
            find_unused_parameters=find_unused_parameters,
            **cast(dict[str, Any], {_SENDS_BUFFERS: False}),  # they are alike: statistics and queues are of all rows
        ),
        precision=resolve_precision(precision, chosen),
        plugins=[_cluster()],
    )
    fabric.launch()
    atexit.register(close_connections)
    return fabric


def check_spread(spread: Spread, found: Spread | None) -> Spread:
    """How many processes there are, from what was asked for and what was found started.

    Raises:
        ConfigError: the two differ, or a number is below 1.
    """
    if spread.devices < 1 or spread.nodes < 1:
        raise ConfigError(f"devices and nodes must be >= 1, got {spread.devices} and {spread.nodes}")
    if found is None or found == spread:
        return spread
    if spread.processes > 1:
        raise everywhere(
            ConfigError(
                f"{spread.devices} devices on {spread.nodes} nodes asked for, but {found.devices} processes on "
                f"{found.nodes} nodes are started; leave --devices and --nodes out where torchrun or srun says them"
            )
        )
    return found


def _cluster() -> ClusterEnvironment:
    """Who started the processes: said outright, since Fabric takes a batch script for srun."""
    if torchrun_started() is not None:
        return TorchElasticEnvironment()
    return LightningEnvironment() if slurm_started() is None else SLURMEnvironment()


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


def resolve_precision(
    precision: Precision = "auto", device: torch.device | None = None
) -> Literal["32-true", "bf16-mixed"]:
    """The precision behind a name, on a device or on the one that "auto" takes."""
    if precision != "auto":
        return precision
    device = resolve_device("auto") if device is None else device
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; without it autocast is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
