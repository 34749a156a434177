"""What several processes must do at the same step though each has a clock and a signal handler of its own."""

import time

from nndl_suite.training.processes import is_first, largest, world_size

_SECONDS = 0.25
"""Between two agreements, about: a stop takes as long to be heard, and words cost nothing beside the steps."""
_MOST_STEPS = 1000


class Agreement:
    """When to stop and to save, and how late it is; one process agrees with itself at every step."""

    def __init__(self) -> None:
        self._next, self._last, self._at, self._seconds = 1, 0, time.monotonic(), 0.0

    def of(self, index: int, *, stops: bool, saves: bool, seconds: float) -> tuple[bool, bool, float]:
        """Whether to stop, whether to save, and the seconds of training, after `index` steps.

        Any process may ask for a stop. The first says when to save, what its clock says, and after how many steps they
        speak again; until then nothing is stopped or saved, and the clock stands still.

        Args:
            index: The same in every process.
            stops: Whether this process wants to stop.
            saves: Whether it is time for a checkpoint.
            seconds: By this process's clock.
        """
        if world_size() == 1:
            return stops, saves, seconds
        if self._last == 0:  # the first step of this sitting
            self._next = self._last = index
        if index < self._next:
            return False, False, self._seconds
        first = is_first()
        stop, save, self._seconds, stride = largest(
            [stops, saves and first, seconds * first, self._stride(index) * first]
        )
        self._next, self._last, self._at = index + round(stride), index, time.monotonic()
        return stop > 0, save > 0, self._seconds

    def at_the_end(self, seconds: float) -> float:
        """The seconds of training by the first process's clock."""
        return seconds if world_size() == 1 else largest([seconds * is_first()])[0]

    def _stride(self, index: int) -> float:
        """Steps until the next agreement, by the pace since the last one."""
        pace = (index - self._last) / max(time.monotonic() - self._at, 1e-6)
        return min(max(1.0, pace * _SECONDS), _MOST_STEPS)
