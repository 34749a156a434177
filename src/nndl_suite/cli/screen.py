"""What a person sees: progress and errors on stderr, results on stdout."""

import json
import sys
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from nndl_suite.errors import NndlWarning
from nndl_suite.training.environment import is_told_first
from nndl_suite.training.watch import Step, Watcher, ignore

_QUIET_SECONDS = 10.0
"""Without a terminal, a line of progress this often."""


def say(text: str) -> None:
    """One line for a person, on stderr; of several processes the first alone says it."""
    if is_told_first():
        Console(stderr=True, highlight=False).print(escape(text), soft_wrap=True)


def say_error(text: str) -> None:
    """One failure, on stderr."""
    try:
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
    except MemoryError:  # Rich imports as it goes, and there may be no room for it
        sys.stderr.write(f"error: {text}\n")


def say_warnings() -> None:
    """From now on show this package's own warnings in a line each, as errors are shown; others stay as they are."""
    usual = warnings.showwarning

    def show(  # noqa: PLR0913 - the signature is Python's
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, NndlWarning):
            say(f"warning: {message}")
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.simplefilter("always", NndlWarning)
    warnings.showwarning = show


def print_json(content: object) -> None:
    """One JSON object, on stdout; where that cannot carry every letter, as on an old Windows, with escapes for them."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content)
    sys.stdout.write(text + "\n")


def print_lines(lines: Sequence[str]) -> None:
    """Lines as they are, on stdout, never broken: they are for copying."""
    sys.stdout.write("\n".join(lines) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, colours: Mapping[str, str] | None = None
) -> None:
    """A short table, on stdout; `colours` are of first cells."""
    table = Table(
        title=escape(title) or None, title_justify="left", title_style="bold", show_header=any(columns), box=SIMPLE
    )
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        first, *others = (escape(cell) for cell in row)
        colour = (colours or {}).get(row[0])
        table.add_row(first if colour is None else f"[{colour}]{first}[/]", *others)
    Console(highlight=False).print(table)


@contextmanager
def progress() -> Generator[Watcher, None, None]:
    """A watcher that shows a bar with the time left for each stage, or plain lines where stderr is no terminal.

    Of several processes the first alone shows anything.
    """
    if not is_told_first():
        yield ignore
        return
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )
    with bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: Step) -> None:
        task = self._tasks.get(step.stage)
        if task is None or (self._bars.tasks[task].finished and step.done < step.total):
            task = self._tasks[step.stage] = self._bars.add_task(escape(step.stage), total=1.0, figures="")
        self._bars.update(task, completed=step.done / (step.total or 1), figures=escape(_figures(step.metrics)))


class _Lines:
    def __init__(self) -> None:
        self._stage, self._started, self._told, self._ended = "", 0.0, 0.0, False

    def __call__(self, step: Step) -> None:
        now, share = time.monotonic(), step.done / (step.total or 1)
        if step.stage != self._stage or (self._ended and share < 1):
            self._stage, self._started, self._told = step.stage, now, now
        elif self._ended or (share < 1 and now - self._told < _QUIET_SECONDS):
            return
        else:
            self._told = now
        self._ended = share >= 1
        elapsed = now - self._started
        left = f", {elapsed * (1 - share) / share:.0f} s left" if elapsed > 1 and 0 < share < 1 else ""
        say(f"{step.stage}: {share:.0%}{left}  {_figures(step.metrics)}".rstrip())


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
