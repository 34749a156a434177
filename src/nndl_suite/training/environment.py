"""What the environment says of processes that train together, before any of them has heard of another."""

import os
from collections.abc import Mapping
from typing import NamedTuple

PARENT = "NNDL_SUITE_PARENT"
"""Set for processes that another one of this package has started: its process id."""


class Spread(NamedTuple):
    """How many processes train together."""

    devices: int = 1
    """Processes on each machine: one for each GPU, or as many as one likes on CPUs."""
    nodes: int = 1
    """Machines."""

    @property
    def processes(self) -> int:
        """All of them."""
        return self.devices * self.nodes


def torchrun_started(variables: Mapping[str, str] = os.environ) -> Spread | None:
    """What torchrun has started, this process being one of them."""
    if "TORCHELASTIC_RUN_ID" not in variables:
        return None
    here, everywhere = int(variables["LOCAL_WORLD_SIZE"]), int(variables["WORLD_SIZE"])
    return Spread(devices=here, nodes=everywhere // here)


def slurm_started(variables: Mapping[str, str] = os.environ) -> Spread | None:
    """What SLURM's `srun` has started, where that is more than one process; a batch script itself is only one."""
    tasks, nodes = (int(variables.get(f"SLURM_STEP_NUM_{what}", "1")) for what in ("TASKS", "NODES"))
    return None if tasks == 1 else Spread(devices=tasks // nodes, nodes=nodes)


def is_told_first(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one that speaks and writes, as far as the environment tells."""
    if torchrun_started(variables) is not None:
        return variables.get("RANK", "0") == "0"
    if slurm_started(variables) is not None:
        return variables.get("SLURM_PROCID", "0") == "0"
    if int(variables.get("WORLD_SIZE", "1")) == 1:
        return True
    return variables.get("LOCAL_RANK", "0") == "0" and variables.get("NODE_RANK", "0") == "0"


def is_first_here(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first on its machine."""
    return variables.get("LOCAL_RANK", variables.get("SLURM_LOCALID", "0")) == "0"
