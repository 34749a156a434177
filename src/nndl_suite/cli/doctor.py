"""`nndl-suite doctor`: what this machine has, what is missing, what to do."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from nndl_suite.cli.options import AsJson, DataRoot
from nndl_suite.cli.screen import print_json, print_lines, print_table

if TYPE_CHECKING:
    from nndl_suite.doctor import Finding


def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Check this machine: Python, torch, devices, COLMAP, codecs, weights, data, disk; and say how to mend it.

    Nothing is downloaded or changed. It exits with 1 where something is broken that everybody needs; warnings are fine.

    Examples:
      nndl-suite doctor
      nndl-suite doctor --json
    """
    from nndl_suite.doctor import examine, is_healthy

    findings = examine(data_root)
    healthy = is_healthy(findings)
    if as_json:
        print_json({"kind": "doctor", "healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    if not healthy:
        raise typer.Exit(1)


def _show(findings: "tuple[Finding, ...]") -> None:
    rows = [[finding.state, finding.name, finding.found] for finding in findings]
    print_table("this machine", ["", "what", "found"], rows, colours={"ok": "green", "warn": "yellow", "fail": "red"})
    for title, wanted in (
        ("broken; to mend it:", ("fail",)),
        ("could be better; if it matters to you:", ("warn",)),
        ("optional:", ("ok",)),
    ):
        lines = [f"  {one.cure}  # {one.name}" for one in findings if one.state in wanted and one.cure is not None]
        if lines:
            print_lines([title, *lines, ""])
