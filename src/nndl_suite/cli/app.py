"""The `nndl-suite` command and its groups."""

import errno
import logging
import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from nndl_suite import __version__
from nndl_suite.cli import (
    compare,
    data,
    demo,
    doctor,
    logs,
    nerf,
    report,
    ssl,
    ssl_export,
    ssl_studies,
    table,
    train,
    tune,
)
from nndl_suite.cli.screen import say_error, say_warnings
from nndl_suite.errors import Interrupted, NndlError
from nndl_suite.training.command import begun_by
from nndl_suite.training.environment import is_told_first
from nndl_suite.training.memory import lacks_memory

_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

app = typer.Typer(
    name="nndl-suite",
    help="Three vision experiments from raw input to an answer people can trust.",
    epilog="Examples:\n\n  nndl-suite doctor\n\n  nndl-suite demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
ssl.app.command("study")(ssl_studies.study)
ssl.app.command("scale")(ssl_studies.scale)
ssl.app.command("sweep")(ssl_studies.sweep)
ssl.app.command("export")(ssl_export.export)
app.add_typer(ssl.app, name="ssl")
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.add_typer(nerf.app, name="nerf")
app.add_typer(data.app, name="data")
app.command("report")(report.report)
app.command("table")(table.table)
app.command("log")(logs.log)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nndl-suite {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Three vision experiments from raw input to an answer people can trust."""


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    _write_every_letter()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    for name in ("rank_zero", "distributed"):  # which announce the precision, and each process
        logging.getLogger(f"lightning_fabric.utilities.{name}").setLevel(logging.WARNING)
    say_warnings()
    _say_no_lost_interrupt()
    try:
        _run(arguments, debug=len(arguments) < len(sys.argv) - 1)
    except KeyboardInterrupt:  # a second one, while the first was put into words
        sys.exit(130)
    finally:
        # nothing is left to stop, and a Ctrl-C in the interpreter's own end would print a traceback
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(arguments: list[str], *, debug: bool) -> None:
    try:
        with begun_by(["nndl-suite", *arguments]):
            app(arguments)
    except Interrupted as stopped:
        _say(stopped)
        sys.exit(130)
    except SystemExit as done:
        if done.code == 130 and is_told_first():  # Typer's for Ctrl-C
            say_error("interrupted; a command that writes a run goes on with --resume")
        raise
    except NndlError as error:
        if debug:
            raise
        _say(error)
        sys.exit(1)
    except Exception as bug:  # noqa: BLE001 - the last line of defence: a person sees one sentence, --debug the rest
        if debug:
            raise
        say_error(_lack(bug) or f"{type(bug).__name__}: {bug} - this is a bug; run again with --debug to see where")
        sys.exit(1)


def _say_no_lost_interrupt() -> None:
    """A Ctrl-C in a callback from C code, as of numba's compiler, is lost there; Python would print a traceback."""
    say = sys.unraisablehook

    def unless_interrupt(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            say(lost)

    sys.unraisablehook = unless_interrupt


def _write_every_letter() -> None:
    """A letter that an old terminal lacks must not end a run; it is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(error: NndlError) -> None:
    """An error, unless the first of several processes says it."""
    if not error.told:
        say_error(str(error) if is_told_first() else f"in one process of several: {error}")


def _lack(error: Exception) -> str | None:
    """What the machine lacks, where that is why something failed."""
    go_on = "a command that writes a run goes on with --resume"
    if lacks_memory(error):
        return f"not enough memory ({error}); close other programs, or ask for smaller batches or images; {go_on}"
    if "DataLoader worker" in str(error):  # torch says so wherever the command happens to be
        return f"a process that reads images was killed, as happens when memory runs out ({error}); {go_on}"
    if isinstance(error, SystemError):  # C code that failed and did not say why
        return f"Python itself failed, as happens when memory runs out ({error}); {go_on}"
    if isinstance(error, OSError) and error.errno in _NO_DISK:
        where = "" if error.filename is None else f" {error.filename}"
        return f"cannot write{where}: {error.strerror}; free some space; {go_on}"
    return None
