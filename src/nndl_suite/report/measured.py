"""Every figure of a `result.json` of any kind, one record each, with its unit and interval."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from nndl_suite.errors import RunError
from nndl_suite.report.pictures import as_interval, as_number, as_object
from nndl_suite.report.words import brief
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import Interval
from nndl_suite.training.runs import find_run

Unit = Literal["share", "difference of shares", "dB", "s", "images/s", "nats", "count", ""]
"""A share lies in [0, 1]; a figure without a unit is a plain number, such as a loss or SSIM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure."""

    run: str
    """The run folder's name."""
    kind: str
    name: str
    """What was measured: features, an arm, a method."""
    setting: str
    """How: protocol, data set, length."""
    measure: str
    unit: Unit
    value: float
    ci95: Interval | None
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What the figures of one thing have in common."""

    name: str
    setting: str
    seeds: int
    figures: tuple["_Figure", ...]


@dataclass(frozen=True, slots=True)
class _Figure:
    measure: str
    unit: Unit
    value: Json
    """None where it was not measured."""
    ci95: Json = None


Result = Mapping[str, Json]


def measured(path: Path | str) -> tuple[Measured, ...]:
    """The figures of a finished run.

    Raises:
        RunError: the folder holds no run or an unfinished one, or its `result.json` is not what its kind writes.
    """
    run = find_run(Path(path))
    result = run.result()
    if result is None:
        raise RunError(f"{run.path} has no result yet (no result.json in it); go on with it by --resume")
    kind = str(result.get("kind"))
    try:
        rows = list(_ROWS[kind](result))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(
            f"{run.path / 'result.json'} is not what a {kind} run writes ({error!r}); run it again"
        ) from error
    return tuple(
        Measured(
            run=run.path.resolve().name,
            kind=kind,
            name=row.name,
            setting=row.setting,
            measure=figure.measure,
            unit=figure.unit,
            value=as_number(figure.value),
            ci95=as_interval(figure.ci95),
            seeds=row.seeds,
        )
        for row in rows
        for figure in row.figures
        if figure.value is not None
    )


def _probe(result: Result) -> Iterator[_Row]:
    yield _Row(
        name=str(result["features"]),
        setting=f"{result['protocol']} on {result['dataset']}, {result['resolution']} px",
        seeds=1,
        figures=(
            _Figure("test accuracy", "share", result["test_accuracy"], result["test_accuracy_ci95"]),
            _Figure("validation accuracy", "share", result["val_accuracy"]),
        ),
    )


def _pretrain(result: Result) -> Iterator[_Row]:
    yield _Row(
        name=str(result["method"]),
        setting=f"{result['dataset']}, {brief(result['epochs'])} epochs",
        seeds=1,
        figures=(
            _Figure("final loss", "", result["final_loss"]),
            _Figure("effective rank", "", result["effective_rank"]),
            _Figure("speed", "images/s", result["images_per_second"]),
        ),
    )


def _comparison(result: Result) -> Iterator[_Row]:
    setting = f"{result['dataset']}, {result['epochs']} epochs"
    arms = [as_object(arm) for arm in _listed(result["arms"])]
    for arm in arms:
        yield _Row(
            name=str(arm["name"]),
            setting=setting,
            seeds=len(_listed(arm["seeds"])),
            figures=(
                _Figure("test accuracy", "share", arm["mean"], arm["ci95"]),
                *_measures(arm.get("measures"), "share"),
                _Figure("parameters", "count", arm["parameters"]),
                _Figure("FLOPs", "count", arm["flops"]),
                _Figure("training time", "s", arm["seconds"]),
                _Figure("speed", "images/s", arm["images_per_second"]),
            ),
        )
    if (difference := result["difference"]) is not None:
        of = as_object(difference)
        both = {brief(seed) for seed in _listed(arms[0]["seeds"])}
        pairs = both & {brief(seed) for seed in _listed(arms[1]["seeds"])}
        yield _Row(
            name=f"{arms[1]['name']} minus {arms[0]['name']}",
            setting=setting,
            seeds=len(pairs),
            figures=(
                _Figure("test accuracy", "difference of shares", of["mean"], of["ci95"]),
                *_measures(of.get("measures"), "difference of shares"),
            ),
        )


def _measures(node: Json, unit: Unit) -> Iterator[_Figure]:
    """What a comparison measures beside accuracy; runs of earlier versions have none."""
    for key, told in (
        ("top5", "top-5 accuracy"),
        ("train_accuracy", "training accuracy"),
        ("corrupted", "accuracy on corrupted images"),
        ("ece", "calibration error"),
        ("nll", "NLL"),
    ):
        if (one := as_object(node or {}).get(key)) is not None:
            measure = as_object(one)
            yield _Figure(told, "nats" if key == "nll" else unit, measure["mean"], measure["ci95"])


def _training(result: Result) -> Iterator[_Row]:
    yield _Row(
        name=str(result["arm"]),
        setting=f"{result['dataset']}, {result['epochs']} epochs",
        seeds=1,
        figures=(
            _Figure("test accuracy", "share", result["test_accuracy"], result["test_accuracy_ci95"]),
            _Figure("top-5 accuracy", "share", result["top5"]),
            _Figure("training accuracy", "share", result["train_accuracy"]),
            _Figure("calibration error", "share", result["ece"]),
            _Figure("NLL", "nats", result["nll"]),
            _Figure("parameters", "count", result["parameters"]),
            _Figure("FLOPs", "count", result["flops"]),
            _Figure("training time", "s", result["seconds"]),
            _Figure("speed", "images/s", result["images_per_second"]),
        ),
    )


def _tuning(result: Result) -> Iterator[_Row]:
    best, budget = as_object(result["best"]), as_object(result["budget"])
    chosen = (_Figure(name.replace("_", " "), "", value) for name, value in as_object(best["settings"]).items())
    yield _Row(
        name=str(result["arm"]),
        setting=f"{result['dataset']}, best of {budget['trials']} trials of {budget['epochs']} epochs",
        seeds=1,
        figures=(_Figure("validation accuracy", "share", best["val_accuracy"]), *chosen),
    )


def _nerf(result: Result) -> Iterator[_Row]:
    test = as_object(result["test"])
    size = " x ".join(brief(side) for side in _listed(result["resolution"]))
    yield _Row(
        name=f"{result['test_images']} held-out photos",
        setting=f"{size} px, {result['steps']} steps, poses {result.get('held_out_poses', 'as given')}",
        seeds=1,
        figures=(
            _Figure("PSNR", "dB", test["psnr"]),
            _Figure("SSIM", "", test["ssim"]),
            _Figure("LPIPS", "", test["lpips"]),
            _Figure("training time", "s", result["train_seconds"]),
            _Figure("rendering a frame", "s", result["render_seconds_per_frame"]),
        ),
    )


def _study(result: Result) -> Iterator[_Row]:
    for row in map(as_object, _listed(result["rows"])):
        gains = [
            _Figure(f"gain over {over}", "difference of shares", gain["mean"], gain["ci95"])
            for over in ("scratch", "random")
            if (gain := as_object(row[f"gain_over_{over}"] or {}))
        ]
        yield _Row(
            name=str(row["name"]),
            setting=f"{row['protocol']} on {result['downstream']}, {row['resolution']} px",
            seeds=len(_listed(row["seeds"])),
            figures=(_Figure("test accuracy", "share", row["mean"], row["ci95"]), *gains),
        )


def _scale(result: Result) -> Iterator[_Row]:
    for size in map(as_object, _listed(result["sizes"])):
        yield _Row(
            name=f"{result['method']}, {brief(size['fraction'])} of {result['dataset']}",
            setting=f"fixed {size['fixed']}, {result['protocol']} on {result['downstream']}",
            seeds=len(_listed(result["seeds"])),
            figures=(
                _Figure("test accuracy", "share", size["mean"], size["ci95"]),
                _Figure("pretraining images", "count", size["images"]),
            ),
        )


def _sweep(result: Result) -> Iterator[_Row]:
    for place, row in enumerate(map(as_object, _listed(result["rows"]))):
        chosen = place == result["chosen"]
        yield _Row(
            name=f"{result['method']}, {brief(row['settings']).replace('_', ' ')}",
            setting=f"{result['dataset']}, linear on {result['downstream']}" + (", chosen" if chosen else ""),
            seeds=len(_listed(result["seeds"])),
            figures=(
                _Figure("validation accuracy", "share", row["mean"], row["ci95"]),
                _Figure("effective rank", "", row["effective_rank"]),
                *([_Figure("test accuracy", "share", result["test_mean"], result["test_ci95"])] if chosen else []),
            ),
        )


def _listed(node: Json) -> Sequence[Json]:
    return cast(list[Json], node)


_ROWS: Mapping[str, Callable[[Result], Iterator[_Row]]] = {
    "probe": _probe,
    "pretrain": _pretrain,
    "comparison": _comparison,
    "training": _training,
    "tuning": _tuning,
    "nerf": _nerf,
    "study": _study,
    "scale": _scale,
    "sweep": _sweep,
}
