"""`nndl-suite nerf`: from photos or a video to a radiance field, its scores, its orbit."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nndl_suite.cli.options import AsJson, DeviceName, Out, Resume, Seed
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import print_json, progress, say

app = typer.Typer(help="Reconstruction: photos or a phone video to a radiance field.", no_args_is_help=True)

Capture = Annotated[Path, typer.Argument(help="A folder of photos, a video, or a folder that has poses.")]
Run = Annotated[Path, typer.Argument(help="The run folder of a finished `nerf train`.")]
MaxSide = Annotated[
    int | None, typer.Option("--max-side", help="Photos are reduced to this many pixels on the longer side.", min=32)
]
Holdout = Annotated[str, typer.Option("--holdout", help="every8, or a share such as 0.1.")]
Poses = Annotated[
    Literal["auto", "given", "colmap"],
    typer.Option("--poses", help="auto takes poses that came with the capture, else runs COLMAP."),
]
Background = Annotated[
    Literal["white", "black", "random"], typer.Option("--background", help="Behind photos with transparency.")
]


@app.command()
def poses(capture: Capture, out: Out, seed: Seed = 0, as_json: AsJson = False) -> None:
    """Find where each photo was taken from.

    Example: nndl-suite nerf poses photos/ --out scenes/can
    """
    from nndl_suite.nerf.sfm import SfmSettings, estimate_poses

    with progress() as watch:
        scene = estimate_poses(capture, out, settings=SfmSettings(seed=seed), watch=watch)
    found = scene.poses
    if as_json:
        print_json(
            {
                "kind": "poses",
                "out": str(out),
                "registered": found.registered,
                "total": found.total,
                "mean_reprojection_error": found.mean_reprojection_error,
            }
        )
    else:
        say(f"{found.registered} of {found.total} photos placed; next: nndl-suite nerf train {out} --out runs/NAME")


@app.command()
def train(
    capture: Capture,
    out: Out,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Training time, without poses and scores.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Training steps, instead of minutes.", min=1)] = None,
    max_side: MaxSide = 480,
    poses: Poses = "auto",
    holdout: Holdout = "every8",
    background: Background = "white",
    seed: Seed = 0,
    device: DeviceName = "auto",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Learn a radiance field and score it on held-out photos.

    Example: nndl-suite nerf train photos/ --minutes 5 --out runs/can
    """
    from nndl_suite import ColmapNerfReconstructor

    scan = ColmapNerfReconstructor(
        capture,
        out=out,
        seed=seed,
        poses=poses,
        max_side=max_side,
        holdout=_holdout(holdout),
        background=background,
        device=device,
    )
    with progress() as watch:
        scan.fit(minutes=minutes, steps=steps, resume=resume, watch=watch)
    show_result(out, as_json=as_json)


@app.command("eval")
def evaluate(run: Run, as_json: AsJson = False) -> None:
    """Score a finished run again on its held-out photos.

    Example: nndl-suite nerf eval runs/can
    """
    from nndl_suite import ColmapNerfReconstructor

    with progress() as watch:
        ColmapNerfReconstructor.open(run).evaluate(watch=watch)
    show_result(run, as_json=as_json)


@app.command()
def render(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="The mp4 file to write.")],
    path: Annotated[
        str, typer.Option("--path", help="orbit, interpolate, spiral, or a camera-path FILE.json.")
    ] = "orbit",
    frames: Annotated[int, typer.Option("--frames", min=2)] = 120,
    fps: Annotated[int, typer.Option("--fps", min=1, max=120)] = 30,
    as_json: AsJson = False,
) -> None:
    """Render a video along a camera path.

    Example: nndl-suite nerf render runs/can --path orbit --out orbit.mp4
    """
    from nndl_suite import ColmapNerfReconstructor

    with progress() as watch:
        ColmapNerfReconstructor.open(run).render_path(path, out, frames=frames, fps=fps, watch=watch)
    _wrote(out, as_json=as_json)


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path, typer.Option("--out", help="NAME.glb, .obj or .ply for a mesh; a .ply with cloud in its name for points.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a point cloud or a mesh in the capture's own frame.

    Example: nndl-suite nerf export runs/can --out mesh.glb
    """
    from nndl_suite import ColmapNerfReconstructor

    scan = ColmapNerfReconstructor.open(run)
    with progress() as watch:
        if out.suffix == ".ply" and "cloud" in out.stem:
            scan.export_point_cloud(out, watch=watch)
        else:
            scan.export_mesh(out, watch=watch)
    _wrote(out, as_json=as_json)


def _wrote(file: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file)})
    else:
        say(f"wrote {file.resolve()}")


def _holdout(text: str) -> Literal["every8"] | float:
    if text == "every8":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--holdout wants every8 or a share such as 0.1, got {text!r}") from None
