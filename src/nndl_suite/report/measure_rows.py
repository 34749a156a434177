"""What a comparison measures beside accuracy, as rows of a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from nndl_suite.report import words
from nndl_suite.report.pictures import as_interval, as_number, as_object
from nndl_suite.training.files import Json

Result = Mapping[str, Json]
Show = Callable[[float], str]

_MEASURES = (
    ("top5", "top-5"),
    ("train_accuracy", "on training images"),
    ("gap", "gap to test images"),
    ("corrupted", "on corrupted images"),
    ("ece", "ECE"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A mean and its interval, in words."""

    mean: str
    interval: str
    """Empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRow:
    """One measure of both arms, and their paired difference."""

    label: str
    cells: tuple[Cell, ...]
    """By arm, then the second minus the first."""


def measure_rows(result: Result) -> tuple[MeasureRow, ...]:
    """What is measured beside accuracy, arm by arm; empty unless both have scores for one seed."""
    if result["difference"] is None:
        return ()
    arms = [as_object(as_object(arm)["measures"]) for arm in cast(list[Json], result["arms"])]
    difference = as_object(as_object(result["difference"])["measures"])

    def row(key: str, label: str, show: Show, show_signed: Show) -> MeasureRow:
        cells = [*(_cell(as_object(arm[key]), show) for arm in arms), _cell(as_object(difference[key]), show_signed)]
        return MeasureRow(label=label, cells=tuple(cells))

    rows = [row(key, label, words.percent, words.points) for key, label in _MEASURES if difference[key] is not None]
    return (*rows, row("nll", "NLL (nats)", "{:.3f}".format, "{:+.3f}".format))


def _cell(measure: dict[str, Json], show: Show) -> Cell:
    ci95 = as_interval(measure["ci95"])
    interval = "" if ci95 is None else f"{show(ci95[0]).removesuffix(' %')} to {show(ci95[1])}"
    return Cell(mean=show(as_number(measure["mean"])), interval=interval)
