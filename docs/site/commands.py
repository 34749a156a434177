"""The page of the command line, written from the commands themselves, so that it cannot fall behind them."""

from collections.abc import Iterator

import click
import typer.main

from nndl_suite.cli.app import app

_INTRODUCTION = """# Commands

Written from the commands themselves; `--help` after any of them says the same. Results go to stdout, progress and errors to
stderr. With `--json` a command prints one JSON object. Exit codes: 0 done, 1 failed (one sentence; `--debug` anywhere on the
line adds the traceback), 2 wrong usage, 130 interrupted.
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its whole name, in the order of `--help`."""
    yield from _below(typer.main.get_command(app), "nndl-suite")


def commands_page() -> str:
    """The page, in Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(name, command) for name, command in commands())])


def _below(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, one in below.items():
        yield from _below(one, f"{name} {word}")


def _section(name: str, command: click.Command) -> str:
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


def _names(parameter: click.Parameter) -> str:
    if parameter.param_type_name == "argument":
        return f"`{str(parameter.name).upper()}`"
    return ", ".join(f"`{name}`" for name in parameter.opts)


def _default(parameter: click.Parameter) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or callable(value) or value == "":
        return ""
    return f"`{value}`"


def _told(parameter: click.Parameter) -> str:
    choices = getattr(parameter.type, "choices", None)
    told = [str(getattr(parameter, "help", None) or "")]
    if choices:
        told.insert(0, " / ".join(f"`{choice}`" for choice in choices) + ".")
    return " ".join(told).replace("|", "\\|").replace("<", "&lt;").strip()
