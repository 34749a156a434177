"""`nndl-suite nerf`: from photos or a video to a radiance field, its scores, its orbit."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import AsJson, DeviceChoice, Devices, Nodes, Out, Resume, Seed
from nndl_suite.cli.results import show_poses, show_result
from nndl_suite.cli.screen import print_json, progress, say

app = typer.Typer(
    help="Reconstruction: photos or a phone video to a radiance field.",
    epilog="Example:\n\n  nndl-suite nerf train photos/ --minutes 5 --out runs/can",
    no_args_is_help=True,
)

_NAMED = {"mesh": "a mesh", "cloud": "a point cloud", "cameras": "the cameras"}
FieldDevice = Annotated[
    DeviceChoice,
    typer.Option("--device", help="auto is the CPU: on cuda learning is far faster, but so far less good."),
]
Capture = Annotated[Path, typer.Argument(help="A folder of photos, a video, or a folder that has poses.")]
Run = Annotated[Path, typer.Argument(help="The run folder of a finished `nerf train`.")]
MaxSide = Annotated[
    int | None, typer.Option("--max-side", help="Photos are reduced to this many pixels on the longer side.", min=32)
]
Holdout = Annotated[str, typer.Option("--holdout", help="every8, or a share such as 0.1.")]
WeightsRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        help="LPIPS takes its weights from weights/ in it; else NNDL_SUITE_DATA, else the user's cache.",
    ),
]
Poses = Annotated[
    Literal["auto", "given", "colmap"],
    typer.Option("--poses", help="auto takes poses that came with the capture, else runs COLMAP."),
]
Background = Annotated[
    Literal["white", "black", "random"], typer.Option("--background", help="Behind photos with transparency.")
]


VideoFrames = Annotated[int, typer.Option("--video-frames", help="About how many frames of a video are used.", min=5)]


@app.command()
def poses(
    capture: Capture,
    out: Annotated[Path, typer.Option("--out", help="The folder to write; given again, it goes on where it stopped.")],
    matcher: Annotated[
        Literal["auto", "exhaustive", "sequential"],
        typer.Option("--matcher", help="Which photos are compared: all, or neighbours in name; auto: all up to 120."),
    ] = "auto",
    mapper: Annotated[
        Literal["global", "incremental"],
        typer.Option("--mapper", help="All cameras at once, or one after the other; if it fails the other is tried."),
    ] = "incremental",
    camera_model: Annotated[
        str, typer.Option("--camera-model", help="As COLMAP names it, such as OPENCV or OPENCV_FISHEYE; or auto.")
    ] = "auto",
    video_frames: VideoFrames = 100,
    threads: Annotated[
        int, typer.Option("--threads", help="For finding features; -1: one a core, fewer where memory is short.")
    ] = -1,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find where each photo was taken from; masks in a folder `masks` beside the photos are heeded.

    Examples:
      nndl-suite nerf poses photos/ --out scenes/can
      nndl-suite nerf poses clip.mp4 --matcher sequential --out scenes/can
    """
    from nndl_suite.nerf.sfm import SfmSettings, estimate_poses

    settings = SfmSettings(
        matcher=matcher,
        mapper=mapper,
        camera_model=camera_model,
        video_frames=video_frames,
        threads=threads,
        seed=seed,
    )
    with progress() as watch:
        estimate_poses(capture, out, settings=settings, watch=watch)
    show_poses(out, as_json=as_json)


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
    video_frames: VideoFrames = 100,
    refine_poses: Annotated[
        Literal["no", "yes"],
        typer.Option("--refine-poses", help="Let training move its cameras a little, for poses that are not exact."),
    ] = "no",
    seed: Seed = 0,
    device: FieldDevice = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    data_root: WeightsRoot = None,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Learn a radiance field and score it on held-out photos.

    Examples:
      nndl-suite nerf train photos/ --minutes 5 --out runs/can
      nndl-suite nerf train clip.mp4 --max-side 320 --steps 2000 --out runs/can
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
        video_frames=video_frames,
        refine_poses=refine_poses,
        device=device,
        data_root=data_root,
    )
    with progress() as watch, logged(out, tensorboard=tensorboard, log_to=log_to):
        scan.fit(minutes=minutes, steps=steps, devices=devices, nodes=nodes, resume=resume, watch=watch)
    for note in (*scan.scene.poses.notes, scan.device_note):
        if note is not None:
            say(f"note: {note}")
    show_result(out, as_json=as_json)


@app.command("eval")
def evaluate(run: Run, device: FieldDevice = "auto", data_root: WeightsRoot = None, as_json: AsJson = False) -> None:
    """Score a finished run again on its held-out photos.

    Example:
      nndl-suite nerf eval runs/can
    """
    from nndl_suite import ColmapNerfReconstructor

    with progress() as watch:
        ColmapNerfReconstructor.open(run, device=device, data_root=data_root).evaluate(watch=watch)
    show_result(run, as_json=as_json)


