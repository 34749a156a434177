"""Results as tables for elsewhere: CSV and JSON one figure a row, Markdown and LaTeX one run or arm a row."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nndl_suite.errors import RunError, unknown_name
from nndl_suite.report.measured import Measured, Unit, measured

TableFormat = Literal["csv", "latex", "markdown", "json"]

_DECIMALS: dict[Unit, int] = {"share": 2, "difference of shares": 2, "dB": 2, "s": 1, "images/s": 0, "count": 0}
"""Of what has no other unit: 3."""
_HEADS: dict[Unit, str] = {"share": " (%)", "difference of shares": " (%)", "count": "", "": ""}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True, slots=True)
class _Wide:
    """One kind's figures, with a column for each measure."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    """How many columns, from the left, hold words."""


def write_table(runs: Sequence[Path | str], form: TableFormat) -> str:
    """The figures of finished runs as text.

    Args:
        runs: Run folders, in the order of the rows.
        form: "csv" and "json" have a row for each figure: its run, kind, name, setting, measure, unit, value, the ends
            of its 95 % interval (empty where there is none) and how many seeds it is of; shares lie in [0, 1].
            "markdown" and "latex" (which wants the package booktabs) have a table for each kind of run; shares are in
            per cent, intervals in brackets.

    Raises:
        ConfigError: no such format.
        RunError: no run, an unfinished one, or a damaged `result.json`.
    """
    if not runs:
        raise RunError("a table wants at least one run folder")
    if form not in _WRITERS:
        raise unknown_name("format of a table", form, _WRITERS)
    return _WRITERS[form]([one for run in runs for one in measured(run)])


def _csv(figures: Sequence[Measured]) -> str:
    text = io.StringIO()
    names = ["run", "kind", "name", "setting", "measure", "unit", "value", "low", "high", "seeds"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for one in figures:
        row = asdict(one)
        low, high = row.pop("ci95") or ("", "")
        writer.writerow({**row, "low": low, "high": high})
    return text.getvalue()


def _json(figures: Sequence[Measured]) -> str:
    return json.dumps({"rows": [asdict(one) for one in figures]}, indent=2, ensure_ascii=False) + "\n"


def _markdown(figures: Sequence[Measured]) -> str:
    return "\n".join(_markdown_table(_wide(figures, kind)) for kind in _kinds(figures))


def _markdown_table(table: _Wide) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"([\\|`*_<\[])", r"\\\1", one) for one in cells) + " |"

    numbers = len(table.head) - table.words
    rule = "|" + "---|" * table.words + "---:|" * numbers
    return "\n".join([line(table.head), rule, *(line(row) for row in table.rows)]) + "\n"


def _latex(figures: Sequence[Measured]) -> str:
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex_table(_wide(figures, kind)) for kind in _kinds(figures))


def _latex_table(table: _Wide) -> str:
    def line(cells: Sequence[str]) -> str:
        words = [_in_latex(cell) for cell in cells[: table.words]]
        numbers = [re.sub(r"-(?=\d)", "$-$", _in_latex(cell)) for cell in cells[table.words :]]
        return " & ".join([*words, *numbers]) + r" \\"

    head = " & ".join(map(_in_latex, table.head)) + r" \\"
    columns = "l" * table.words + "r" * (len(table.head) - table.words)
    body = [head, r"\midrule", *(line(row) for row in table.rows)]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _kinds(figures: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(one.kind for one in figures))


def _wide(figures: Sequence[Measured], kind: str) -> _Wide:
    shown = [one for one in figures if one.kind == kind]
    measures = {one.measure: one.measure + _HEADS.get(one.unit, f" ({one.unit})") for one in reversed(shown)}
    measures = {name: measures[name] for name in dict.fromkeys(one.measure for one in shown)}
    rows: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for one in shown:
        rows.setdefault((one.run, one.name, one.setting, str(one.seeds)), {})[one.measure] = _cell(one)
    return _Wide(
        head=("run", kind, "setting", "seeds", *measures.values()),
        rows=tuple((*words, *(cells.get(name, "") for name in measures)) for words, cells in rows.items()),
        words=4,
    )


def _cell(one: Measured) -> str:
    scale = 100 if one.unit in ("share", "difference of shares") else 1
    sign = "+" if one.unit == "difference of shares" else ""
    decimals = _DECIMALS.get(one.unit, 3)

    def number(value: float) -> str:
        if one.unit == "" and float(value).is_integer():
            return f"{value:,.0f}"
        if one.unit == "" and abs(value) < 0.01:
            return f"{value:.3g}"
        return f"{scale * value:{sign},.{decimals}f}"

    interval = "" if one.ci95 is None else f" [{number(one.ci95[0])}, {number(one.ci95[1])}]"
    return number(one.value) + interval


_WRITERS: dict[TableFormat, Callable[[Sequence[Measured]], str]] = {
    "csv": _csv,
    "latex": _latex,
    "markdown": _markdown,
    "json": _json,
}
