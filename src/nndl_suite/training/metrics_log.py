"""The metrics log, `metrics.jsonl`: one JSON object a line, appended as a run goes, read whatever its length.

A log of millions of lines is not read whole. Curves of some hundred points need a fair sample of it, the ends of epochs
are found by what only they say, and the newest figure is looked for from the end.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

Record = dict[str, float]

WHOLE_BYTES = 16 * 2**20
"""Up to this size, about 200,000 lines, a log is read whole."""
_WINDOWS, _WINDOW_BYTES = 400, 8192
"""Of a longer one: how many stretches are read, evenly spaced, and how long each is."""
_RARE = 10
"""A figure is rare where at most one line in so many has it."""
_MOST_FOUND = 50_000
"""Lines that say something rare; of more, every second is kept, or every fourth, …"""
_BLOCK_BYTES = 4 * 2**20
_LARGEST_LOGGED = 1e100
_LONGEST_LINE = 2**20
"""No line that was logged is longer; what is longer is no log."""


def read_whole(file: Path) -> list[Record]:
    """All records in step order; empty where there is no log.

    A run that was killed repeats the steps after its last checkpoint; of steps logged twice the later line counts.
    Lines that cannot be read, as one that was cut short by a kill, are passed over.
    """
    if not file.exists():
        return []
    with file.open("rb") as log:
        return _in_step_order(log)


def overview(file: Path, rare: Iterable[str]) -> list[Record]:
    """What `read_whole` gives, of a log over `WHOLE_BYTES` a fair sample, with all records that have a rare figure.

    A sample is of about 40,000 lines. Reading it takes milliseconds, each rare figure one pass over the bytes of the
    log, and memory does not grow with it. Of steps logged twice, some of the earlier lines may be in it.

    Args:
        file: The log.
        rare: Figures that few lines have, such as "val_accuracy".
    """
    size = file.stat().st_size if file.exists() else 0
    if size <= WHOLE_BYTES:
        return read_whole(file)
    with file.open("rb") as log:
        lines = sample = dict(_sampled(log, size))
        for key in (f'"{name}"'.encode() for name in rare):
            if _RARE * sum(key in line for line in sample.values()) <= len(sample):  # else the sample has enough
                lines = lines | dict(_found(log, key))
    return _in_step_order(lines[place] for place in sorted(lines))


def newest(file: Path, name: str) -> float | None:
    """The last value of a figure, looked for from the end; None where no line has it."""
    if not file.exists():
        return None
    with file.open("rb") as log:
        for line in _backwards(log, f'"{name}"'.encode()):
            record = _record(line)
            if record is not None and isinstance(record.get(name), int | float):
                return float(record[name])
    return None


def _sampled(log: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """The whole lines of evenly spaced stretches, with their places; the first lines and the last are among them."""
    for window in range(_WINDOWS):
        start = (size - _WINDOW_BYTES) * window // (_WINDOWS - 1)
        log.seek(start)
        stretch = log.read(_WINDOW_BYTES)
        place = 0 if start == 0 else stretch.find(b"\n") + 1
        while (end := stretch.find(b"\n", place)) >= 0:
            yield start + place, stretch[place:end]
            place = end + 1


def _found(log: BinaryIO, key: bytes) -> list[tuple[int, bytes]]:
    """The lines that have `key` in them, with their places; evenly thinned where they are too many."""
    found: list[tuple[int, bytes]] = []
    seen, every = 0, 1
    for start, block in _blocks(log):
        hit = block.find(key)
        while hit >= 0:
            begin, end = block.rfind(b"\n", 0, hit) + 1, block.find(b"\n", hit)
            if seen % every == 0:
                found.append((start + begin, block[begin:end]))
            seen += 1
            if len(found) > _MOST_FOUND:
                found, every = found[::2], 2 * every
            hit = block.find(key, end)
    return found


def _blocks(log: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The log in pieces of whole lines, each with its place; a last line without an end is left out."""
    log.seek(0)
    place, rest = 0, b""
    while read := log.read(_BLOCK_BYTES):
        whole, newline, beginning = read.rpartition(b"\n")
        if newline:
            yield place, rest + whole + newline
            place += len(rest) + len(whole) + 1
            rest = beginning
        else:
            rest += read
        if len(rest) > _LONGEST_LINE:
            place, rest = place + len(rest), b""


def _backwards(log: BinaryIO, key: bytes) -> Iterator[bytes]:
    """The lines that have `key` in them, the last first."""
    end, beginning = log.seek(0, os.SEEK_END), b""
    while end > 0:
        start = max(0, end - (_WINDOW_BYTES if not beginning else _BLOCK_BYTES))
        log.seek(start)
        block = log.read(end - start) + beginning
        first = 0 if start == 0 else block.find(b"\n") + 1
        stop = len(block)
        while (hit := block.rfind(key, first, stop)) >= 0:
            begin, close = block.rfind(b"\n", 0, hit) + 1, block.find(b"\n", hit)
            yield block[begin : None if close < 0 else close]
            stop = begin
        beginning = block[: first or len(block)]
        if len(beginning) > _LONGEST_LINE:
            beginning = b""
        end = start


def _in_step_order(lines: Iterable[bytes]) -> list[Record]:
    by_step: dict[tuple[str, int], Record] = {}
    for line in lines:
        record = _record(line)
        if record is not None:
            key = (str(record.get("arm", "")), int(record["step"]))
            by_step[key] = {**by_step.get(key, {}), **record}
    return [by_step[key] for key in sorted(by_step)]


def _record(line: bytes) -> Record | None:
    """What a line says; None where it says nothing of a step."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    figures = {name: value for name, value in record.items() if _is_figure(value)}
    return figures if type(figures.get("step")) is int else None


def _is_figure(value: object) -> bool:
    """Whether a value can be drawn, or is a name; a loss that was not finite ends its curve, not the report."""
    if isinstance(value, str):
        return value.isprintable()
    return isinstance(value, int | float) and abs(value) < _LARGEST_LOGGED