@app.command()
def render(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="The mp4 file to write.")],
    path: Annotated[
        str, typer.Option("--path", help="orbit, interpolate, spiral, or a camera-path FILE.json.")
    ] = "orbit",
    frames: Annotated[int, typer.Option("--frames", help="Length of the video; a FILE.json has its own.", min=2)] = 120,
    fps: Annotated[
        str | None, typer.Option("--fps", help="Frames a second, such as 24 or 30000/1001; else the file's, else 30.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="WIDTHxHEIGHT in pixels, such as 1280x720; else the photos' own.")
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", help="Height in pixels; the width follows the photos' shape.", min=16)
    ] = None,
    what: Annotated[
        Literal["rgb", "depth", "normal"], typer.Option("--what", help="Colours, inverse depths or surface normals.")
    ] = "rgb",
    samples: Annotated[int, typer.Option("--samples", help="Samples a ray: 16, 24, 32, 48 or 96.")] = 32,
    preview: Annotated[
        bool, typer.Option("--preview", help="Half the size, every third frame, 16 samples a ray.")
    ] = False,
    save_path: Annotated[
        Path | None, typer.Option("--save-path", help="Also write the camera path, as JSON that nerfstudio reads.")
    ] = None,
    device: FieldDevice = "auto",
    as_json: AsJson = False,
) -> None:
    """Render a video along a camera path. Ctrl-C ends it early; what is rendered by then plays.

    Examples:
      nndl-suite nerf render runs/can --path orbit --height 720 --out orbit.mp4
      nndl-suite nerf render runs/can --what depth --preview --out depth.mp4
    """
    from nndl_suite import ColmapNerfReconstructor

    if size is not None and height is not None:
        raise typer.BadParameter("--size and --height both say the height; give one of them")
    with progress() as watch:
        ColmapNerfReconstructor.open(run, device=device).render_path(
            path,
            out,
            frames=frames,
            fps=_fps(fps),
            size=height if size is None else _size(size),
            what=what,
            quality="preview" if preview else "full",
            samples=samples,
            save_path=save_path,
            watch=watch,
        )
    _wrote(out, as_json=as_json)


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="NAME.glb, .obj or .ply for a mesh; a .ply with cloud in its name for points; NAME.json for cameras "
            "as transforms.json; a folder for cameras as COLMAP text.",
        ),
    ],
    what: Annotated[
        Literal["mesh", "cloud", "cameras"] | None,
        typer.Option("--what", help="What to write, where the name does not say it."),
    ] = None,
    frame: Annotated[
        Literal["original", "upright"],
        typer.Option(
            "--frame", help="original: the capture's own; upright: stood up with the object at the origin (.glb: y up)."
        ),
    ] = "original",
    resolution: Annotated[
        int, typer.Option("--resolution", help="Grid points along each side of a mesh.", min=8)
    ] = 192,
    max_faces: Annotated[
        int, typer.Option("--max-faces", help="Triangles that a mesh is simplified to; 0 keeps all.", min=0)
    ] = 200_000,
    device: FieldDevice = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a point cloud, a mesh or the cameras, in the capture's own frame unless asked otherwise.

    Examples:
      nndl-suite nerf export runs/can --out mesh.glb
      nndl-suite nerf export runs/can --frame upright --out cloud.ply
    """
    from nndl_suite import ColmapNerfReconstructor

    scan = ColmapNerfReconstructor.open(run, device=device)
    chosen = what or _what(out)
    with progress() as watch:
        if chosen == "cameras":
            scan.export_cameras(out, frame=frame)
        elif chosen == "cloud":
            scan.export_point_cloud(out, frame=frame, watch=watch)
        else:
            scan.export_mesh(out, resolution=resolution, max_faces=max_faces or None, frame=frame, watch=watch)
    _wrote(out, as_json=as_json, what=_NAMED[chosen])


@app.command()
def view(
    run: Run,
    port: Annotated[
        int, typer.Option("--port", help="The first free one from here on is taken.", min=1, max=65535)
    ] = 7007,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; 0.0.0.0 lets others in, by the secret in the printed link."),
    ] = "127.0.0.1",
    device: FieldDevice = "auto",
) -> None:
    """Look around in a finished run in the browser: photos, points, mesh, and the field itself, rendered live.

    Example:
      nndl-suite nerf view runs/can
    """
    from nndl_suite import ColmapNerfReconstructor

    scan = ColmapNerfReconstructor.open(run, device=device)
    from nndl_suite.nerf.viewer import Viewer  # after the run: who mistyped its name need not install viser to hear so

    with progress() as watch:
        viewer = Viewer(scan, host=host, port=port, watch=watch)
    say(f"look at {viewer.address} (Ctrl-C ends it)")
    if viewer.lets_others_in:
        say("from another computer: the same with this machine's name in it; whoever has the whole link is let in")
    else:
        say(f"from another computer: ssh -L {viewer.port}:127.0.0.1:{viewer.port} THIS-MACHINE, then {viewer.address}")
    try:
        viewer.wait()
    except KeyboardInterrupt:
        say("closed")
    finally:
        viewer.close()


def _what(out: Path) -> Literal["mesh", "cloud", "cameras"]:
    """What a name asks for."""
    suffix = out.suffix.lower()
    if suffix == ".json" or not suffix or out.is_dir():
        return "cameras"
    return "cloud" if suffix == ".ply" and "cloud" in out.stem.lower() else "mesh"


def _wrote(file: Path, *, as_json: bool, what: str = "") -> None:
    if as_json:
        print_json({"file": str(file)})
    else:
        say(f"wrote {what and f'{what}: '}{file.resolve()}")


def _holdout(text: str) -> Literal["every8"] | float:
    if text == "every8":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--holdout wants every8 or a share such as 0.1, got {text!r}") from None


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise typer.BadParameter(f"--size wants WIDTHxHEIGHT such as 1280x720, got {text!r}") from None


def _fps(text: str | None) -> float | None:
    try:
        return None if text is None else float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"--fps wants a number such as 24, 29.97 or 30000/1001, got {text!r}") from None
