"""Ends asked for from outside, taken between two steps."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_asked: list[threading.Event] = []
"""Of all `stop_requests` that are open, the innermost last."""


@contextmanager
def stop_requests() -> Generator[threading.Event, None, None]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C interrupts at once.

    Where one is inside another, a signal sets the events of both: the inner may end before it looks at its own.
    Python delivers signals to the main thread only; elsewhere the event is never set and the caller is in charge.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        for event in _asked:
            event.set()

    _asked.append(stop)
    found = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        _asked.remove(stop)
        for number, handler in found.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
