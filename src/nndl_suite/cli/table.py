"""`nndl-suite table`: the figures of runs, for a paper, a spreadsheet or a script."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nndl_suite.cli.options import AsJson
from nndl_suite.cli.screen import print_json, print_lines, say

Form = Literal["csv", "latex", "markdown", "json"]
_SUFFIXES: dict[str, Form] = {".csv": "csv", ".tex": "latex", ".md": "markdown", ".json": "json"}


def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs, of any kind.")],
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="csv and json: a row for each figure; markdown and latex: a table for each kind of run. Else what "
            "--out ends in, else markdown.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write: .csv, .tex, .md or .json; else stdout.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put the figures of finished runs, with intervals and units, into a table for a paper or a spreadsheet.

    Examples:
      nndl-suite table runs/probe runs/cmp runs/can
      nndl-suite table runs/cmp --format latex --out comparison.tex
    """
    from nndl_suite.report.tables import write_table
    from nndl_suite.training.files import check_place, write_atomically

    ending = None if out is None else _SUFFIXES.get(out.suffix.lower())
    chosen = form or ending or ("json" if as_json else "markdown")
    text = write_table(runs, chosen)
    if out is None:
        print_lines(text.splitlines())
        return
    check_place(out)
    write_atomically(out, lambda part: part.write_text(text, encoding="utf-8"))
    if as_json:
        print_json({"file": str(out)})
    else:
        say(f"wrote {out.resolve()}")
