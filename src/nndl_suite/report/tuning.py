"""What the page shows of a tuning, from its `result.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line
from nndl_suite.report.pictures import Picture, as_number, as_object, curve_picture, interval_picture
from nndl_suite.training.files import Json

Result = Mapping[str, Json]

_COLOURS = {"complete": 0, "pruned": 1}


def tuning_pictures(result: Result, _: Path) -> tuple[Picture, ...]:
    """The history of the trials, the epochs of each, which settings mattered, and accuracy along each of them."""
    trials = [as_object(trial) for trial in cast(list[Json], result["trials"])]
    scored = [trial for trial in trials if trial["val_accuracy"] is not None]
    pictures = [_history(scored), _curves(scored, as_object(result["best"]))]
    if result["importance"] is not None:
        pictures.append(_importance(as_object(result["importance"])))
    spans = {name: as_object(span) for name, span in as_object(result["space"]).items()}
    pictures += [_slice(scored, name, log=span["log"] is True) for name, span in spans.items() if "low" in span]
    return tuple(pictures)


def _history(trials: Sequence[dict[str, Json]]) -> Picture:
    """Each trial as a dot, and the best so far as a line."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best, places = [], [as_number(trial["number"]) for trial in complete]
    for trial in complete:
        best.append(max(as_number(trial["val_accuracy"]), *best[-1:], 0.0))
    lines = [_dot(trial, as_number(trial["number"])) for trial in trials]
    lines.append(Line(label="the best so far", colour=2, x=places, y=best))
    told = "Line: the best so far. Dots: blue complete, orange pruned; those that failed are missing."
    return curve_picture(lines, x="trial", y="validation accuracy", caption=told, percent=True)


def _curves(trials: Sequence[dict[str, Json]], best: dict[str, Json]) -> Picture:
    lines = [
        Line(
            label="the best trial" if trial["number"] == best["number"] else "another",
            colour=_COLOURS[str(trial["state"])],
            x=range(1, len(curve) + 1),
            y=curve,
            faint=trial["number"] != best["number"],
        )
        for trial in trials
        if (curve := [as_number(value) for value in cast(list[Json], trial["curve"])])
    ]
    told = "Every trial by epoch; thick: the best; orange: pruned."
    return curve_picture(lines, x="epoch", y="validation accuracy", caption=told, percent=True)


def _importance(shares: dict[str, Json]) -> Picture:
    rows = [Estimate(label=name.replace("_", " "), mean=as_number(share), ci95=None) for name, share in shares.items()]
    told = (
        "What sets the best quarter of the complete trials apart from all of them (PED-ANOVA); few trials say little."
    )
    return replace(interval_picture(rows, "share of importance"), caption=told)


def _slice(trials: Sequence[dict[str, Json]], name: str, *, log: bool) -> Picture:
    """Validation accuracy along one setting."""
    named = name.replace("_", " ")
    lines: list[Line] = []
    for trial in trials:
        value = as_number(as_object(trial["settings"])[name])
        lines.append(_dot(trial, math.log10(value) if log else value))
    axis = f"log10 of {named}" if log else named
    top = max(trials, key=lambda trial: as_number(trial["val_accuracy"]))
    at = words.brief(as_object(top["settings"])[name])
    picture = curve_picture(lines, x=axis, y="validation accuracy", caption="", percent=True)
    return replace(
        picture,
        alt=f"Validation accuracy by {named}: the highest at {at}.",
        caption=f"Trials by {named}; orange: pruned. The highest is at {at}.",
    )


def _dot(trial: dict[str, Json], x: float) -> Line:
    state = str(trial["state"])
    return Line(label=state, colour=_COLOURS[state], x=[x], y=[as_number(trial["val_accuracy"])], faint=True)
