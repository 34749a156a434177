"""Momentum teachers: a copy that follows its student."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


def teacher_of(student: _Network) -> _Network:
    """A copy that takes no gradient. In training mode it keeps batch statistics of its own, as in MoCo and BYOL."""
    return copy.deepcopy(student).requires_grad_(requires_grad=False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move each weight to momentum * teacher + (1 - momentum) * student."""
    for behind, ahead in zip(teacher.parameters(), student.parameters(), strict=True):
        behind.lerp_(ahead, 1 - momentum)


def rising_momentum(fraction: float, start: float) -> float:
    """From `start` to 1 over the run, on half a cosine (BYOL, arXiv 2006.07733, section 3.3)."""
    return 1 - (1 - start) * (math.cos(math.pi * fraction) + 1) / 2
