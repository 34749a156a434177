"""The words that a run was begun with, so that its folder can say how to repeat it."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_SECRET = re.compile(r"(\w://)[^/@\s]*@")

_words: ContextVar[tuple[str, ...]] = ContextVar("command", default=())


@contextmanager
def begun_by(words: Sequence[str]) -> Generator[None]:
    """Runs that are started inside keep these words as the command that began them.

    `--resume` is left out, and so is what stands before the @ of a URL: a run folder is shown around.
    """
    token = _words.set(tuple(_SECRET.sub(r"\1...@", word) for word in words if word != "--resume"))
    try:
        yield
    finally:
        _words.reset(token)


def command() -> tuple[str, ...]:
    """The words of the command that is running; none where Python code is in charge."""
    return _words.get()
