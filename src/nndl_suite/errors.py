"""What can go wrong that a person can mend: each message says what must hold, what came, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class NndlError(Exception):
    """The root of every error that a person can mend; anything else is a bug and keeps its traceback."""

    told = False
    """Of several processes that train together, another one says it."""


class ConfigError(NndlError, ValueError):
    """A setting is outside what it may be."""


class DataError(NndlError):
    """A data set, or a file of one, is missing, unreadable or not what it should be."""


class RunError(NndlError):
    """A run folder or checkpoint cannot be used as asked."""


class CaptureError(NndlError):
    """Photos, a video or their camera poses do not suffice for a reconstruction."""


class TrainingError(NndlError):
    """A training went astray: its loss is no number any more, or what it learned has collapsed."""


class ProcessLost(NndlError):
    """Of several processes that train together, one has ended before its time."""


class DamagedFile(RunError):
    """A file of a run is cut off, has bits changed, or is none of this package's."""


class NndlWarning(UserWarning):
    """Something is wrong and has been made up for; a person should know of it."""


class Interrupted(NndlError):
    """Somebody stopped the run between two steps; what it had done is in its checkpoint."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a fixed list, with the near matches first."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names)}"
    return ConfigError(f"unknown {what} {name!r}; {hint}")
