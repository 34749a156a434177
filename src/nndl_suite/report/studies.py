"""What the page draws of a study, a scale and a sweep, from their `result.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from markupsafe import Markup

from nndl_suite.report import words
from nndl_suite.report.embedding import map_pictures
from nndl_suite.report.figures import Differences, Estimate, Fitted, differences, fitted_curves
from nndl_suite.report.pictures import Picture, as_interval, as_number, as_object, interval_picture
from nndl_suite.training.files import Json

_SHOWN_CLASSES = 20

Result = Mapping[str, Json]


def study_pictures(result: Result, folder: Path) -> tuple[Picture, ...]:
    """The rows of each protocol, what the best SSL row gains and where, and maps of test images."""
    rows = [as_object(row) for row in cast(list[Json], result["rows"])]
    pictures = [_rows_picture(rows, str(protocol)) for protocol in cast(list[Json], result["protocols"])]
    best = as_object(result["best_ssl"])
    shown = next(row for row in rows if (row["name"], row["protocol"]) == (best["name"], best["protocol"]))
    gains = _gains_picture(shown, [str(name) for name in cast(list[Json], result["class_names"])])
    if gains is not None:
        pictures.append(gains)
    superclasses = {name: cast(list[int], labels) for name, labels in as_object(result["superclasses"]).items()}
    names = [str(name) for name in cast(list[Json], result["class_names"])]
    return (*pictures, *map_pictures(folder, names, superclasses))


def _rows_picture(rows: Sequence[dict[str, Json]], protocol: str) -> Picture:
    shown = [row for row in rows if row["protocol"] == protocol]
    kinds = ("ssl", "imagenet", "scratch", "random")
    return interval_picture(
        [
            Estimate(
                label=str(row["name"]),
                mean=as_number(row["mean"]),
                ci95=as_interval(row["ci95"]),
                colour=kinds.index(str(row["kind"])),
            )
            for row in shown
        ],
        f"test accuracy, {protocol} protocol",
    )


def _gains_picture(row: dict[str, Json], class_names: Sequence[str]) -> Picture | None:
    """By superclass where there are some, else by class, the greatest and the least if there are many."""
    over = {
        name: as_object(row[f"gain_over_{name}"])
        for name in ("random", "scratch")
        if row[f"gain_over_{name}"] is not None
    }
    if not over:
        return None
    by_group = {name: _by_group(gain, class_names) for name, gain in over.items()}
    first = next(iter(by_group.values()))
    labels = sorted(
        (label for label in first if all(label in gains for gains in by_group.values())),
        key=lambda label: -first[label],
    )
    if len(labels) > _SHOWN_CLASSES:
        labels = labels[: _SHOWN_CLASSES // 2] + labels[-_SHOWN_CLASSES // 2 :]
    series = [
        Differences(label=f"over {name}", colour=colour, values=[gains[label] for label in labels])
        for colour, (name, gains) in enumerate(by_group.items())
    ]
    what = "superclass" if any(gain["per_superclass"] for gain in over.values()) else "class"
    told = "; ".join(f"{label} {words.points(first[label])}" for label in labels)
    svg = differences(labels, series, x="points of accuracy gained")
    return Picture(
        svg=Markup(svg),  # noqa: S704 - drawn by matplotlib, which escapes its texts
        alt=f"Points gained over {next(iter(over))}: {told}.",
        caption=f"What {row['name']} gains by {what}, {row['protocol']} protocol, in points of accuracy.",
    )


def _by_group(gain: dict[str, Json], class_names: Sequence[str]) -> dict[str, float]:
    groups = as_object(gain["per_superclass"])
    if groups:
        return {name: as_number(value) for name, value in groups.items()}
    values = cast(list[Json], gain["per_class"])
    return {name: as_number(value) for name, value in zip(class_names, values, strict=True) if value is not None}


def scale_pictures(result: Result, _: Path) -> tuple[Picture, ...]:
    """Accuracy against images, both budgets in one drawing."""
    points = [as_object(point) for point in cast(list[Json], result["points"])]
    curves = as_object(result["curves"])
    series: list[Fitted] = []
    for colour, fixed in enumerate(str(budget) for budget in cast(list[Json], result["fixed"])):
        drawn = [point for point in points if point["fixed"] == fixed]
        curve = as_object(curves.get(fixed))
        series.append(
            Fitted(
                label=f"fixed {fixed}",
                colour=colour,
                x=[as_number(point["images"]) for point in drawn],
                y=[as_number(point["test_accuracy"]) for point in drawn],
                curve_x=_numbers(curve.get("images")),
                curve_y=_numbers(curve.get("accuracy")),
                low=_numbers(curve.get("low")),
                high=_numbers(curve.get("high")),
            )
        )
    told = "; ".join(
        f"{one.label} from {words.percent(one.y[0])} at {one.x[0]:,.0f} images "
        f"to {words.percent(one.y[-1])} at {one.x[-1]:,.0f}"
        for one in series
    )
    picture = Picture(
        svg=Markup(fitted_curves(series, x="pretraining images", y="test accuracy")),  # noqa: S704 - as above
        alt=f"Test accuracy against pretraining images: {told}.",
        caption="Dots: one subset and seed. Lines: the fitted law, with its 95 % band by resampled residuals.",
    )
    return (picture,)


def _numbers(node: Json) -> list[float]:
    return [as_number(value) for value in cast(list[Json], node or [])]


def sweep_pictures(result: Result, _: Path) -> tuple[Picture, ...]:
    """Validation accuracy of every combination, the chosen one in another colour."""
    rows = [
        Estimate(
            label=", ".join(words.brief(value) for value in as_object(as_object(row)["settings"]).values()),
            mean=as_number(as_object(row)["mean"]),
            ci95=as_interval(as_object(row)["ci95"]),
            colour=int(place == result["chosen"]),
        )
        for place, row in enumerate(cast(list[Json], result["rows"]))
    ]
    names = ", ".join(as_object(result["vary"])).replace("_", " ")
    intervals = " with 95 % intervals over seeds" if rows[0].ci95 else ""
    told = f"Validation accuracy by {names}{intervals}; the chosen combination in the other colour."
    return (replace(interval_picture(rows, f"validation accuracy by {names}"), caption=told),)


def formula(curve: Result) -> str:
    """The fitted law of a curve, for a person; u is the share of the largest set."""
    a, b = as_number(curve["a"]), as_number(curve["b"])
    if curve["form"] == "power law":
        return f"error = {a:.3f} {_signed(b)} u^-{as_number(curve['c']):.3f}"
    return f"error = {a:.3f} {_signed(-b)} ln u"


def _signed(term: float) -> str:
    return f"{'-' if term < 0 else '+'} {abs(term):.3f}"
