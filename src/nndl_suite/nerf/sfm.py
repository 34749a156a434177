"""Structure from motion: camera poses from bare photos or a video, by COLMAP."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nndl_suite.errors import CaptureError, ConfigError, RunError, unknown_name
from nndl_suite.nerf.capture import FEWEST_PHOTOS, Prepared, prepare_capture
from nndl_suite.nerf.colmap import ask_colmap
from nndl_suite.nerf.colmap_request import SOLVED_MODELS, EstimateRequest, Mapper
from nndl_suite.nerf.decode import open_photo
from nndl_suite.nerf.diagnosis import MatchFacts, advice, doubts, reasons
from nndl_suite.nerf.masks import find_masks
from nndl_suite.nerf.photo_files import find_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.scene import Scene
from nndl_suite.training.files import Json, read_json, write_json
from nndl_suite.training.locks import held
from nndl_suite.training.watch import Watcher, ignore

_FAILURES_TOLD = 12
_ENOUGH = 0.8  # below this share of placed photos a second way is tried
_LEAST_SHARE = 0.25  # below this the object is not the thing that was reconstructed
_MOST_EXHAUSTIVE = 120  # photos that are all matched with all: 7140 pairs, a minute or two
_MOST_RETRIED = 300  # and when the quick pairing failed
_SMALL_PHOTO = 640  # up to here features are sought at twice the size too

MatcherChoice = Literal["auto", "exhaustive", "sequential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SfmSettings:
    """How COLMAP is run. The same photos, settings and COLMAP version give the same poses, bit for bit."""

    photo_side: int = 1920
    """Pixels on the longer side that photos are kept at, for training."""
    max_image_size: int = 960
    """Pixels on the longer side at which features are sought; memory grows with its square."""
    max_features: int = 3000
    """Per photo."""
    matcher: MatcherChoice = "auto"
    """Which photos are compared: all with all, or each with its neighbours in name. "auto": all up to 120 photos."""
    mapper: Mapper = "incremental"
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
    """For finding features; -1 is one a core, or fewer where memory is short. They do not change the result."""

    def __post_init__(self) -> None:
        if self.camera_model not in {"auto", *SOLVED_MODELS}:
            raise unknown_name("camera model", self.camera_model, ("auto", *SOLVED_MODELS))
        if self.matcher not in get_args(MatcherChoice):
            raise unknown_name("matcher", self.matcher, get_args(MatcherChoice))
        if self.mapper not in get_args(Mapper):
            raise unknown_name("mapper", self.mapper, get_args(Mapper))
        least = {"photo_side": 64, "max_image_size": 64, "max_features": 100, "video_frames": FEWEST_PHOTOS, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name} must be >= {bound}, got {getattr(self, name)}")
        if self.threads < 1 and self.threads != -1:
            raise ConfigError(f"threads must be >= 1, or -1 for one a core, got {self.threads}")


def estimate_poses(capture: Path, out: Path, *, settings: SfmSettings | None = None, watch: Watcher = ignore) -> Scene:
    """Find out where each photo was taken from.

    `out` gets `images/` (the photos as COLMAP saw them), `masks/` if the capture has masks, `sparse/0/` (the model, for
    COLMAP's own tools too), `database.db` (and `more.db` if the first features did not do) and `poses.json`. Where few
    photos find their place, other ways are tried before it gives up: see `colmap_request.ladder`. Called again with the
    same photos and settings it returns what is there, or goes on where it was stopped.

    Args:
        capture: A folder of photos, or a video file.
        out: A new folder, or one from an earlier call.
        settings: See `SfmSettings`.
        watch: Told of the progress.

    Raises:
        CaptureError: the capture cannot be used, or too few of its photos could be placed.
        DataError: a mask cannot be used.
        RunError: `out` holds something else, or cannot be written.
    """
    settings = settings or SfmSettings()
    wanted = _request(capture, settings)
    _continues(capture, out, wanted)  # a folder that is not ours gets no lock either
    _make(out)
    with held(out):
        return _estimate(capture, out, wanted, settings, watch)


def _estimate(capture: Path, out: Path, wanted: dict[str, Json], settings: SfmSettings, watch: Watcher) -> Scene:
    if not _continues(capture, out, wanted):
        _clear(out)
    if (out / "poses.json").exists():
        return read_scene(out)
    prepared = _prepare(capture, out, wanted, settings, watch)
    answer = ask_colmap("estimate", _sent(_colmap_request(prepared, out, settings)), watch=watch).fields
    facts = MatchFacts.from_json(answer["facts"])
    why = reasons(facts, answer["registered"], answer["apart"])
    _check(prepared, answer["registered"], capture, settings.camera_model, facts, why)
    why |= dict(prepared.skipped)
    write_json(
        out / "poses.json",
        {
            "registered": len(answer["registered"]),
            "total": len(prepared.names) + len(prepared.skipped),
            "mean_reprojection_error": answer["mean_reprojection_error"],
            "not_registered": list[Json](why),
            "why": dict[str, Json](why),
            "unreadable": dict[str, Json](prepared.skipped),
            "notes": [*prepared.notes, *_tries(answer), *doubts(facts)],
            "points": answer["points"],
            "matcher": answer["matcher"],
            "mapper": answer["mapper"],
            "database": answer["database"],
            "rung": answer["rung"],
            "tries": answer["tries"],
        },
    )
    return read_scene(out)


def _tries(answer: Mapping[str, Any]) -> list[str]:
    """What was tried, where the first way did not do."""
    tries = answer["tries"]
    if len(tries) == 1:
        return []
    told = ", ".join(f"{way['name']} {way['registered']}" for way in tries)
    return [f"photos placed by way: {told}; kept: {answer['rung']}"]


def _request(capture: Path, settings: SfmSettings) -> dict[str, Json]:
    """What decides the outcome: the bytes of the capture and the settings."""
    files = [capture] if capture.is_file() else _photos_and_masks(capture)
    asked = {name: value for name, value in asdict(settings).items() if name != "threads"}
    return {"capture": _digest(files), "settings": asked}


def _photos_and_masks(folder: Path) -> list[Path]:
    photos = find_photos(folder)
    return [*photos, *find_masks(photos[0].parent, [photo.name for photo in photos]).values()]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.name) + b"\0")
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError:
            digest.update(b"unreadable")  # who prepares the photos says so
    return digest.hexdigest()


def _continues(capture: Path, out: Path, wanted: dict[str, Json]) -> bool:
    """Whether `out` holds the beginning of exactly this; refuses a folder that holds anything else than our own."""
    if out.is_file():
        raise RunError(f"{out} is a file; --out wants the name of a new folder")
    # Not Path.resolve, which loses its head over links that go round in circles.
    there, photos, given = (os.path.realpath(path) for path in (out, out / "images", capture))
    if given in {there, photos}:
        raise RunError(f"{out} holds the capture itself; choose another --out")
    if not out.exists() or all(item.name.startswith(".") for item in out.iterdir()):
        return False
    if not (out / "request.json").exists():
        raise RunError(f"{out} is not empty and holds no poses of ours; choose another --out")
    begun = read_json(out / "request.json")
    return {key: begun.get(key) for key in wanted} == wanted


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {out}: {error.strerror or error}; choose another --out") from error


def _clear(out: Path) -> None:
    """An empty folder, but for what is not ours."""
    try:
        for name in ("images", "masks", "sparse"):
            shutil.rmtree(out / name, ignore_errors=True)
        for file in (*out.glob("database.db*"), *out.glob("more.db*"), out / "poses.json", out / "request.json"):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot clear {out}: {error.strerror or error}; choose another --out") from error


def _prepare(capture: Path, out: Path, wanted: dict[str, Json], settings: SfmSettings, watch: Watcher) -> Prepared:
    """The prepared photos, made or found; `request.json` names them when they are all there."""
    request = out / "request.json"
    known: Any = read_json(request) if request.exists() else {}
    if known.get("groups"):
        return Prepared(
            folder=out / "images",
            masks=out / "masks" if known.get("masks") else None,
            groups=tuple(map(tuple, known["groups"])),
            skipped=tuple((name, reason) for name, reason in known["skipped"].items()),
            notes=tuple(known.get("notes", ())),
        )
    write_json(request, wanted)  # before anything else, for it tells whose folder this is
    prepared = prepare_capture(
        capture,
        out / "images",
        masks=out / "masks",
        max_side=settings.photo_side,
        video_frames=settings.video_frames,
        watch=watch,
    )
    groups: list[Json] = [list(group) for group in prepared.groups]
    made: dict[str, Json] = {
        "groups": groups,
        "skipped": dict[str, Json](prepared.skipped),
        "masks": prepared.masks is not None,
        "notes": list[Json](prepared.notes),
    }
    write_json(request, {**wanted, **made})
    return prepared


def _colmap_request(prepared: Prepared, out: Path, settings: SfmSettings) -> EstimateRequest:
    count = len(prepared.names)
    matcher = settings.matcher
    if matcher == "auto":
        matcher = "exhaustive" if count <= _MOST_EXHAUSTIVE else "sequential"
    camera_model = settings.camera_model
    if camera_model == "auto":
        plenty = settings.shared_camera and count >= 10 * len(prepared.groups)
        camera_model = "OPENCV" if plenty else "SIMPLE_RADIAL"
    longest = max(_longest_side(prepared.folder / group[0]) for group in prepared.groups)
    return EstimateRequest(
        images=str(prepared.folder),
        masks=None if prepared.masks is None else str(prepared.masks),
        groups=prepared.groups,
        database=str(out / "database.db"),
        model=str(out / "sparse" / "0"),
        camera_model=camera_model,
        shared_camera=settings.shared_camera,
        max_image_size=settings.max_image_size,
        photo_side=longest,
        max_features=settings.max_features,
        first_octave=-1 if min(longest, settings.max_image_size) <= _SMALL_PHOTO else 0,
        matcher=matcher,
        widest_matcher="exhaustive" if count <= _MOST_RETRIED else matcher,
        overlap=15,
        mapper=settings.mapper,
        enough=_ENOUGH,
        seed=settings.seed,
        threads=settings.threads,
    )


def _longest_side(photo: Path) -> int:
    with open_photo(photo) as opened:
        return max(opened.size)


def _sent(request: EstimateRequest) -> dict[str, Json]:
    return {**asdict(request), "groups": [list(group) for group in request.groups]}


def _check(
    prepared: Prepared,
    registered: list[str],
    capture: Path,
    model: str,
    facts: MatchFacts,
    why: Mapping[str, str],
) -> None:
    total = len(prepared.names)
    if len(registered) >= max(FEWEST_PHOTOS, _LEAST_SHARE * total):
        return
    failed = list(why.items())
    told = "".join(f"\n  {name}: {reason}" for name, reason in failed[:_FAILURES_TOLD])
    more = f"\n  and {len(failed) - _FAILURES_TOLD} more" if len(failed) > _FAILURES_TOLD else ""
    likely = advice(facts, why) + _doubt(model)
    raise CaptureError(f"COLMAP placed {len(registered)} of {total} photos of {capture}: {likely}{told}{more}")


def _doubt(camera_model: str) -> str:
    """A camera model that was asked for may be the reason."""
    if "FISHEYE" in camera_model:
        return (
            f". Of {camera_model} photos COLMAP matches only those whose EXIF tells the focal length; "
            "are there such, and was it a fisheye lens?"
        )
    return "" if camera_model == "auto" else f". Is {camera_model} the model of this camera? auto may find another"
