"""`nndl-suite demo`: all three experiments on built-in input, offline, and one report."""

from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import AsJson, DeviceChoice, DeviceName, Seed
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import print_json, progress, say
from nndl_suite.training.watch import Watcher

_BACKBONE = "resnet18-slim"


def demo(
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the runs and the report; by default a new one in runs/.")
    ] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the demo in --out.")] = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Run all three experiments on small input that the package makes itself; about five minutes on a laptop.

    The pictures and the capture are drawn by the package, so the figures show that everything works, and nothing about
    the world.

    Examples:
      nndl-suite demo
      nndl-suite demo --out runs/demo --device cpu
    """
    from nndl_suite.report.page import write_report

    folder = out or next(path for path in _numbered(Path("runs/demo")) if resume or not path.exists())
    if not as_json:
        say(f"demo: three experiments on built-in input, into {folder}")
    with progress() as watch, logged(folder, tensorboard=tensorboard, log_to=log_to):
        _representation(folder, seed, device, watch, resume=resume)
        _comparison(folder, seed, device, watch, resume=resume)
        _reconstruction(folder, seed, device, watch, resume=resume)
    runs = [folder / name for name in ("probe-simclr", "probe-random", "pretrain", "comparison", "reconstruction")]
    page = write_report(runs, folder / "report.html")
    if as_json:
        print_json({"kind": "demo", "out": str(folder), "report": str(page), "runs": [str(run) for run in runs]})
        return
    for run in runs:
        show_result(run, as_json=False)
    say(f"report: {page.resolve()}")


def _representation(folder: Path, seed: int, device: DeviceChoice, watch: Watcher, *, resume: bool) -> None:
    from nndl_suite import LinearProbe, SSLPretrainer

    pretrainer = SSLPretrainer(backbone=_BACKBONE, epochs=6, batch_size=250, seed=seed, device=device)
    run = pretrainer.fit("demo", out=folder / "pretrain", resume=resume, watch=watch)
    for name, features in (("simclr", run), ("random", "random")):
        probe = LinearProbe(features=features, backbone=_BACKBONE, seed=seed, device=device)
        probe.evaluate("demo", out=folder / f"probe-{name}", resume=resume, watch=watch)


def _comparison(folder: Path, seed: int, device: DeviceChoice, watch: Watcher, *, resume: bool) -> None:
    from nndl_suite import compare_architectures
    from nndl_suite.comparison.recipe import Recipe

    compare_architectures(
        cnn=_BACKBONE,
        transformer="vit",
        dataset="demo",
        epochs=2,
        recipe=Recipe(batch_size=32),  # two epochs of 4,000 images want many small steps
        seeds=(seed, seed + 1),
        out=folder / "comparison",
        device=device,
        resume=resume,
        watch=watch,
    )


def _reconstruction(folder: Path, seed: int, device: DeviceChoice, watch: Watcher, *, resume: bool) -> None:
    from nndl_suite import ColmapNerfReconstructor
    from nndl_suite.data.demo_capture import make_demo_capture

    capture = folder / "capture"
    if not (capture / "transforms.json").exists():
        make_demo_capture(capture, watch=watch)
    # The bare photos: the poses that the ray tracer knows are for the tests.
    run = folder / "reconstruction"
    scan = ColmapNerfReconstructor(capture / "images", out=run, seed=seed, poses="colmap", device=device)
    scan.fit(minutes=1, resume=resume, watch=watch)
    scan.render_orbit(run / "orbit.mp4", frames=48, fps=16, watch=watch)


def _numbered(path: Path) -> "map[Path]":
    return map(lambda i: path if i == 1 else path.with_name(f"{path.name}-{i}"), count(1))
