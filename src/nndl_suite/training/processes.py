"""Several processes at one training: who they are, what each has of a batch, and what they tell one another.

Where there is one process, everything here gives back what it was given, at no cost.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed

from nndl_suite.errors import ConfigError, NndlError, ProcessLost
from nndl_suite.training.environment import is_first_here, is_told_first

T = TypeVar("T")

_BROKEN = ("closed by peer", "reset by peer", "roken pipe", "imed out", "timeout", "gloo", "NCCL", "remote process")
"""Of these words, the messages of gloo and NCCL have one when another process is gone."""
_LAST_WORD_SECONDS = 1.5
"""Longer than it takes to see that the process that started this one is the one that is gone (`starting`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that one process works on: a stretch, so that all parts in order are the batch."""

    start: int
    stop: int
    total: int

    @property
    def rows(self) -> slice:
        """As an index."""
        return slice(self.start, self.stop)

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing else."""
        return len(self) == self.total

    def __len__(self) -> int:
        return self.stop - self.start


def whole(total: int) -> Part:
    """All rows."""
    return Part(0, total, total)


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return distributed.get_rank() if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this is the one process that writes and speaks."""
    return rank() == 0


def own_part(batch_size: int) -> Part:
    """What this process has of every batch.

    Raises:
        ConfigError: the batch does not divide by the processes.
    """
    world, own = world_size(), rank()
    if batch_size % world:
        raise everywhere(
            ConfigError(f"batch_size must be a multiple of the {world} processes that share it, got {batch_size}")
        )
    each = batch_size // world
    return Part(own * each, (own + 1) * each, batch_size)


def spread_evenly(total: int) -> Part:
    """What this process has of `total` things that need not divide: as many as the others, or one more or less."""
    world, own = world_size(), rank()
    return Part(own * total // world, (own + 1) * total // world, total)


def gathered(rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "world*b ..."]:
    """The rows of all processes in the order of their ranks; each must have as many. Takes no gradient."""
    if world_size() == 1:
        return rows
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    distributed.all_gather(parts, rows)
    return torch.cat(parts)


def summed(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The sum over all processes, in the tensor's own memory."""
    if world_size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def average_gradients(weights: Sequence[Tensor]) -> None:
    """Give every process the mean of their gradients, for weights that no DDP module looks after."""
    if world_size() > 1:
        for weight in weights:
            assert weight.grad is not None
            summed(weight.grad).div_(world_size())


def averaged(figures: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Figures as numbers, each the mean over all processes; waits for the device once."""
    numbers = {name: float(value) for name, value in figures.items()}
    if world_size() == 1:
        return numbers
    means = summed(torch.tensor(list(numbers.values()), dtype=torch.float64)) / world_size()
    return dict(zip(numbers, means.tolist(), strict=True))


def largest(numbers: Sequence[float]) -> list[float]:
    """The largest of all processes, number by number."""
    if world_size() == 1:
        return list(numbers)
    told = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(told, distributed.ReduceOp.MAX)
    return told.tolist()


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; the others wait. What it refuses is refused in all of them."""
    if world_size() == 1:
        return make()
    told: list[object] = [None, None]
    if is_first():
        try:
            told[0] = make()
        except NndlError as error:
            told[1] = error
    distributed.broadcast_object_list(told)
    if isinstance(told[1], NndlError):
        raise everywhere(told[1])
    return cast(T, told[0])


def everywhere(error: NndlError) -> NndlError:
    """An error that every process meets alike, so that only the first need speak of it."""
    error.told = not (is_first() and is_told_first())  # the latter where they have not heard of one another yet
    return error


def close_connections() -> None:
    """Close the connections, as a process is to do at its end; not left to the interpreter, whose threads are gone."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def one_falls_all_fall() -> Generator[None, None, None]:
    """Say in one sentence on each machine that another process is gone, where a message to it failed.

    Raises:
        ProcessLost: it is.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not any(word in str(error) for word in _BROKEN):
            raise
        gone = ProcessLost(lost(world_size()))
        gone.told = not is_first_here()
        if gone.told:
            time.sleep(_LAST_WORD_SECONDS)  # if that one should have told it, `starting` does, and ends us
        raise gone from error


def lost(world: int) -> str:
    """What is said when one of several processes has ended before its time."""
    return (
        f"one of the {world} processes has ended before its time, so the others end too; --resume goes on from the "
        f"last checkpoint, with any number of processes"
    )
