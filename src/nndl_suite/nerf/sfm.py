"""Structure from motion: camera poses from bare photos or a video, by COLMAP."""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from nndl_suite.errors import CaptureError, ConfigError, RunError, unknown_name
from nndl_suite.nerf.capture import Prepared, find_photos, prepare_capture
from nndl_suite.nerf.colmap import ask_colmap
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.scene import Scene
from nndl_suite.training.files import Json, read_json, write_json
from nndl_suite.training.watch import Watcher, ignore

_ENOUGH = 0.8  # below this share of placed photos a second way is tried
_FEWEST = 5
_LEAST_SHARE = 0.25  # below this the object is not the thing that was reconstructed
_MOST_EXHAUSTIVE = 120  # photos that are all matched with all: 7140 pairs, a minute or two
_MOST_RETRIED = 300  # and when the quick pairing failed
_SMALL_PHOTO = 640  # up to here features are sought at twice the size too

_CAMERA_MODELS = (
    "auto",
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SfmSettings:
    """How COLMAP is run. The same photos, settings and COLMAP version give the same poses, bit for bit."""

    photo_side: int = 1920
    """Pixels on the longer side that photos are kept at, for training."""
    max_image_size: int = 960
    """Pixels on the longer side at which features are sought; memory grows with its square."""
    max_features: int = 3000
    """Per photo."""
    matcher: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Which photos are compared: all with all, or each with its neighbours in name. "auto": all up to 120 photos."""
    mapper: Literal["global", "incremental"] = "incremental"
    """All cameras at once (GLOMAP, arXiv 2407.20219), or one after the other. The other one is tried if it fails."""
    camera_model: str = "auto"
    """As COLMAP names it. "auto": OPENCV where a camera took 10 photos or more, enough to tell all its distortion,
    else SIMPLE_RADIAL."""
    shared_camera: bool = True
    """Photos of one size and focal length came from one camera."""
    video_frames: int = 100
    """About how many frames of a video are used."""
    seed: int = 0
    threads: int = -1
    """For finding features; -1 is one a core. They do not change the result."""

    def __post_init__(self) -> None:
        if self.camera_model not in _CAMERA_MODELS:
            raise unknown_name("camera model", self.camera_model, _CAMERA_MODELS)
        if self.matcher not in {"auto", "exhaustive", "sequential"}:
            raise unknown_name("matcher", self.matcher, ("auto", "exhaustive", "sequential"))
        if self.mapper not in {"global", "incremental"}:
            raise unknown_name("mapper", self.mapper, ("global", "incremental"))
        least = {"photo_side": 64, "max_image_size": 64, "max_features": 100, "video_frames": _FEWEST, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name} must be >= {bound}, got {getattr(self, name)}")
        if self.threads < 1 and self.threads != -1:
            raise ConfigError(f"threads must be >= 1, or -1 for one a core, got {self.threads}")


def estimate_poses(capture: Path, out: Path, *, settings: SfmSettings | None = None, watch: Watcher = ignore) -> Scene:
    """Find out where each photo was taken from.

    `out` gets `images/` (the photos as COLMAP saw them), `sparse/0/` (the model, which COLMAP's own tools read),
    `database.db` and `poses.json`. Called again with the same photos and settings it returns what is there, or goes on
    where it was stopped.

    Args:
        capture: A folder of photos, or a video file.
        out: A new folder, or one from an earlier call.
        settings: See `SfmSettings`.
        watch: Told of the progress.

    Raises:
        CaptureError: the capture cannot be used, or too few of its photos could be placed.
        RunError: `out` holds something else.
    """
    settings = settings or SfmSettings()
    wanted = _request(capture, settings)
    if not _continues(capture, out, wanted):
        _clear(out)
    if (out / "poses.json").exists():
        return read_scene(out)
    prepared = _prepare(capture, out, wanted, settings, watch)
    answer = ask_colmap("estimate", _colmap_request(prepared, out, settings), watch=watch).fields
    _check(prepared, answer["registered"], capture)
    placed = set(answer["registered"])
    missing: list[Json] = [name for name in prepared.names if name not in placed]
    missing += [name for name, _ in prepared.skipped]
    write_json(
        out / "poses.json",
        {
            "registered": len(placed),
            "total": len(prepared.names) + len(prepared.skipped),
            "mean_reprojection_error": answer["mean_reprojection_error"],
            "not_registered": missing,
            "unreadable": dict[str, Json](prepared.skipped),
            "points": answer["points"],
            "matcher": answer["matcher"],
            "mapper": answer["mapper"],
        },
    )
    return read_scene(out)


def _request(capture: Path, settings: SfmSettings) -> dict[str, Json]:
    """What decides the outcome: the bytes of the capture and the settings."""
    files = [capture] if capture.is_file() else find_photos(capture)
    asked = {name: value for name, value in asdict(settings).items() if name != "threads"}
    return {"capture": _digest(files), "settings": asked}


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _continues(capture: Path, out: Path, wanted: dict[str, Json]) -> bool:
    """Whether `out` holds the beginning of exactly this; refuses a folder that holds anything else than our own."""
    if out.is_file():
        raise RunError(f"{out} is a file; --out wants the name of a new folder")
    if out.resolve() == capture.resolve() or (out / "images").resolve() == capture.resolve():
        raise RunError(f"{out} holds the capture itself; choose another --out")
    if not out.exists() or not any(out.iterdir()):
        return False
    if not (out / "request.json").exists():
        raise RunError(f"{out} is not empty and holds no poses of ours; choose another --out")
    begun = read_json(out / "request.json")
    return {key: begun.get(key) for key in wanted} == wanted


def _clear(out: Path) -> None:
    for name in ("images", "sparse"):
        shutil.rmtree(out / name, ignore_errors=True)
    for file in (*out.glob("database.db*"), out / "poses.json", out / "request.json"):
        file.unlink(missing_ok=True)


def _prepare(capture: Path, out: Path, wanted: dict[str, Json], settings: SfmSettings, watch: Watcher) -> Prepared:
    """The prepared photos, made or found; `request.json` names them when they are all there."""
    request = out / "request.json"
    known: Any = read_json(request) if request.exists() else {}
    if known.get("groups"):
        return Prepared(
            folder=out / "images",
            groups=tuple(map(tuple, known["groups"])),
            skipped=tuple((name, reason) for name, reason in known["skipped"].items()),
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {out}: {error.strerror}; choose another --out") from error
    write_json(request, wanted)  # before anything else, for it tells whose folder this is
    prepared = prepare_capture(
        capture, out / "images", max_side=settings.photo_side, video_frames=settings.video_frames, watch=watch
    )
    groups: list[Json] = [list(group) for group in prepared.groups]
    write_json(request, {**wanted, "groups": groups, "skipped": dict[str, Json](prepared.skipped)})
    return prepared


def _colmap_request(prepared: Prepared, out: Path, settings: SfmSettings) -> dict[str, Json]:
    count = len(prepared.names)
    matcher = settings.matcher
    if matcher == "auto":
        matcher = "exhaustive" if count <= _MOST_EXHAUSTIVE else "sequential"
    camera_model = settings.camera_model
    if camera_model == "auto":
        plenty = settings.shared_camera and count >= 10 * len(prepared.groups)
        camera_model = "OPENCV" if plenty else "SIMPLE_RADIAL"
    with Image.open(prepared.folder / prepared.names[0]) as photo:
        longest = min(max(photo.size), settings.max_image_size)
    return {
        "images": str(prepared.folder),
        "groups": [list(group) for group in prepared.groups],
        "database": str(out / "database.db"),
        "model": str(out / "sparse" / "0"),
        "camera_model": camera_model,
        "shared_camera": settings.shared_camera,
        "max_image_size": settings.max_image_size,
        "max_features": settings.max_features,
        "first_octave": -1 if longest <= _SMALL_PHOTO else 0,
        "matcher": matcher,
        "retry_matcher": "exhaustive" if count <= _MOST_RETRIED else matcher,
        "overlap": 15,
        "mapper": settings.mapper,
        "enough": _ENOUGH,
        "seed": settings.seed,
        "threads": settings.threads,
    }


def _check(prepared: Prepared, registered: list[str], capture: Path) -> None:
    total = len(prepared.names)
    if len(registered) >= max(_FEWEST, _LEAST_SHARE * total):
        return
    lost = [name for name in prepared.names if name not in set(registered)]
    told = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    raise CaptureError(
        f"COLMAP placed {len(registered)} of {total} photos of {capture}; not placed: {told}. Photos must overlap "
        "(every part of the object in three or more), be sharp, and show texture: walk round the object in small "
        "steps, leave patterned surroundings in view, avoid shiny and plain surfaces"
    )
