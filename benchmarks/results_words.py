"""How docs/results.md writes numbers, tables and where a number comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("results")
Found = dict[str, dict[str, Any]]
"""Result files by name, as they were read."""


def read(names: Sequence[str]) -> Found:
    """The result files of these names."""
    return {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in names}


def percent(share: float, digits: int = 1) -> str:
    """A fraction in percent."""
    return f"{100 * share:.{digits}f} %"


def within(share: float, ci95: Sequence[float], unit: str = " %") -> str:
    """A fraction in percent and its 95 % interval."""
    low, high = ci95
    return f"{100 * share:.1f}{unit} [{100 * low:.1f}, {100 * high:.1f}]"


def count(number: float) -> str:
    """A whole number with its thousands set apart."""
    return f"{number:,.0f}"


def millions(number: float) -> str:
    """A count of parameters in millions."""
    return f"{number / 1e6:.1f} M"


def duration(seconds: float) -> str:
    """Seconds; from two minutes on with minutes, from two hours on with hours."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def span(numbers: Sequence[float], digits: int = 0) -> str:
    """The least and the largest of some numbers, once where they read alike."""
    low, high = f"{min(numbers):,.{digits}f}", f"{max(numbers):,.{digits}f}"
    return low if low == high else f"{low}-{high}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def commands(*lines: str) -> str:
    """A block of commands."""
    return "\n".join(["```", *lines, "```"])


def file(*names: str) -> str:
    """Result files by name; no link, for the page is read in a site too that does not hold them."""
    return ", ".join(f"`benchmarks/results/{name}.json`" for name in names)


def seeds(result: dict[str, Any]) -> str:
    """Every seed that a result file names; a file without one says nothing of it."""
    named = sorted(set(_seeds(result)))
    return ", ".join(map(str, named)) if named else "not recorded"


def _seeds(value: object) -> Iterator[int]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in {"seed", "seeds"}:
                yield from [inner] if isinstance(inner, int) else inner
            else:
                yield from _seeds(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _seeds(inner)
