"""What the page shows of a comparison: curves at equal budgets, scores side by side, and where the arms differ."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import cast

from markupsafe import Markup

from nndl_suite.report import words
from nndl_suite.report.figures import Differences, Estimate, Line, differences, shares
from nndl_suite.report.pictures import (
    Metrics,
    Picture,
    as_interval,
    as_number,
    as_object,
    curve_picture,
    interval_picture,
    thinned,
)
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

Result = Mapping[str, Json]
Show = Callable[[float], str]

_SHOWN_CLASSES = 20


def comparison_pictures(result: Result | None, folder: Path) -> tuple[Picture, ...]:
    """All drawings of a comparison; of one that is unfinished, the curves of its logs."""
    pictures = list(_log_curves(_logs_by_arm(folder), result))
    if result is None:
        return tuple(pictures)
    arms = _arms(result)
    coloured = [(colour, arm) for colour, arm in enumerate(arms) if arm["seeds"]]
    if len(coloured) == 2:
        pictures += _budget_curves(arms, as_object(result["crossing"]))
    if coloured:
        rows = [
            Estimate(label=str(arm["name"]), mean=as_number(arm["mean"]), ci95=as_interval(arm["ci95"]), colour=colour)
            for colour, arm in coloured
        ]
        pictures.append(interval_picture(rows, "test accuracy"))
        pictures.append(_corruptions_picture(coloured))
    if result.get("learning_curve"):
        pictures.append(_learning_curve(result))
    if result["difference"] is not None:
        pictures += _difference_pictures(result)
    return tuple(pictures)


def _arms(result: Result) -> list[dict[str, Json]]:
    return [as_object(arm) for arm in cast(list[Json], result["arms"])]


def _logs_by_arm(run: Path) -> dict[str, list[Metrics]]:
    """The logs of all seeds by the arm's name, in the order of the run's settings."""
    named = list(as_object(as_object(RunFolder(run).config().get("settings")).get("arms")))
    logs: dict[str, list[Metrics]] = {name: [] for name in named}
    for path in sorted(path for path in (run / "arms").glob("*-seed*") if (path / "config.json").is_file()):
        name = re.sub(r"-seed-?\d+$", "", path.name)
        logs.setdefault(name, []).append(RunFolder(path).overview("val_accuracy"))
    return {name: seeds for name, seeds in logs.items() if seeds}


def _log_curves(logs: dict[str, list[Metrics]], result: Result | None) -> Iterable[Picture]:
    crossing = as_object(result["crossing"]) if result else {}
    told = _crossing_told(crossing, "epochs", lambda at: f"epoch {at:.1f}") if crossing else ""
    mark = _crossing_place(crossing, "epochs")
    accuracy = [
        [([r["epoch"] for r in log if "epoch" in r], [r["val_accuracy"] for r in log if "epoch" in r]) for log in seeds]
        for seeds in logs.values()
    ]
    caption = f"On the tenth held out of the training images.{told}"
    lines = _lines_with_means(list(logs), accuracy)
    if lines:
        yield curve_picture(
            lines, x="epoch", y="validation accuracy", caption=caption + _key(lines), percent=True, mark=mark
        )
    losses = [[thinned(log, "loss") for log in seeds] for seeds in logs.values()]
    lines = _lines_with_means(list(logs), losses)
    if lines:
        caption = f"On augmented images, batch by batch.{_key(lines)}"
        yield curve_picture(lines, x="step", y="training loss", caption=caption)


def _lines_with_means(names: Sequence[str], drawn: Sequence[Sequence[tuple[list[float], list[float]]]]) -> list[Line]:
    """Each seed thin where there are several, and each arm's mean, as far as all of its seeds go."""
    lines: list[Line] = []
    for colour, (arm, seeds) in enumerate(zip(names, drawn, strict=True)):
        curves = [curve for curve in seeds if curve[0]]
        if len(curves) > 1:
            lines += [Line(label=arm, colour=colour, x=xs, y=ys, faint=True) for xs, ys in curves]
        if curves:
            common = min(len(xs) for xs, _ in curves)
            mean = [fmean(ys[i] for _, ys in curves) for i in range(common)]
            lines.append(Line(label=arm, colour=colour, x=curves[0][0][:common], y=mean))
    return lines


def _key(lines: Sequence[Line]) -> str:
    return " Thin: each seed; thick: their mean." if any(line.faint for line in lines) else ""


def _budget_curves(arms: Sequence[dict[str, Json]], crossing: dict[str, Json]) -> Iterable[Picture]:
    """The mean validation curves at equal training FLOPs and at equal seconds."""
    curves = [as_object(arm["curve"]) for arm in arms]
    for budget, what in (("flops", "training FLOPs"), ("seconds", "training time")):
        most = max(_numbers(curve[budget])[-1] for curve in curves)
        unit, name = words.scale_of(budget, most)
        lines = [
            Line(
                label=str(arm["name"]),
                colour=colour,
                x=[place / unit for place in _numbers(curve[budget])],
                y=_numbers(curve["val_accuracy"]),
            )
            for colour, (arm, curve) in enumerate(zip(arms, curves, strict=True))
        ]
        place = _crossing_place(crossing, budget)
        told = _crossing_told(crossing, budget, lambda at, unit=unit, name=name: f"{at / unit:.3g} {name}")
        how = (
            "Three times the forward FLOPs of every image trained on, at its size; mean over seeds."
            if budget == "flops"
            else "On the machine named below, validation included, mean over seeds."
        )
        yield curve_picture(
            lines,
            x=f"{what} ({name})",
            y="validation accuracy",
            caption=how + told,
            percent=True,
            mark=None if place is None else place / unit,
        )


