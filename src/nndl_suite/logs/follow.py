"""Passing the rows of a run on to a sink, in one go or while it trains."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from nndl_suite.errors import RunError
from nndl_suite.logs.rows import Row, Rows

_EVERY_SECONDS = 2.0


class Sink(Protocol):
    """Somewhere that rows go; rows of a run come in the order of their steps."""

    def __call__(self, row: Row) -> None:
        """Take a row."""
        ...

    def close(self) -> None:
        """No more rows will come."""
        ...


def pass_on(folder: Path | str, open_sink: Callable[[Path], Sink]) -> int:
    """Give a sink what a run, finished or not, has logged so far, and return how many rows that were.

    Args:
        folder: A run folder, or one with run folders in it.
        open_sink: `TensorBoard`, `Wandb` or `Trackio`; called with the folder.

    Raises:
        ConfigError: what the sink needs is not installed.
        RunError: there is no metrics log in the folder or below it.
    """
    folder = Path(folder)
    if next(folder.rglob("metrics.jsonl"), None) is None:
        raise RunError(f"{folder} holds no metrics.jsonl, nor does a folder in it; give the --out folder of a run")
    sink = open_sink(folder)
    try:
        number = 0
        for row in Rows(folder).new():
            sink(row)
            number += 1
        return number
    finally:
        sink.close()


@contextmanager
def following(
    folder: Path | str, open_sink: Callable[[Path], Sink], *, note: Callable[[str], None] = lambda _: None
) -> Generator[None, None, None]:
    """Give a sink what the run in a folder logs, every two seconds while the block trains, and the rest at its end.

    A sink that fails is given up and told of in a note: it never ends a training. Of several processes that do this in
    one folder, as the workers of a tuning may, one at a time follows.

    Args:
        folder: The run folder; it need not be there yet.
        open_sink: As for `pass_on`.
        note: Told in a sentence if the sink fails.

    Raises:
        ConfigError: what the sink needs is not installed.
    """
    follower = _Follower(Path(folder), open_sink, note)
    thread = threading.Thread(target=follower.run, name="following a metrics log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        follower.stop.set()
        thread.join()


class _Follower:
    def __init__(self, folder: Path, open_sink: Callable[[Path], Sink], note: Callable[[str], None]) -> None:
        self.stop = threading.Event()
        self._folder, self._note = folder, note
        self._sink, self._rows = open_sink(folder), Rows(folder)
        self._lock = FileLock(folder / f".{type(self._sink).__name__.lower()}.lock")

    def run(self) -> None:
        """Until told to stop, and once more."""
        try:
            while not self.stop.wait(_EVERY_SECONDS):
                self._catch_up()
            self._catch_up()
            self._sink.close()
        except Exception as error:  # noqa: BLE001 - other people's code, and the training matters more
            self._note(f"the log is no longer passed on ({type(error).__name__}: {error}); the training goes on")
        finally:
            self._lock.release(force=True)

    def _catch_up(self) -> None:
        if next(self._folder.rglob("metrics.jsonl"), None) is None:
            return
        try:
            if not self._lock.is_locked:
                self._lock.acquire(blocking=False)
        except Timeout:
            return  # another process follows this folder, and sends what we log too
        for row in self._rows.new():
            self._sink(row)
