"""Signs of life of the trials that are trained, so that those of killed workers are found.

Optuna's own heartbeat is for databases alone, and only inside `Study.optimize`; this one serves any storage.
"""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from optuna import Trial
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nndl_suite.training.locks import is_gone, this_process

WORKER = "worker"
"""Which process trains a trial."""
BEAT = "beat"
BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""After so long without a sign of life a worker counts as dead."""


@contextmanager
def lease(trial: Trial, *, every: float = BEAT_SECONDS) -> Generator[None, None, None]:
    """Give signs of life, from a thread: an epoch, or a step of a large network, may take longer than a beat."""
    trial.set_user_attr(WORKER, this_process())
    ended = threading.Event()

    def beat() -> None:
        while True:
            try:
                trial.set_user_attr(BEAT, time.time())
            except UpdateFinishedTrialError:
                return  # taken over; the training hears of it when it reports its epoch
            except (StorageInternalError, OSError):
                pass  # a busy or absent storage: the next beat may reach it
            if ended.wait(every):
                return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Vigil:
    """Tells which running trials have gone silent.

    It compares a beat with the one it saw before, by its own clock: those of other machines may be wrong. Of a process
    of this machine it is known at once that it is gone; so a tuning that was killed goes on with the trial at hand.
    """

    def __init__(self, *, seconds: float = SILENT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._seen: dict[int, tuple[object, float]] = {}

    def silent(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """Numbers of the trials that run without a worker, or without a new beat since long ago."""
        now = self._clock()
        at_work = [trial for trial in trials if trial.state == TrialState.RUNNING]
        running = {trial.number: trial.user_attrs.get(BEAT) for trial in at_work}
        self._seen = {
            number: self._seen[number] if number in self._seen and self._seen[number][0] == beat else (beat, now)
            for number, beat in running.items()
        }
        left = {trial.number for trial in at_work if is_gone(trial.user_attrs.get(WORKER, {}))}
        return [number for number, (_, since) in self._seen.items() if number in left or now - since > self._seconds]
