"""Runs of one kind beside one another: a table and, where curves or scores can share an axis, a drawing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line
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

Result = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that has a result, as far as its neighbours are concerned."""

    name: str
    slug: str
    """Where its own section is."""
    result: Result
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All finished runs of one kind."""

    title: str
    slug: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Name, slug and the cells after it."""
    pictures: tuple[Picture, ...]


def side_by_side(kind: str, runs: Sequence[Finished]) -> Group | None:
    """The runs of one kind; None for fewer than two, and for kinds that have little in common.

    Raises:
        KeyError, TypeError: a result lacks something that its kind always has.
    """
    if len(runs) < 2 or kind not in _TABLES:
        return None
    title, columns, cells, pictures = _TABLES[kind]
    return Group(
        title=title,
        slug=f"side-by-side-{kind}",
        columns=columns,
        rows=tuple((run.name, run.slug, cells(run.result)) for run in runs),
        pictures=tuple(pictures(runs)),
    )


def _probe_cells(result: Result) -> tuple[str, ...]:
    return (
        words.percent(as_number(result["test_accuracy"])),
        words.percent_interval(as_interval(result["test_accuracy_ci95"])),
        words.percent(as_number(result["val_accuracy"])),
        words.last_name(str(result["features"])),
        str(result["protocol"]),
        str(result["dataset"]),
        words.brief(result["resolution"]),
        words.brief(result["chosen"]),
    )


def _pretrain_cells(result: Result) -> tuple[str, ...]:
    knn = as_object(result.get("quality")).get("knn_accuracy")
    return (
        str(result["method"]),
        words.brief(result["epochs"]),
        "" if knn is None else words.percent(as_number(knn)),
        words.brief(result["effective_rank"]),
        words.brief(result["final_loss"]),
        words.count(as_number(result["images_per_second"])),
        words.duration(as_number(result["seconds"])),
    )


def _training_cells(result: Result) -> tuple[str, ...]:
    return (
        words.percent(as_number(result["test_accuracy"])),
        words.percent_interval(as_interval(result["test_accuracy_ci95"])),
        str(result["arm"]),
        str(result["dataset"]),
        words.count(as_number(result["parameters"])),
        words.brief(result["epochs"]),
        words.count(as_number(result["images_per_second"])),
        words.duration(as_number(result["seconds"])),
    )


def _comparison_cells(result: Result) -> tuple[str, ...]:
    arms = [as_object(arm) for arm in cast(list[Json], result["arms"])]
    difference = as_object(result["difference"])
    ci95 = as_interval(difference.get("ci95"))
    scores = ["none" if arm["mean"] is None else words.percent(as_number(arm["mean"])) for arm in arms]
    return (
        *(f"{arm['name']} {score}" for arm, score in zip(arms, scores, strict=True)),
        words.points(as_number(difference["mean"])) if difference else "none",
        "" if ci95 is None else f"{words.points(ci95[0])} to {words.points(ci95[1])}",
        str(max(len(cast(list[Json], arm["seeds"])) for arm in arms)),
    )


def _nerf_cells(result: Result) -> tuple[str, ...]:
    test = as_object(result["test"])
    lpips = test.get("lpips")
    return (
        f"{as_number(test['psnr']):.2f}",
        f"{as_number(test['ssim']):.3f}",
        "" if lpips is None else f"{as_number(lpips):.3f}",
        words.brief(result["test_images"]),
        words.brief(result["train_images"]),
        words.count(as_number(result["steps"])),
        words.duration(as_number(result["train_seconds"])),
        words.duration(as_number(result["render_seconds_per_frame"])),
    )


def _accuracies(runs: Sequence[Finished]) -> list[Picture]:
    rows = [
        Estimate(
            label=run.name,
            mean=as_number(run.result["test_accuracy"]),
            ci95=as_interval(run.result["test_accuracy_ci95"]),
            colour=place,
        )
        for place, run in enumerate(runs)
    ]
    return [interval_picture(rows, "test accuracy")]


def _curves(runs: Sequence[Finished], name: str, y: str, *, percent: bool = False) -> list[Picture]:
    lines = [
        Line(label=run.name, colour=place, x=steps, y=values)
        for place, run in enumerate(runs)
        for steps, values in [thinned(run.metrics, name)]
        if steps
    ]
    caption = f"{y[0].upper()}{y[1:]}, run by run."
    return [curve_picture(lines, x="step", y=y, caption=caption, percent=percent)] if len(lines) > 1 else []


def _pretrain_pictures(runs: Sequence[Finished]) -> list[Picture]:
    # losses of different methods are different things: what features are like can be compared
    return [
        *_curves(runs, "knn_accuracy", "neighbours' accuracy on training images", percent=True),
        *_curves(runs, "effective_rank", "effective rank"),
    ]


def _training_pictures(runs: Sequence[Finished]) -> list[Picture]:
    return [*_accuracies(runs), *_curves(runs, "val_accuracy", "validation accuracy", percent=True)]


def _nerf_pictures(runs: Sequence[Finished]) -> list[Picture]:
    return _curves(runs, "psnr", "training PSNR (dB)")


def _no_pictures(_: Sequence[Finished]) -> list[Picture]:
    return []


_Table = tuple[str, tuple[str, ...], Callable[[Result], tuple[str, ...]], Callable[[Sequence[Finished]], list[Picture]]]

_SCORE = ("test accuracy", "95 % interval")
_TABLES: dict[str, _Table] = {
    "probe": (
        "What the features are worth",
        (*_SCORE, "validation", "features", "protocol", "data set", "pixels", "chosen"),
        _probe_cells,
        _accuracies,
    ),
    "pretrain": (
        "Pretraining",
        ("method", "epochs", "neighbours' accuracy", "effective rank", "final loss", "images/s", "time"),
        _pretrain_cells,
        _pretrain_pictures,
    ),
    "training": (
        "Trained networks",
        (*_SCORE, "network", "data set", "parameters", "epochs", "images/s", "time"),
        _training_cells,
        _training_pictures,
    ),
    "comparison": (
        "CNN or Transformer",
        ("CNN", "Transformer", "difference (points)", "95 % interval", "seeds"),
        _comparison_cells,
        _no_pictures,
    ),
    "nerf": (
        "Reconstructions",
        ("PSNR (dB)", "SSIM", "LPIPS", "held out", "trained on", "steps", "training", "a frame"),
        _nerf_cells,
        _nerf_pictures,
    ),
}
