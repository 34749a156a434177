"""`nndl-suite log`, and `--tensorboard` and `--log-to` of what trains."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nndl_suite.cli.options import AsJson
from nndl_suite.cli.screen import print_json, say
from nndl_suite.training.environment import is_told_first

if TYPE_CHECKING:
    from nndl_suite.logs import Sink


class Service(StrEnum):
    """Where a log can go as it grows; an enumeration, for Typer takes no list of literals."""

    WANDB = "wandb"
    TRACKIO = "trackio"


AsEvents = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files for TensorBoard into the run as it trains.")
]
LogTo = Annotated[
    list[Service] | None, typer.Option("--log-to", help="Send the log there too as it grows; may be given twice.")
]


@contextmanager
def logged(
    out: Path, *, tensorboard: bool = False, log_to: Sequence[Service] | None = None
) -> Generator[None, None, None]:
    """Pass the log of the run that the block trains on as was asked; the first of several processes does it."""
    if not is_told_first() or not (tensorboard or log_to):
        yield
        return
    from nndl_suite.logs import following

    with ExitStack() as stack:
        for name in (*(("tensorboard",) if tensorboard else ()), *dict.fromkeys(log_to or ())):
            stack.enter_context(following(out, _sink(name), note=lambda text: say(f"note: {text}")))
        yield


def log(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.")],
    to: Annotated[Literal["tensorboard", "wandb", "trackio"], typer.Option("--to", help="Where the log goes.")],
    as_json: AsJson = False,
) -> None:
    """Pass on what runs have logged, to TensorBoard, Weights & Biases or trackio.

    Commands that train do so while they train, with --tensorboard and --log-to.

    Examples:
      nndl-suite log runs/simclr --to tensorboard
      nndl-suite log runs/cmp runs/fast --to trackio
    """
    from nndl_suite.logs import pass_on

    rows = sum(pass_on(run, _sink(to)) for run in runs)
    if as_json:
        print_json({"runs": [str(run) for run in runs], "to": to, "rows": rows})
    else:
        seen = "; look at them with: tensorboard --logdir " + str(runs[0]) if to == "tensorboard" else ""
        say(f"passed {rows} rows on to {to}{seen}")


def _sink(name: str) -> "Callable[[Path], Sink]":
    from nndl_suite import logs

    return {"tensorboard": logs.TensorBoard, "wandb": logs.Wandb, "trackio": logs.Trackio}[name]
