"""What the page shows of each run, gathered from its folder."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import cast

from nndl_suite.errors import RunError
from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line
from nndl_suite.report.pictures import Picture, as_interval, as_number, as_object, curve_picture, interval_picture
from nndl_suite.report.scene_view import SceneView, read_scene
from nndl_suite.report.studies import scale_pictures, study_pictures, sweep_pictures
from nndl_suite.report.tuning import tuning_pictures
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

_SHOWN_PHOTOS = 6
_LARGEST_VIDEO = 48 * 2**20  # bytes; base64 adds a third, and a browser holds all of it
_CURVE_POINTS = 200
_STUDIES = {"study": study_pictures, "scale": scale_pictures, "sweep": sweep_pictures, "tuning": tuning_pictures}

Metrics = Sequence[dict[str, float]]


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
    sentence: str = ""
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
        pictures=_curves_of_log(run.metrics()),
    )
    try:
        if kind == "comparison":
            return _comparison(section, run)
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
        steps, values = _thinned(metrics, name)
        if steps:
            line = Line(label=y, colour=0, x=steps, y=values)
            pictures.append(curve_picture([line], x="step", y=y, caption=f"{y[0].upper()}{y[1:]}."))
    return tuple(pictures)


def _thinned(metrics: Metrics, name: str) -> tuple[list[float], list[float]]:
    """A logged figure by step, neighbours averaged so that no more than `_CURVE_POINTS` are left."""
    logged = [record for record in metrics if name in record]
    size = max(1, -(-len(logged) // _CURVE_POINTS))
    chunks = [logged[start : start + size] for start in range(0, len(logged), size)]
    steps = [fmean(record["step"] for record in chunk) for chunk in chunks]
    return steps, [fmean(record[name] for record in chunk) for chunk in chunks]


def _comparison(section: Section, run: RunFolder) -> Section:
    logs = _logs_by_arm(run.path / "arms")
    pictures = list(_arm_curves(logs))
    result = section.result
    if result is None:
        return replace(section, pictures=tuple(pictures))
    arms = [as_object(arm) for arm in cast(list[Json], result["arms"])]
    rows = [
        Estimate(label=str(arm["name"]), mean=as_number(arm["mean"]), ci95=as_interval(arm["ci95"]), colour=colour)
        for colour, arm in enumerate(arms)
    ]
    difference = as_object(result["difference"])
    sentence = words.conclusion(
        rows[0].label,
        rows[1].label,
        mean=as_number(difference["mean"]),
        ci95=as_interval(difference["ci95"]),
        seeds=len(cast(list[Json], arms[0]["seeds"])),
    )
    return replace(section, pictures=(*pictures, interval_picture(rows, "test accuracy")), sentence=sentence)


def _logs_by_arm(folder: Path) -> dict[str, list[Metrics]]:
    """The logs of all seeds by the arm's name, in the order in which the arms were begun."""
    logs: dict[str, list[Metrics]] = {}
    folders = [path for path in folder.glob("*-seed*") if (path / "config.json").is_file()]
    for path in sorted(folders, key=lambda path: ((path / "config.json").stat().st_mtime_ns, path.name)):
        name = re.sub(r"-seed-?\d+$", "", path.name)
        logs.setdefault(name, []).append(RunFolder(path).metrics())
    return logs


def _arm_curves(logs: dict[str, list[Metrics]]) -> Iterable[Picture]:
    for name, x, y, caption in (
        ("val_accuracy", "epoch", "validation accuracy", "On the tenth held out of the training images."),
        ("loss", "step", "training loss", "On augmented images, batch by batch."),
    ):
        lines: list[Line] = []
        for colour, (arm, seeds) in enumerate(logs.items()):
            drawn = [
                ([r["epoch"] for r in log if name in r], [r[name] for r in log if name in r])
                if x == "epoch"
                else _thinned(log, name)
                for log in seeds
            ]
            drawn = [curve for curve in drawn if curve[0]]
            if len(drawn) > 1:
                lines += [Line(label=arm, colour=colour, x=xs, y=ys, faint=True) for xs, ys in drawn]
            if drawn:
                common = min(len(xs) for xs, _ in drawn)
                mean = [fmean(ys[i] for _, ys in drawn) for i in range(common)]
                lines.append(Line(label=arm, colour=colour, x=drawn[0][0][:common], y=mean))
        if lines:
            seeds_told = " Thin: each seed; thick: their mean." if any(line.faint for line in lines) else ""
            percent = name == "val_accuracy"
            yield curve_picture(lines, x=x, y=y, caption=caption + seeds_told, percent=percent)


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