def _crossing_place(crossing: dict[str, Json], budget: str) -> float | None:
    found = crossing.get(budget)
    return None if found is None else as_number(as_object(found)["at"])


def _crossing_told(crossing: dict[str, Json], budget: str, place: Show) -> str:
    if crossing[budget] is None:
        return " As far as both go, neither overtakes the other for good."
    found = as_object(crossing[budget])
    return (
        f" From {place(as_number(found['at']))} on (dotted) {found['leader']} stays ahead, "
        f"at {words.percent(as_number(found['val_accuracy']))}."
    )


def _learning_curve(result: Result) -> Picture:
    points = [as_object(point) for point in cast(list[Json], result["learning_curve"])]
    lines = [
        Line(
            label=str(arm["name"]),
            colour=colour,
            x=[as_number(point["images"]) for point in points],
            y=[as_number(as_object(cast(list[Json], point["arms"])[colour])["mean"]) for point in points],
        )
        for colour, arm in enumerate(_arms(result))
    ]
    gaps = "; ".join(f"{words.count(images)} images {words.points(gap)}" for images, gap in _gaps(points))
    caption = f"As many epochs with each part, so fewer steps with fewer images. Mean difference in points: {gaps}."
    return curve_picture(lines, x="training images", y="test accuracy", caption=caption, percent=True)


def _gaps(points: Sequence[dict[str, Json]]) -> list[tuple[float, float]]:
    """Training images and the mean difference."""
    return [(as_number(point["images"]), as_number(as_object(point["difference"])["mean"])) for point in points]


def _corruptions_picture(arms: Sequence[tuple[int, dict[str, Json]]]) -> Picture:
    """Of arms with their colours."""
    names = list(as_object(arms[0][1]["corruptions"]))
    series = [
        Differences(
            label=str(arm["name"]),
            colour=colour,
            values=[as_number(arm["mean"]), *(as_number(as_object(arm["corruptions"])[name]) for name in names)],
        )
        for colour, arm in arms
    ]
    rows = ["as they are", *names]
    told = "; ".join(
        f"{row} {', '.join(f'{one.label} {words.percent(one.values[place])}' for one in series)}"
        for place, row in enumerate(rows)
    )
    return Picture(
        svg=Markup(shares(rows, series, x="test accuracy")),  # noqa: S704 - drawn by matplotlib
        alt=f"Accuracy on test images: {told}.",
        caption="Test images as they are, and with one middling severity of each corruption; mean over seeds.",
    )


def _difference_pictures(result: Result) -> Iterable[Picture]:
    """By superclass where there are some, else by class, the greatest and the least if there are many."""
    difference = as_object(result["difference"])
    groups = {name: as_object(value) for name, value in as_object(difference["per_superclass"]).items()}
    what = "superclass" if groups else "class"
    if not groups:
        names = [str(name) for name in cast(list[Json], result["class_names"])]
        values = cast(list[Json], difference["per_class"])
        groups = {name: as_object(value) for name, value in zip(names, values, strict=True) if value is not None}
    means = {label: as_number(value["mean"]) for label, value in groups.items()}
    labels = sorted(groups, key=lambda label: -means[label])
    shown = "" if len(labels) <= _SHOWN_CLASSES else f", the {_SHOWN_CLASSES // 2} greatest and least of {len(labels)}"
    if shown:
        labels = labels[: _SHOWN_CLASSES // 2] + labels[-_SHOWN_CLASSES // 2 :]
    if labels:
        cnn, transformer = (str(arm["name"]) for arm in _arms(result))
        intervals = [as_interval(groups[label]["ci95"]) for label in labels]
        series = Differences(
            label=f"{transformer} minus {cnn}",
            colour=1,
            values=[means[label] for label in labels],
            ci95=intervals,
        )
        told = "; ".join(f"{label} {words.points(means[label])}" for label in labels)
        how = (
            "mean over paired seeds with its 95 % interval; of so many intervals one in twenty leaves out 0 by chance."
            if any(intervals)
            else "one seed, so without intervals: a look and not a finding."
        )
        yield Picture(
            svg=Markup(differences(labels, [series], x=f"{transformer} minus {cnn}, points")),  # noqa: S704 - as above
            alt=f"{transformer} minus {cnn} by {what}, in points: {told}.",
            caption=f"Difference of test accuracy by {what}{shown}: {how}",
        )


def _numbers(node: Json) -> list[float]:
    return [as_number(value) for value in cast(list[Json], node)]
