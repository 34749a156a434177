"""Whether what was learned are still numbers: asked when a checkpoint is due or a loss is none, never at each step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nndl_suite.errors import TrainingError
from nndl_suite.training.checkpoints import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A tensor of a state that holds NaN or infinity."""

    name: str
    """Its place in the state: `network.conv1.weight`."""
    count: int
    """Of its values, those that are no numbers."""
    size: int

    def __str__(self) -> str:
        return f"{self.name} ({self.count} of {self.size} values)"


def broken_tensors(state: Mapping[str, State]) -> list[Broken]:
    """Those tensors of a state that are not finite, in the state's order; waits for the tensors' device."""
    found: list[Broken] = []
    for name, tensor in _tensors(state, ""):
        count = tensor.numel() - int(torch.isfinite(tensor).sum())
        if count:
            found.append(Broken(name=name, count=count, size=tensor.numel()))
    return found


def went_astray(
    stage: str, index: int, figures: Mapping[str, float], state: Mapping[str, State], remedy: str
) -> TrainingError:
    """The error of a training in which something is no number any more.

    Args:
        stage: What is trained, for a person.
        index: The step at which it was seen, from 1.
        figures: Of that step; the first that is not finite is named, and `learning_rate` is told.
        state: Of the trainer; its first tensor that is not finite is named.
        remedy: What to do.
    """
    rate = f" and rate {figures['learning_rate']:.3g}" if "learning_rate" in figures else ""
    broken = broken_tensors(state)
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        place = f"NaN or infinity in {broken[0]}{more}"
    else:
        place = "all weights are numbers still"
    figure = next((f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)), None)
    told = f"{figure} at step {index}{rate}; {place}" if figure else f"{place} at step {index}{rate}"
    return TrainingError(f"{stage}: {told}; {remedy}")


def _tensors(node: State, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        if node.is_floating_point():
            yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for place, value in enumerate(node):
            yield from _tensors(value, f"{path}.{place}")
