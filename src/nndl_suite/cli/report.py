"""`nndl-suite report`: one page for one run or many."""

from pathlib import Path
from typing import Annotated

import typer

from nndl_suite.cli.options import AsJson
from nndl_suite.cli.screen import print_json, say


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The HTML file; else report.html, in the run folder where there is one run."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page about runs, finished or not.

    Examples:
      nndl-suite report runs/can
      nndl-suite report runs/probe runs/cmp runs/can --out report.html
    """
    from nndl_suite.report.page import write_report

    page = write_report(runs, out or (runs[0] if len(runs) == 1 else Path()) / "report.html")
    if as_json:
        print_json({"report": str(page)})
    else:
        say(f"report: {page.resolve()}")
