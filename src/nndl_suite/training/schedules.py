"""Learning-rate schedules as pure functions of the share of the run that is done."""

import math
from typing import Literal

ScheduleName = Literal["cosine", "linear", "constant"]


def warmup_cosine(fraction: float, warmup: float) -> float:
    """The factor on the peak rate: linear from 0 to 1 over the first `warmup` share, then half a cosine to 0.

    Args:
        fraction: Share of the run that is done, in [0, 1].
        warmup: Share of the run spent warming up, in [0, 1).

    Source: SGDR, arXiv 1608.03983 (one cycle), with the linear warm-up of arXiv 1706.02677.
    """
    return rate_factor("cosine", fraction, warmup)


def rate_factor(schedule: ScheduleName, fraction: float, warmup: float) -> float:
    """The factor on the peak rate by name; all rise alike, and fall as half a cosine, as a line, or not at all."""
    if fraction < warmup:
        return fraction / warmup
    fallen = min(1.0, (fraction - warmup) / (1 - warmup))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * fallen))
    return 1 - fallen if schedule == "linear" else 1.0
