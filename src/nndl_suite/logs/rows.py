"""Reading the metrics logs of a run, and of the runs inside it, while they grow."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a metrics log."""

    run: str
    """Where the log lies below the folder that is read: "arms/vit-seed0"; empty for the folder itself."""
    step: int
    figures: Mapping[str, float]
    """All its numbers but the step."""


class Rows:
    """The rows of all `metrics.jsonl` in and below a folder; each call gives those that are new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[Row]:
        """Rows since the last call, run by run in the order of their lines.

        A run that was killed repeats steps: of those that are read at once the later line counts. A line that is
        being written waits for the next call; one cut short by a kill is passed over.
        """
        for file in sorted(self._folder.rglob("metrics.jsonl")):
            by_step: dict[int, dict[str, float]] = {}
            for record in self._records(file):
                step = int(record.pop("step"))
                by_step[step] = {**by_step.get(step, {}), **record}
            run = file.parent.relative_to(self._folder).as_posix()
            for step in sorted(by_step):
                yield Row(run="" if run == "." else run, step=step, figures=by_step[step])

    def _records(self, file: Path) -> Iterator[dict[str, float]]:
        with file.open("rb") as opened:
            if opened.seek(0, 2) < self._read.get(file, 0):  # another run has taken its place
                self._read[file] = 0
            opened.seek(self._read.get(file, 0))
            whole = opened.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._read[file] = self._read.get(file, 0) + len(whole) + 1
        for line in whole.split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield {key: value for key, value in record.items() if isinstance(value, int | float)}
