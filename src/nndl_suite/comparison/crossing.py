"""Validation curves by epoch, by training FLOPs and by seconds, and where one overtakes the other for good."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

import numpy as np

Budget = Literal["epochs", "flops", "seconds"]
"""What two curves are compared at equal amounts of."""

Log = Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Validation accuracy at the end of each epoch, mean over seeds."""

    epochs: tuple[float, ...]
    flops: tuple[float, ...]
    """See `training_flops`."""
    seconds: tuple[float, ...]
    """Of training, validation included; mean over seeds."""
    val_accuracy: tuple[float, ...]

    def against(self, budget: Budget) -> tuple[float, ...]:
        """The axis of that name."""
        return {"epochs": self.epochs, "flops": self.flops, "seconds": self.seconds}[budget]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Where one mean curve overtakes the other, and stays ahead to the end of what both have."""

    leader: str
    """The arm that is ahead from there on."""
    at: float
    """Epochs, FLOPs or seconds."""
    val_accuracy: float
    """Of both, there."""


Stages = Sequence[tuple[float, int]]
"""(share of the run, FLOPs of one image's forward pass from then on); the first begins at 0."""


def training_flops(stages: Stages, *, steps: float, total_steps: float, batch_size: int) -> float:
    """What training costs up to a step: a forward pass, and a backward pass of twice as much, for each image.

    Validation, augmentation and the optimiser are left out.
    """
    starts = [math.ceil(share * total_steps) for share, _ in stages]  # step i belongs to the share i / total
    passes = 0.0
    for (_, forward), start, end in zip(stages, starts, [*starts[1:], total_steps], strict=True):
        passes += forward * max(0.0, min(steps, end) - start)
    return 3 * passes * batch_size


def mean_curve(logs: Sequence[Log], *, stages: Stages, batch_size: int) -> Curve:
    """The mean curve of an arm's metrics logs, one a seed; of the epochs that all of them have."""
    by_seed = [[record for record in log if "val_accuracy" in record] for log in logs]
    together = list(zip(*by_seed, strict=False))  # seeds that were stopped early have fewer epochs
    total = max((records[-1]["step"] for records in by_seed if records), default=0)
    return Curve(
        epochs=tuple(records[0]["epoch"] for records in together),
        flops=tuple(
            training_flops(stages, steps=records[0]["step"], total_steps=total, batch_size=batch_size)
            for records in together
        ),
        seconds=tuple(fmean(record["seconds"] for record in records) for records in together),
        val_accuracy=tuple(fmean(record["val_accuracy"] for record in records) for records in together),
    )


def crossings(names: tuple[str, str], curves: tuple[Curve, Curve]) -> dict[Budget, Crossing | None]:
    """The crossing at equal epochs, FLOPs and seconds; None where one arm leads from the first common point on."""
    found: dict[Budget, Crossing | None] = {}
    for budget in get_args(Budget):
        first, second = ((curve.against(budget), curve.val_accuracy) for curve in curves)
        place = last_crossing(first, second)
        found[budget] = None
        if place is not None:
            leader, at, accuracy = place
            found[budget] = Crossing(leader=names[leader], at=at, val_accuracy=accuracy)
    return found


Points = tuple[Sequence[float], Sequence[float]]
"""x, ascending, and y."""


def last_crossing(first: Points, second: Points) -> tuple[Literal[0, 1], float, float] | None:
    """Where two curves, straight between their points, change places for the last time.

    Only x that both cover are looked at. Curves that touch without changing places do not cross, and curves that end
    equal have no leader.

    Returns:
        Which is ahead from there on, the x from which it is, and the y of both there. None where nothing changes
        places, or where the curves have no x in common.
    """
    if not first[0] or not second[0]:
        return None
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    if low >= high:
        return None
    x = np.unique([low, high, *(place for place in (*first[0], *second[0]) if low <= place <= high)])
    y = np.interp(x, *first)
    ahead = np.interp(x, *second) - y  # of the second; linear between neighbours
    final = np.sign(ahead[-1])
    behind = np.flatnonzero(np.sign(ahead) == -final)
    if final == 0 or not behind.size:
        return None
    before = behind[-1]  # after it the winner is never behind again
    after = before + 1 + np.flatnonzero(ahead[before + 1 :] != 0)[0]  # past points where both are equal
    start = after - 1  # either `before` itself, or the last of those points
    share = ahead[start] / (ahead[start] - ahead[after])
    at = x[start] + share * (x[after] - x[start])
    return (1 if final > 0 else 0), float(at), float(np.interp(at, *first))
