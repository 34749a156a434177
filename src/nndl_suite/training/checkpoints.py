"""Checkpoints: one safetensors file each, tensors in its body and everything else as JSON in its header.

One file means one rename: a checkpoint is there whole or not at all, whenever the process dies. Nothing is pickled.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nndl_suite.errors import RunError
from nndl_suite.training.files import write_atomically

State = None | bool | int | float | str | Tensor | Sequence["State"] | Mapping[str, "State"] | Mapping[int, "State"]
"""What a checkpoint can hold: nested mappings and sequences of tensors, numbers and strings."""

_FORMAT = "nndl-suite checkpoint 1"
_KEPT = 2
_DAMAGED = (
    OSError,
    SafetensorError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
_TENSOR, _PAIRS = "__tensor__", "__pairs__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A run's state after `step` steps and `seconds` of training."""

    step: int
    seconds: float
    state: dict[str, State]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder`, atomically, and delete all but the newest two."""
    tensors: dict[str, Tensor] = {}
    header = {
        "format": _FORMAT,
        "step": str(checkpoint.step),
        "seconds": repr(checkpoint.seconds),
        "state": json.dumps({key: _take_tensors(node, key, tensors) for key, node in checkpoint.state.items()}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"step-{checkpoint.step:09d}.safetensors"
    write_atomically(file, lambda part: save_file(tensors, part, metadata=header))
    for old in checkpoint_files(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return file


def checkpoint_files(folder: Path) -> list[Path]:
    """A folder's checkpoints, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a folder, or None where there is none.

    Raises:
        RunError: the newest checkpoint is damaged or was not written by this package.
    """
    files = checkpoint_files(folder)
    return load_checkpoint(files[-1]) if files else None


def load_checkpoint(file: Path) -> Checkpoint:
    """Read one checkpoint; tensors come back on the CPU.

    Raises:
        RunError: the file is missing, damaged, or was not written by this package.
    """
    try:
        with safe_open(file, framework="pt") as content:
            header = content.metadata() or {}
            if header.get("format") != _FORMAT:
                raise RunError(f"{file} is not a checkpoint of this package (format {header.get('format')!r})")
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a dict
        nodes: dict[str, object] = json.loads(header["state"])
        state = {key: _put_tensors(node, tensors) for key, node in nodes.items()}
        step, seconds = int(header["step"]), float(header["seconds"])
        if step < 0 or not 0 <= seconds < math.inf:
            raise ValueError(f"it says that it is of step {step} after {seconds} s")
        return Checkpoint(step=step, seconds=seconds, state=state)
    except _DAMAGED as error:
        raise RunError(f"{file} is damaged ({error}); delete it to go on from the one before") from error


def _take_tensors(node: State, path: str, tensors: dict[str, Tensor]) -> object:
    """A JSON copy of `node` whose tensors moved into `tensors`, by path."""
    if isinstance(node, Tensor):
        # clone: safetensors refuses tensors that share memory, and optimisers hold views
        tensors[path] = node.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: path}
    if isinstance(node, Mapping):
        if all(isinstance(key, str) for key in node):
            return {str(key): _take_tensors(value, f"{path}.{key}", tensors) for key, value in node.items()}
        return {_PAIRS: [[key, _take_tensors(value, f"{path}.{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_take_tensors(value, f"{path}.{i}", tensors) for i, value in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return node
    raise TypeError(f"{path} is a {type(node).__name__}; a checkpoint holds tensors, numbers, strings, lists and dicts")


def _put_tensors(node: object, tensors: dict[str, Tensor]) -> State:
    """The inverse of `_take_tensors`."""
    if isinstance(node, list):
        return [_put_tensors(value, tensors) for value in node]
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensors[node[_TENSOR]]
        if _PAIRS in node:
            return {key: _put_tensors(value, tensors) for key, value in node[_PAIRS]}
        return {key: _put_tensors(value, tensors) for key, value in node.items()}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise ValueError(f"unexpected {type(node).__name__} in a checkpoint")


def equal_states(a: State, b: State) -> bool:
    """Whether two states are the same to the last bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(equal_states(x, y) for x, y in zip(a.values(), b.values(), strict=True))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal_states(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)
