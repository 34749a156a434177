"""Weights & Biases and trackio: a run of theirs for each metrics log."""

import hashlib
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


class _Service:
    """What both have in common: which steps they were sent already, kept in the folder, so that none goes twice."""

    package = ""

    def __init__(self, folder: Path) -> None:
        try:
            self._module: Any = import_module(self.package)
        except ImportError as error:
            raise ConfigError(
                f'{self.package} is not installed, which the log was to go to: pip install "nndl-suite[{self.package}]"'
            ) from error
        self._folder, self._kept = folder, folder / f".{self.package}.json"
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
            self._runs[row.run] = self._open(row.run)
        self._runs[row.run].log(dict(row.figures), step=row.step)
        self._sent[row.run] = row.step

    def close(self) -> None:
        """Finish their runs, and keep what they were sent."""
        for run in self._runs.values():
            run.finish()
        if self._runs:
            write_json(self._kept, self._sent)

    def _open(self, run: str) -> _TheirRun:
        raise NotImplementedError

    def _name(self, run: str) -> str:
        return "/".join(filter(None, (self._folder.resolve().name, run)))

    def _config(self, run: str) -> dict[str, Json]:
        file = self._folder / run / "config.json"
        return read_json(file) if file.exists() else {}


class Wandb(_Service):
    """A sink for Weights & Biases; where it keeps files and whether it is online, its own variables say."""

    package = "wandb"

    def _open(self, run: str) -> _TheirRun:
        place = str((self._folder / run).resolve())
        return self._module.init(
            project=_PROJECT,
            name=self._name(run),
            id=hashlib.sha256(place.encode()).hexdigest()[:16],
            resume="allow",
            reinit="create_new",  # a comparison has several at once
            config=self._config(run),
        )


class Trackio(_Service):
    """A sink for trackio, which keeps everything on this machine unless told otherwise."""

    package = "trackio"

    def _open(self, run: str) -> _TheirRun:
        return self._module.init(project=_PROJECT, name=self._name(run), config=self._config(run), resume="allow")
