"""What the page shows of each run, gathered from its folder."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from nndl_suite.errors import RunError
from nndl_suite.report import words
from nndl_suite.report.comparison import comparison_pictures
from nndl_suite.report.figures import Estimate, Line
from nndl_suite.report.measure_rows import MeasureRow, measure_rows
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
from nndl_suite.report.scene_view import SceneView, read_scene
from nndl_suite.report.studies import scale_pictures, study_pictures, sweep_pictures
from nndl_suite.report.tuning import tuning_pictures
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

_SHOWN_PHOTOS = 6
_LARGEST_VIDEO = 48 * 2**20  # bytes; base64 adds a third, and a browser holds all of it
_STUDIES = {"study": study_pictures, "scale": scale_pictures, "sweep": sweep_pictures, "tuning": tuning_pictures}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A held-out photo, what the field renders from the same place, and where it is off, as data URIs."""

    name: str
    psnr: float
    ssim: float
    lpips: float | None
    photo: str
    render: str
    error: str | None
    """None in a run of an earlier version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One run as the template shows it."""

    name: str
    path: str
    kind: str
    result: dict[str, Json] | None
    """None while the run is unfinished."""
    settings: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    machine: str
    pictures: tuple[Picture, ...] = ()
    measures: tuple[MeasureRow, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    video: str | None = None
    video_missing: str = ""
    scene: SceneView | None = None


def gather(path: Path) -> Section:
    """A run folder's section.

    Raises:
        RunError: the folder holds no run, or a file of it is damaged.
    """
    run = RunFolder(path)
    if not (path / "config.json").is_file():
        raise RunError(f"{path} holds no run (no config.json in it); give the --out folder of a run")
    config, result = run.config(), run.result()
    kind = str(result["kind"] if result and "kind" in result else config.get("kind"))
    section = Section(
        name=path.resolve().name,
        path=str(path),
        kind=kind,
        result=result,
        settings=words.flat(as_object(config.get("settings"))),
        versions=words.flat(as_object(config.get("versions"))),
        machine=words.brief(config.get("machine")),
        pictures=_curves_of_log(run.overview()),
    )
    try:
        if kind == "comparison":
            pictures = comparison_pictures(result, path)
            return replace(section, pictures=pictures, measures=measure_rows(result) if result else ())
        if kind == "training":
            return replace(section, pictures=(*_accuracy_over_time(run.overview("val_accuracy")), *section.pictures))
        if kind == "nerf":
            return _nerf(section, path)
        if kind in _STUDIES and result is not None:
            return replace(section, pictures=_STUDIES[kind](result, path))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(f"{path / 'result.json'} is not what a {kind} run writes ({error!r}); run it again") from error
    return section


def probe_picture(probes: Sequence[Section]) -> Picture | None:
    """All probes' test accuracies with their intervals, in the order given; None where there are none."""
    rows: list[Estimate] = []
    for probe in probes:
        result = probe.result or {}
        rows.append(
            Estimate(
                label=probe.name,
                mean=as_number(result["test_accuracy"]),
                ci95=as_interval(result.get("test_accuracy_ci95")),
            )
        )
    return interval_picture(rows, "test accuracy") if rows else None


def _curves_of_log(metrics: Metrics) -> tuple[Picture, ...]:
    """The training loss, and the training PSNR of a reconstruction, by step."""
    pictures: list[Picture] = []
    for name, y in (("loss", "training loss"), ("psnr", "training PSNR (dB)")):
        steps, values = thinned(metrics, name)
        if steps:
            line = Line(label=y, colour=0, x=steps, y=values)
            pictures.append(curve_picture([line], x="step", y=y, caption=f"{y[0].upper()}{y[1:]}."))
    return tuple(pictures)


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


def _nerf(section: Section, path: Path) -> Section:
    video, scene = path / "orbit.mp4", path / "scene.json"
    missing = ""
    if not video.is_file():
        missing = "No orbit video yet; `nndl-suite nerf render RUN --path orbit --out RUN/orbit.mp4` makes one."
    elif video.stat().st_size > _LARGEST_VIDEO:
        missing = f"The orbit video is {video.stat().st_size / 2**20:.0f} MB, too large for a page; see {video}."
    return replace(
        section,
        held_out=tuple(_held_out(section.result, path / "views")) if section.result else (),
        video=None if missing else data_uri(video, "video/mp4"),
        video_missing=missing,
        scene=read_scene(scene) if scene.is_file() else None,
    )


def _held_out(result: dict[str, Json], folder: Path) -> Iterable[HeldOut]:
    """Up to six held-out photos, evenly spaced from the worst to the best PSNR."""
    test = as_object(result["test"])
    rows = [as_object(row) for row in cast(list[Json], test["per_image"])]
    pairs: list[tuple[dict[str, Json], Path, Path]] = []
    for row in sorted(rows, key=lambda row: as_number(row["psnr"])):
        name = str(row["name"])
        for stem in (Path(name).stem, name.replace("/", "_")):
            photo, render = folder / f"{stem}-photo.jpg", folder / f"{stem}-render.jpg"
            if photo.is_file() and render.is_file():
                pairs.append((row, photo, render))
                break
    shown = min(_SHOWN_PHOTOS, len(pairs))
    for place in range(shown):
        row, photo, render = pairs[place * (len(pairs) - 1) // max(1, shown - 1)]
        error = photo.with_name(photo.name.removesuffix("photo.jpg") + "error.jpg")
        lpips = row.get("lpips")
        yield HeldOut(
            name=str(row["name"]),
            psnr=as_number(row["psnr"]),
            ssim=as_number(row["ssim"]),
            lpips=None if lpips is None else as_number(lpips),
            photo=data_uri(photo, "image/jpeg"),
            render=data_uri(render, "image/jpeg"),
            error=data_uri(error, "image/jpeg") if error.is_file() else None,
        )


def data_uri(content: Path | bytes, media_type: str) -> str:
    """A file or bytes as a URI that holds them.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        raw = content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise RunError(f"cannot read {content}: {error.strerror}") from error
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"
