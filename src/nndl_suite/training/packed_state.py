"""A training's state as two things that files can hold: JSON, and tensors by name."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = None | bool | int | float | str | Tensor | Sequence["State"] | Mapping[str, "State"] | Mapping[int, "State"]
"""What a checkpoint can hold: nested mappings and sequences of tensors, numbers and strings."""

_TENSOR, _PAIRS = "__tensor__", "__pairs__"


def take_tensors(node: State, path: str, tensors: dict[str, Tensor]) -> object:
    """A JSON copy of `node` whose tensors are put into `tensors`, by path: not copied, where they are on the CPU."""
    if isinstance(node, Tensor):
        tensors[path] = node.detach().cpu()
        return {_TENSOR: path}
    if isinstance(node, Mapping):
        if all(isinstance(key, str) for key in node):
            return {str(key): take_tensors(value, f"{path}.{key}", tensors) for key, value in node.items()}
        return {_PAIRS: [[key, take_tensors(value, f"{path}.{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [take_tensors(value, f"{path}.{i}", tensors) for i, value in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return node
    raise TypeError(f"{path} is a {type(node).__name__}; a checkpoint holds tensors, numbers, strings, lists and dicts")


def put_tensors(node: object, tensors: Mapping[str, Tensor]) -> State:
    """The inverse of `take_tensors`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: there is something else in it.
    """
    if isinstance(node, list):
        return [put_tensors(value, tensors) for value in node]
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensors[node[_TENSOR]]
        if _PAIRS in node:
            return {key: put_tensors(value, tensors) for key, value in node[_PAIRS]}
        return {key: put_tensors(value, tensors) for key, value in node.items()}
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
