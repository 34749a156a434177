"""Ends asked for from outside, taken between two steps."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests() -> Generator[threading.Event, None, None]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C interrupts at once.

    Python delivers signals to the main thread only; elsewhere the event is never set and the caller is in charge.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    found = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in found.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
