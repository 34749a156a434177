"""Drawings with their words, and the numbers of a `result.json` that go into them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import cast

from markupsafe import Markup

from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line, curves, estimates
from nndl_suite.training.files import Json

Metrics = Sequence[dict[str, float]]
"""The records of a metrics log, or of a long one its overview."""

_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a colour of a drawing stands for."""

    colour: int
    """Index into `PALETTE`."""
    label: str
    cross: bool = False
    """A cross instead of a dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing, with words for those who do not see it."""

    svg: Markup
    alt: str
    caption: str
    key: tuple[Key, ...] = ()
    """Of a drawing that has its key beside it, not in it."""


def interval_picture(rows: Sequence[Estimate], x: str) -> Picture:
    """Shares with their intervals, one a row."""
    told = "; ".join(f"{row.label} {words.percent(row.mean)}" for row in rows)
    return Picture(
        svg=Markup(estimates(rows, x=x)),  # noqa: S704 - drawn by matplotlib, which escapes its texts
        alt=f"{x}: {told}.",
        caption=f"{x[0].upper()}{x[1:]} with 95 % intervals.",
    )


def curve_picture(
    lines: Sequence[Line], *, x: str, y: str, caption: str, percent: bool = False, mark: float | None = None
) -> Picture:
    """Curves over a common axis; `mark` is an x to draw a line at."""
    show = words.percent if percent else words.brief
    told = "; ".join(
        f"{line.label} goes from {show(line.y[0])} to {show(line.y[-1])}" for line in lines if not line.faint
    )
    return Picture(
        svg=Markup(curves(lines, x=x, y=y, percent=percent, mark=mark)),  # noqa: S704 - drawn by matplotlib, which escapes its texts
        alt=f"{y} by {x}: {told}.",
        caption=caption,
    )


def thinned(metrics: Metrics, name: str) -> tuple[list[float], list[float]]:
    """A logged figure by step, neighbours averaged so that no more than 200 are left."""
    logged = [record for record in metrics if isinstance(cast(object, record.get(name)), int | float)]
    size = max(1, -(-len(logged) // _CURVE_POINTS))
    chunks = [logged[start : start + size] for start in range(0, len(logged), size)]
    steps = [fmean(record["step"] for record in chunk) for chunk in chunks]
    return steps, [fmean(record[name] for record in chunk) for chunk in chunks]


def as_object(node: Json) -> dict[str, Json]:
    """An object, empty where there is something else."""
    return node if isinstance(node, dict) else {}


def as_number(node: Json) -> float:
    """A number.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise TypeError(f"expected a number, got {node!r}")
    return float(node)


def as_interval(node: Json) -> tuple[float, float] | None:
    """Two numbers, or None for null."""
    if node is None:
        return None
    low, high = cast(list[Json], node)
    return as_number(low), as_number(high)
