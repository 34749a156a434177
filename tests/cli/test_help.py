import shlex
import subprocess
import sys
from typing import get_args

import pytest
import typer

from nndl_suite.cli.app import app
from nndl_suite.cli.options import DATASETS, METHODS, RECIPES, DeviceChoice
from nndl_suite.comparison.recipes import load_recipe
from nndl_suite.data import catalog
from nndl_suite.errors import ConfigError
from nndl_suite.representation import methods
from nndl_suite.training.fabric import Device

_WIDEST = 100
"""Columns of an example; a wider one is broken in many a terminal, and a broken one cannot be copied."""


def walked(command, words=()):
    yield words, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from walked(sub, (*words, name))


ROOT = typer.main.get_command(app)
COMMANDS = dict(walked(ROOT))


def examples(command):
    text = f"{command.help or ''}\n{command.epilog or ''}"
    assert "Example:" in text or "Examples:" in text
    return [line.strip() for line in text.splitlines() if line.strip().startswith("nndl-suite ")]


def parsed(words):
    """Click's parser down to the last command, which is not run."""
    command, context, rest = ROOT, None, list(words)
    while True:
        context = command.make_context(command.name, rest, parent=context)
        if not hasattr(command, "commands"):
            return context
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_help_has_examples_that_parse(words):
    found = examples(COMMANDS[words])
    assert found
    for line in found:
        first, *given = shlex.split(line)
        assert first == "nndl-suite"
        assert tuple(given[: len(words)]) == words, f"an example of another command: {line}"
        parsed(given)
        assert len(line) <= _WIDEST


def test_an_example_that_does_not_parse_would_be_found():
    with pytest.raises(Exception, match="No such option"):
        parsed(["compare", "--epoch", "3"])
    with pytest.raises(Exception, match="[Mm]issing"):
        parsed(["ssl", "pretrain", "--dataset", "demo"])


@pytest.mark.parametrize("words", [(), ("compare",), ("nerf", "train")], ids=" ".join)
def test_a_help_shows_its_examples_whole(words):
    done = subprocess.run(
        [sys.executable, "-m", "nndl_suite", *words, "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": str(_WIDEST + 4), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    for line in examples(COMMANDS[words]):
        assert line in done.stdout


def test_what_shells_complete_is_what_there_is():
    assert set(DATASETS) == {*catalog._NAMED, *(f"{prefix}:" for prefix in catalog._PREFIXED)}
    assert set(METHODS) == set(methods.METHODS)
    for recipe in RECIPES:
        load_recipe(recipe)
    with pytest.raises(ConfigError):
        load_recipe("slow")


def completed(words):
    """What bash would offer, as Typer's script asks for it."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'nndl-suite'; from nndl_suite.cli import main; main()"],
        capture_output=True,
        text=True,
        env={
            "_NNDL_SUITE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
        },
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("nndl-suite ssl pre", ["pretrain"]),
        ("nndl-suite ssl pretrain --method sim", ["simclr", "simsiam"]),
        ("nndl-suite compare --dataset cifar", ["cifar10", "cifar100"]),
        ("nndl-suite ssl probe --protocol f", ["finetune"]),
    ],
)
def test_shells_complete_commands_and_names(words, offered):
    assert completed(words) == offered


def test_devices_of_the_help_are_those_of_the_package():
    assert get_args(DeviceChoice) == get_args(Device)
