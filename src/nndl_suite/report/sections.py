"""What the page shows of each run, gathered from its folder."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from nndl_suite.errors import RunError
from nndl_suite.report import words
from nndl_suite.report.answers import Answer, answer
from nndl_suite.report.comparison import comparison_pictures
from nndl_suite.report.confusion import ConfusionView, read_confusion
from nndl_suite.report.embedding import Neighbours, map_pictures, read_neighbours
from nndl_suite.report.figures import Line
from nndl_suite.report.measure_rows import MeasureRow, measure_rows
from nndl_suite.report.pictures import Metrics, Picture, as_object, curve_picture, thinned
from nndl_suite.report.scene_files import HeldOut, find_video, held_out_photos
from nndl_suite.report.scene_view import SceneView, read_scene
from nndl_suite.report.studies import scale_pictures, study_pictures, sweep_pictures
from nndl_suite.report.tuning import tuning_pictures
from nndl_suite.report.turning import Turn, read_turn
from nndl_suite.training.files import Json
from nndl_suite.training.runs import find_run

_STUDIES = {"study": study_pictures, "scale": scale_pictures, "sweep": sweep_pictures, "tuning": tuning_pictures}
_TITLES = {
    "pretrain": "Pretraining",
    "probe": "What features are worth",
    "comparison": "CNN or Transformer",
    "training": "Training",
    "nerf": "Reconstruction",
    "tuning": "Tuning",
    "study": "What features are worth",
    "scale": "What more images buy",
    "sweep": "Hyper-parameters",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneParts:
    """What is shown of a reconstruction beside its scores."""

    held_out: tuple[HeldOut, ...]
    video: str | None
    video_missing: str
    turn: Turn | None
    scene: SceneView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One run as the template shows it."""

    slug: str
    """Its name in links; no two on a page are the same."""
    name: str
    path: str
    kind: str
    title: str
    result: dict[str, Json] | None
    """None while the run is unfinished."""
    answer: Answer | None
    command: str
    """What began it; empty where Python code did."""
    settings: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    machine: str
    metrics: Metrics
    pictures: tuple[Picture, ...] = ()
    maps: tuple[Picture, ...] = ()
    neighbours: Neighbours | None = None
    confusions: tuple[ConfusionView, ...] = ()
    measures: tuple[MeasureRow, ...] = ()
    scene_parts: SceneParts | None = None


def gather(path: Path, slug: str) -> Section:
    """A run folder's section.

    Raises:
        RunError: the folder holds no run, or a file of it is damaged.
    """
    run = find_run(path)
    config, result = run.config(), run.result()
    kind = str(result["kind"] if result and "kind" in result else config.get("kind"))
    metrics = run.overview("val_accuracy", *(name for name, *_ in _LOGGED))
    try:
        section = Section(
            slug=slug,
            name=path.resolve().name,
            path=str(path),
            kind=kind,
            title=_TITLES.get(kind, kind.capitalize()),
            result=result,
            answer=answer(kind, result) if result else None,
            command=shlex.join(str(word) for word in cast(list[Json], config.get("command") or [])),
            settings=words.flat(as_object(config.get("settings"))),
            versions=words.flat(as_object(config.get("versions"))),
            machine=words.brief(config.get("machine")),
            metrics=metrics,
            pictures=tuple(_curves_of_log(metrics)),
        )
        return _with_particulars(section, path)
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise RunError(f"{path / 'result.json'} is not what a {kind} run writes ({error!r}); run it again") from error


def _with_particulars(section: Section, path: Path) -> Section:
    """With what its kind alone has."""
    kind, result = section.kind, section.result
    if kind == "comparison":
        pictures = comparison_pictures(result, path)
        if result is None:
            return replace(section, pictures=pictures)
        confusions = tuple(_confusions_of_arms(result, path))
        return replace(section, pictures=pictures, measures=measure_rows(result), confusions=confusions)
    if kind == "nerf":
        return replace(section, scene_parts=_scene_parts(result, path))
    if kind in _STUDIES and result is not None:
        return replace(section, pictures=_STUDIES[kind](result, path))
    if kind == "training":
        section = replace(section, pictures=(*_accuracy_over_time(section.metrics), *section.pictures))
    if kind in ("training", "probe", "pretrain") and result is not None:
        names = _class_names(result)
        view = read_confusion(section.name, [path], names)
        return replace(
            section,
            maps=tuple(map_pictures(path, names, {})),
            neighbours=read_neighbours(path),
            confusions=() if view is None else (view,),
        )
    return section


def _class_names(result: Mapping[str, Json]) -> list[str]:
    """Empty for sets without labels, and in results of earlier versions."""
    return [str(name) for name in cast(list[Json], result.get("class_names") or [])]


def _confusions_of_arms(result: Mapping[str, Json], path: Path) -> Iterable[ConfusionView]:
    for arm in (as_object(arm) for arm in cast(list[Json], result["arms"])):
        seeds = cast(list[int], arm["seeds"])
        folders = [path / "arms" / f"{arm['name']}-seed{seed}" for seed in seeds]
        view = read_confusion(str(arm["name"]), folders, _class_names(result))
        if view is not None:
            yield view


_LOGGED = (
    ("loss", "training loss", "Of the batches, as they came.", False),
    ("psnr", "training PSNR (dB)", "Of the rays of each batch, not of held-out photos.", False),
    (
        "knn_accuracy",
        "neighbours' accuracy",
        "Of training images by the labels of their neighbours among others: to be watched, not a score.",
        True,
    ),
    ("online_accuracy", "online accuracy", "Of a linear classifier trained beside the backbone, on batches.", True),
    ("effective_rank", "effective rank", "How many directions the features use; a fall to 1 is a collapse.", False),
)


def _curves_of_log(metrics: Metrics) -> Iterable[Picture]:
    """What was logged while it learned, by step."""
    for name, y, caption, percent in _LOGGED:
        steps, values = thinned(metrics, name)
        if len(steps) > 1 or (steps and name in ("loss", "psnr")):
            line = Line(label=y, colour=0, x=steps, y=values)
            yield curve_picture([line], x="step", y=y, caption=f"{y[0].upper()}{y[1:]}. {caption}", percent=percent)


def _accuracy_over_time(metrics: Metrics) -> Iterable[Picture]:
    epochs = [record for record in metrics if "val_accuracy" in record]
    if epochs:
        unit, name = words.scale_of("seconds", epochs[-1]["seconds"])
        line = Line(
            label="validation accuracy",
            colour=0,
            x=[record["seconds"] / unit for record in epochs],
            y=[record["val_accuracy"] for record in epochs],
        )
        caption = "On the tenth held out of the training images, after each epoch; validation's time included."
        yield curve_picture([line], x=f"training time ({name})", y="validation accuracy", caption=caption, percent=True)


def _scene_parts(result: dict[str, Json] | None, path: Path) -> SceneParts:
    video, missing = find_video(path)
    scene = path / "scene.json"
    return SceneParts(
        held_out=tuple(held_out_photos(result, path / "views")) if result else (),
        video=video,
        video_missing=missing,
        turn=read_turn(path),
        scene=read_scene(scene) if scene.is_file() else None,
    )
