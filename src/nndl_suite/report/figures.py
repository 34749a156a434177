"""Figures as inline SVG that takes its ink from the page, so that one drawing serves light and dark."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

PALETTE = ("#4c8ed9", "#e07b39", "#3fa66b", "#a06cd5")
"""Legible on white and on black."""

_INK = "#0a0b0c"  # stands for the page's own text colour until the SVG is written
_WIDTH, _HEIGHT = 5.0, 2.9  # inches; small, so that a phone shows the letters at their size
_SMALL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve."""

    label: str
    colour: int
    """Index into `PALETTE`."""
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False
    """A single seed behind the mean of all: thin, and left out of the legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, where it has one."""

    label: str
    mean: float
    ci95: tuple[float, float] | None
    colour: int = 0


def curves(lines: Sequence[Line], *, x: str, y: str, percent: bool = False) -> str:
    """Curves over a common axis; `percent` shows shares as per cent."""
    figure, axes = _canvas(_HEIGHT)
    for line in lines:
        axes.plot(
            line.x,
            line.y,
            color=PALETTE[line.colour % len(PALETTE)],
            linewidth=0.8 if line.faint else 1.8,
            alpha=0.5 if line.faint else 1.0,
            label=None if line.faint else line.label,
            marker="o" if len(line.x) == 1 else None,
        )
    axes.set_xlabel(x, color=_INK, fontsize=_SMALL)
    axes.set_ylabel(y, color=_INK, fontsize=_SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if sum(not line.faint for line in lines) > 1:
        axes.legend(frameon=False, labelcolor=_INK, fontsize=_SMALL)
    return _svg(figure, salt=f"{x}{y}{len(lines)}{lines[0].label}{sum(len(line.x) for line in lines)}")


def estimates(rows: Sequence[Estimate], *, x: str) -> str:
    """Shares as dots with their intervals, one a row from the top."""
    figure, axes = _canvas(0.9 + 0.34 * len(rows))
    for place, row in enumerate(rows):
        colour = PALETTE[row.colour % len(PALETTE)]
        if row.ci95 is not None:
            axes.plot(row.ci95, (place, place), color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([row.mean], [place], marker="o", markersize=6, color=colour)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    shown = [bound for row in rows for bound in (row.mean, *(row.ci95 or ()))]
    low, high = axes.get_xlim()
    # No empty axis beyond what a share can be; a dot at the end keeps its half.
    axes.set_xlim(max(low, min(*shown, -0.005)), min(high, max(*shown, 1.005)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_xlabel(x, color=_INK, fontsize=_SMALL)
    return _svg(figure, salt="".join(f"{row.label}{row.mean}" for row in rows))


def _canvas(height: float) -> tuple[Figure, Axes]:
    # Figure itself, not pyplot: no window system, no global list of open figures.
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.6)
    axes.tick_params(colors=_INK, labelsize=_SMALL, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
        spine.set_alpha(0.5)
    return figure, axes


def _svg(figure: Figure, *, salt: str) -> str:
    """The figure as an `<svg>` element: text stays text, ink is `currentColor`, the same input gives the same bytes.

    Args:
        figure: What to draw.
        salt: Different for each figure of a page, or their clip paths get the same names.
    """
    content = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # figure_1, axes_1, …: once a page would be right
    svg = svg.replace(_INK, "currentColor").replace("'DejaVu Sans'", "system-ui")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
