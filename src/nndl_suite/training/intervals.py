"""95 % intervals of accuracies: over seeds where there are several, over test images where there is one."""

import math
from collections.abc import Sequence

from scipy.special import ndtri, stdtrit  # pyright: ignore[reportMissingTypeStubs]

Interval = tuple[float, float]


def student_interval(values: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of two or more runs (Student's t)."""
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    reach = float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    return mean - reach, mean + reach


def share_interval(shares: Sequence[float]) -> Interval:
    """The same of shares such as accuracies, cut to [0, 1]: with two runs Student's t reaches far."""
    low, high = student_interval(shares)
    return max(0.0, low), min(1.0, high)


def wilson_interval(accuracy: float, n: int) -> Interval:
    """The 95 % score interval of a share of n images: what another test set of this size would do to one network."""
    z = float(ndtri(0.975))
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return max(0.0, centre - reach), min(1.0, centre + reach)
