"""Weights & Biases and trackio: a run of theirs for each metrics log."""

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from nndl_suite.errors import ConfigError
from nndl_suite.logs.rows import Row
from nndl_suite.training.files import Json, read_json, write_json

_PROJECT = "nndl-suite"


class _TheirRun(Protocol):
    def log(self, metrics: dict[str, float], step: int) -> object: ...

    def finish(self) -> object: ...


_OpenRun = Callable[[Any, Path, str], _TheirRun]
"""Given the service's module, the folder that is followed, and which run in it."""


class _Service:
    """What both have in common: which steps they were sent already, kept in the folder, so that none goes twice."""

    def __init__(self, folder: Path, package: str, open_run: _OpenRun) -> None:
        try:
            self._module: Any = import_module(package)
        except ImportError as error:
            raise ConfigError(
                f'{package} is not installed, which the log was to go to: pip install "nndl-suite[{package}]"'
            ) from error
        self._folder, self._kept, self._open_run = folder, folder / f".{package}.json", open_run
        self._runs: dict[str, _TheirRun] = {}
        self._sent: dict[str, Json] | None = None

    def __call__(self, row: Row) -> None:
        """The figures of one step."""
        if self._sent is None:
            self._sent = read_json(self._kept) if self._kept.exists() else {}
        sent = self._sent.get(row.run)
        if isinstance(sent, int) and row.step <= sent:
            return
        if row.run not in self._runs:
            self._runs[row.run] = self._open_run(self._module, self._folder, row.run)
        self._runs[row.run].log(dict(row.figures), step=row.step)
        self._sent[row.run] = row.step

    def close(self) -> None:
        """Finish their runs, and keep what they were sent."""
        for run in self._runs.values():
            run.finish()
        if self._runs:
            write_json(self._kept, self._sent)


class Wandb(_Service):
    """A sink for Weights & Biases; where it keeps files and whether it is online, its own variables say."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "wandb", _open_wandb)


class Trackio(_Service):
    """A sink for trackio, which keeps everything on this machine unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "trackio", _open_trackio)


def _open_wandb(wandb: Any, folder: Path, run: str) -> _TheirRun:
    return wandb.init(
        project=_PROJECT,
        name=_name(folder, run),
        id=hashlib.sha256(str((folder / run).resolve()).encode()).hexdigest()[:16],
        resume="allow",
        reinit="create_new",  # a comparison has several at once
        config=_config(folder / run),
    )


def _open_trackio(trackio: Any, folder: Path, run: str) -> _TheirRun:
    return trackio.init(project=_PROJECT, name=_name(folder, run), config=_config(folder / run), resume="allow")


def _name(folder: Path, run: str) -> str:
    return "/".join(filter(None, (folder.resolve().name, run)))


def _config(run: Path) -> dict[str, Json]:
    file = run / "config.json"
    return read_json(file) if file.exists() else {}
