"""Running what pages show: their fenced blocks of Python and of the console, as a reader would type them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from nndl_suite.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    line: int
    """Of the page, of its first line."""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that can be run, in order."""
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if block.language in {"python", "console"}]


def run_page(page: Path) -> None:
    """Run all blocks of a page in one namespace, in the working directory."""
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language == "python":
            code = "\n" * (block.line - 1) + block.text  # so that a traceback has the page's lines
            exec(compile(code, str(page), "exec"), names)  # noqa: S102
        else:
            for line in block.text.splitlines():
                run_line(line)


def run_line(line: str) -> None:
    """Run one line of a console; what is not typed by a reader is passed over."""
    if not line.startswith("$ "):
        return
    program, *words = shlex.split(line.removeprefix("$ "), comments=True)
    assert program == "nndl-suite", line
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, (line, done.output)
