"""Figures as inline SVG that takes its ink from the page, so that one drawing serves light and dark."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nndl_suite.report.colours import PALETTE, css_colour

_INK = "#0a0b0c"  # stands for the page's own text colour until the SVG is written
_WIDTH, _HEIGHT = 4.2, 2.6  # inches; small, so that a phone shows the letters at their size
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Shares by label, such as gains of classes."""

    label: str
    colour: int
    values: Sequence[float]
    ci95: Sequence[tuple[float, float] | None] = ()
    """One for each value, or none at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Points, and the curve that was fitted to them, with its 95 % band; no curve where `curve_x` is empty."""

    label: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]
    curve_x: Sequence[float]
    curve_y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curves(lines: Sequence[Line], *, x: str, y: str, percent: bool = False, mark: float | None = None) -> str:
    """Curves over a common axis; `percent` shows shares as per cent, `mark` is an x to draw a line at."""
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
    if mark is not None:
        axes.axvline(mark, color=_INK, linewidth=0.9, linestyle=(0, (2, 2)), alpha=0.7)
    whole = all(float(place).is_integer() for line in lines for place in line.x)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=whole))
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


def differences(labels: Sequence[str], series: Sequence[Differences], *, x: str) -> str:
    """Signed shares as dots left and right of zero, a label a row from the top, all series in each row."""
    figure, axes = _canvas(0.9 + 0.26 * len(labels))
    axes.axvline(0, color=_INK, linewidth=0.8, alpha=0.6)
    _dots(axes, labels, series)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=""))
    axes.set_xlabel(x, color=_INK, fontsize=_SMALL)
    return _svg(figure, salt="".join(f"{one.label}{sum(one.values)}" for one in series))


def shares(labels: Sequence[str], series: Sequence[Differences], *, x: str) -> str:
    """Shares as dots, a label a row from the top, all series in each row."""
    figure, axes = _canvas(0.9 + 0.26 * len(labels))
    _dots(axes, labels, series)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_xlabel(x, color=_INK, fontsize=_SMALL)
    return _svg(figure, salt="".join(f"{one.label}{one.values}" for one in series))


def _dots(axes: Axes, labels: Sequence[str], series: Sequence[Differences]) -> None:
    for one in series:
        colour = PALETTE[one.colour % len(PALETTE)]
        for place, interval in enumerate(one.ci95):
            if interval is not None:
                axes.plot(interval, (place, place), color=colour, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
        axes.plot(one.values, range(len(labels)), linestyle="none", marker="o", color=colour, label=one.label)
    axes.set_yticks(range(len(labels)), list(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -1.02), min(high, 1.02))  # the t interval of two seeds may go where no share can be
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    if len(series) > 1:
        axes.legend(
            frameon=False, labelcolor=_INK, fontsize=_SMALL, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2
        )


def fitted_curves(series: Sequence[Fitted], *, x: str, y: str) -> str:
    """Shares against sizes on a logarithmic axis, with fitted curves and their bands."""
    figure, axes = _canvas(_HEIGHT)
    for one in series:
        colour = PALETTE[one.colour % len(PALETTE)]
        axes.fill_between(one.curve_x, one.low, one.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(one.curve_x, one.curve_y, color=colour, linewidth=1.6)
        axes.plot(one.x, one.y, linestyle="none", marker="o", markersize=4, color=colour, label=one.label)
    axes.set_xscale("log")
    sizes = sorted({size for one in series for size in one.x})
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_xlabel(x, color=_INK, fontsize=_SMALL)
    axes.set_ylabel(y, color=_INK, fontsize=_SMALL)
    if len(series) > 1:
        axes.legend(frameon=False, labelcolor=_INK, fontsize=_SMALL)
    return _svg(figure, salt=f"{x}{y}{[one.y for one in series]}")


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
    for place, colour in enumerate(PALETTE):  # they stand in style attributes, where variables count
        svg = svg.replace(colour, css_colour(place))
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
