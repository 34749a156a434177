"""What the page shows of each run, gathered from its folder."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import cast

from markupsafe import Markup

from nndl_suite.errors import RunError
from nndl_suite.report import words
from nndl_suite.report.figures import Estimate, Line, curves, estimates
from nndl_suite.report.scene_view import SceneView, read_scene
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

_SHOWN_PHOTOS = 6
_LARGEST_VIDEO = 48 * 2**20  # bytes; base64 adds a third, and a browser holds all of it
_CURVE_POINTS = 200

Metrics = Sequence[dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing, with words for those who do not see it."""

    svg: Markup
    alt: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A held-out photo and what the field renders from the same place, as data URIs."""

    name: str
    psnr: float
    ssim: float
    photo: str
    render: str


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
        settings=words.flat(_object(config.get("settings"))),
        versions=words.flat(_object(config.get("versions"))),
        machine=words.brief(config.get("machine")),
        pictures=_curves_of_log(run.metrics()),
    )
    try:
        if kind == "comparison":
            return _comparison(section, run)
        if kind == "nerf":
            return _nerf(section, path)
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
                mean=_number(result["test_accuracy"]),
                ci95=_interval(result.get("test_accuracy_ci95")),
            )
        )
    return _interval_picture(rows, "test accuracy") if rows else None


def _interval_picture(rows: Sequence[Estimate], x: str) -> Picture:
    told = "; ".join(f"{row.label} {words.percent(row.mean)}" for row in rows)
    return Picture(
        svg=Markup(estimates(rows, x=x)),  # noqa: S704 - drawn by matplotlib, which escapes its texts
        alt=f"{x}: {told}.",
        caption=f"{x[0].upper()}{x[1:]} with 95 % intervals.",
    )


def _curve_picture(lines: Sequence[Line], *, x: str, y: str, caption: str, percent: bool = False) -> Picture:
    show = words.percent if percent else words.brief
    told = "; ".join(
        f"{line.label} goes from {show(line.y[0])} to {show(line.y[-1])}" for line in lines if not line.faint
    )
    return Picture(
        svg=Markup(curves(lines, x=x, y=y, percent=percent)),  # noqa: S704 - drawn by matplotlib, which escapes its texts
        alt=f"{y} by {x}: {told}.",
        caption=caption,
    )


def _curves_of_log(metrics: Metrics) -> tuple[Picture, ...]:
    """The training loss, and the training PSNR of a reconstruction, by step."""
    pictures: list[Picture] = []
    for name, y in (("loss", "training loss"), ("psnr", "training PSNR (dB)")):
        steps, values = _thinned(metrics, name)
        if steps:
            line = Line(label=y, colour=0, x=steps, y=values)
            pictures.append(_curve_picture([line], x="step", y=y, caption=f"{y[0].upper()}{y[1:]}."))
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
    arms = [_object(arm) for arm in cast(list[Json], result["arms"])]
    rows = [
        Estimate(label=str(arm["name"]), mean=_number(arm["mean"]), ci95=_interval(arm["ci95"]), colour=colour)
        for colour, arm in enumerate(arms)
    ]
    difference = _object(result["difference"])
    sentence = words.conclusion(
        rows[0].label,
        rows[1].label,
        mean=_number(difference["mean"]),
        ci95=_interval(difference["ci95"]),
        seeds=len(cast(list[Json], arms[0]["seeds"])),
    )
    return replace(section, pictures=(*pictures, _interval_picture(rows, "test accuracy")), sentence=sentence)


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
            yield _curve_picture(lines, x=x, y=y, caption=caption + seeds_told, percent=percent)


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
    test = _object(result["test"])
    rows = [_object(row) for row in cast(list[Json], test["per_image"])]
    pairs: list[tuple[dict[str, Json], Path, Path]] = []
    for row in sorted(rows, key=lambda row: _number(row["psnr"])):
        name = str(row["name"])
        for stem in (Path(name).stem, name.replace("/", "_")):
            photo, render = folder / f"{stem}-photo.jpg", folder / f"{stem}-render.jpg"
            if photo.is_file() and render.is_file():
                pairs.append((row, photo, render))
                break
    shown = min(_SHOWN_PHOTOS, len(pairs))
    for place in range(shown):
        row, photo, render = pairs[place * (len(pairs) - 1) // max(1, shown - 1)]
        yield HeldOut(
            name=str(row["name"]),
            psnr=_number(row["psnr"]),
            ssim=_number(row["ssim"]),
            photo=data_uri(photo, "image/jpeg"),
            render=data_uri(render, "image/jpeg"),
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


def _object(node: Json) -> dict[str, Json]:
    return node if isinstance(node, dict) else {}


def _number(node: Json) -> float:
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise TypeError(f"expected a number, got {node!r}")
    return float(node)


def _interval(node: Json) -> tuple[float, float] | None:
    if node is None:
        return None
    low, high = cast(list[Json], node)
    return _number(low), _number(high)
