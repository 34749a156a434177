"""The page of the command line, written from the commands themselves, so that it cannot fall behind them."""

from collections.abc import Iterator
from typing import Any

import typer.main

from nndl_suite.cli.app import app

_INTRODUCTION = """# Commands

Written from the commands themselves; `--help` after any of them says the same. Results go to stdout, progress and
errors to stderr. With `--json` a command prints one JSON object. Exit codes: 0 done, 1 failed (one sentence; `--debug`
anywhere on the line adds the traceback), 2 wrong usage, 130 interrupted.
"""

Command = Any
Parameter = Any
"""Click's, which some versions of Typer bring along under a name of their own."""


def commands() -> Iterator[tuple[str, Command]]:
    """Every command that does something, by its whole name, in the order of `--help`."""
    yield from _below(typer.main.get_command(app), "nndl-suite")


def commands_page() -> str:
    """The page, in Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(name, command) for name, command in commands())])


def _below(command: Command, name: str) -> Iterator[tuple[str, Command]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, one in below.items():
        yield from _below(one, f"{name} {word}")


def _section(name: str, command: Command) -> str:
    told, _, example = (command.help or "").partition("Example: ")
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    words = [name, *(str(one.name).upper() for one in arguments), "[OPTIONS]"]
    parts = [f"## {name}", told.strip(), f"```console\n$ {example.strip() or ' '.join(words)}\n```"]
    for title, some in (("argument", arguments), ("option", options)):
        if some:
            rows = [f"| {_names(one)} | {_default(one)} | {_told(one)} |" for one in some]
            parts.append("\n".join([f"| {title} | default | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _names(parameter: Parameter) -> str:
    if parameter.param_type_name == "argument":
        return f"`{str(parameter.name).upper()}`"
    return ", ".join(f"`{name}`" for name in parameter.opts)


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or callable(value) or value == "":
        return ""
    return f"`{value}`"


def _told(parameter: Parameter) -> str:
    described = getattr(parameter, "type_descriptor", None) or getattr(parameter, "type", None)
    choices = " / ".join(f"`{choice}`" for choice in getattr(described, "choices", None) or ())
    told = " ".join(f"{choices and choices + '.'} {getattr(parameter, 'help', None) or ''}".split())
    return told.replace("|", "\\|").replace("<", "&lt;")
