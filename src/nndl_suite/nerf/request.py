"""What a reconstruction is asked to do, checked before anything is done."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from nndl_suite.errors import CaptureError, ConfigError, RunError, unknown_name
from nndl_suite.nerf.capture import FEWEST_PHOTOS
from nndl_suite.nerf.clip import VIDEO_SUFFIXES, is_video
from nndl_suite.nerf.photo_files import find_photos
from nndl_suite.nerf.readers import has_poses
from nndl_suite.training.fabric import Device, resolve_device
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.sealed_json import read_sealed, write_sealed

PosesFrom = Literal["auto", "given", "colmap"]
Background = Literal["white", "black", "random"]
Choice = Literal["no", "yes"]

_DEFAULT_MINUTES = 5.0
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructionSettings:
    """What is reconstructed, and how it is judged."""

    source: str
    """A folder of photos, a video, or a scene that has poses."""
    seed: int = 0
    poses: PosesFrom = "auto"
    """"auto" takes the poses that came with the capture, and runs COLMAP where none did."""
    max_side: int | None = 480
    """Pixels on the longer side that photos are reduced to; None keeps them."""
    holdout: Literal["every8"] | float = "every8"
    """Which photos are kept for the score; see `scene.hold_out`."""
    background: Background = "white"
    """Behind photos with transparency."""
    video_frames: int = 100
    """About how many frames of a video are used."""
    refine_poses: Choice = "no"
    """Whether training moves its cameras a little to where the field agrees with their photos."""
    device: Device = "auto"
    """"auto" takes CUDA where the Triton kernels run (Linux, from Ampere on), else the CPU."""

    def __post_init__(self) -> None:
        if self.poses not in get_args(PosesFrom):
            raise unknown_name("poses", self.poses, get_args(PosesFrom))
        if self.background not in get_args(Background):
            raise unknown_name("background", self.background, get_args(Background))
        if self.refine_poses not in get_args(Choice):
            raise unknown_name("refine_poses", str(self.refine_poses), get_args(Choice))
        if self.max_side is not None and self.max_side < 32:
            raise ConfigError(f"max_side must be >= 32 pixels, got {self.max_side}")
        if self.holdout != "every8" and not (isinstance(self.holdout, float) and 0 < self.holdout < 1):
            raise ConfigError(f"holdout must be 'every8' or a share between 0 and 1, got {self.holdout!r}")
        if self.video_frames < FEWEST_PHOTOS:
            raise ConfigError(f"video_frames must be >= {FEWEST_PHOTOS}, got {self.video_frames}")
        if self.seed < 0:
            raise ConfigError(f"seed must be >= 0, got {self.seed}")
        resolve_device(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long a run trains, as it was started."""

    minutes: float | None
    steps: int | None


def settle_budget(run: RunFolder, minutes: float | None, steps: int | None) -> Budget:
    """The budget that is asked for, or that of the run which goes on: the rates fall with it, so it cannot change."""
    file = run.path / "budget.json"
    if not file.exists():
        budget = Budget(minutes=_DEFAULT_MINUTES if minutes is None and steps is None else minutes, steps=steps)
        write_sealed(file, {"minutes": budget.minutes, "steps": budget.steps})
        return budget
    saved = cast(dict[str, Any], read_sealed(file))
    try:
        budget = Budget(minutes=saved["minutes"], steps=saved["steps"])
    except KeyError as error:
        raise RunError(f"{file} is damaged (no {error}); put back a copy, or choose another --out") from error
    if (minutes is not None or steps is not None) and Budget(minutes=minutes, steps=steps) != budget:
        raise RunError(
            f"{run.path} was started with minutes={budget.minutes}, steps={budget.steps}; "
            "resume with the same, or choose another --out"
        )
    return budget


def check_source(source: Path, poses: PosesFrom) -> None:
    """Refuse what cannot be a capture, before anything is done."""
    if not source.exists():
        raise CaptureError(f"{source} does not exist; give a folder of photos, a video, or a scene with poses")
    if has_poses(source) and poses != "colmap":
        return
    if poses == "given":
        raise CaptureError(f"{source} has no camera poses; let COLMAP find them (--poses colmap)")
    if source.is_dir():
        find_photos(source)
    elif not is_video(source):
        raise CaptureError(f"{source} is neither a folder nor a video ({', '.join(sorted(VIDEO_SUFFIXES))})")


def capture_files(source: Path) -> dict[str, int]:
    """The names of a capture's files and their sizes in bytes.

    Raises:
        CaptureError: the capture is not there any more.
    """
    if not source.exists():
        raise CaptureError(f"{source} does not exist any more; put the capture back to go on with its run")
    files = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
    return {str(file.relative_to(source.parent)): file.stat().st_size for file in files}


def fingerprint(files: Mapping[str, int]) -> str:
    """A digest of `capture_files`: enough to notice that a resumed run has got another capture."""
    listing = "\n".join(f"{name} {size}" for name, size in files.items())
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()


def check_files(kept: Path, files: Mapping[str, int]) -> None:
    """Refuse another capture than the one that a run was started with, by the names of what changed.

    Args:
        kept: What `keep_files` wrote; where there is nothing, the run's settings alone tell.
        files: The capture as it is now.

    Raises:
        RunError: files were added, taken away or replaced.
    """
    if not kept.exists():
        return
    before, files = read_sealed(kept), _readable(files)
    changed = [f"{name} is gone" for name in before if name not in files]
    changed += [f"{name} is new" for name in files if name not in before]
    changed += [
        f"{name} had {before[name]} bytes and has {size}"
        for name, size in files.items()
        if before.get(name, size) != size
    ]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise RunError(
            f"the capture of {kept.parent} has changed: {', '.join(changed[:_SHOWN])}{more}; put it back as it was, or "
            "choose another --out"
        )


def keep_files(kept: Path, files: Mapping[str, int]) -> None:
    """Write down which files a run's capture has, once."""
    if not kept.exists():
        write_sealed(kept, dict[str, Json](_readable(files)))


def _readable(files: Mapping[str, int]) -> dict[str, int]:
    """With names that are no UTF-8 in a form that is."""
    return {
        name.encode(errors="surrogateescape").decode(errors="backslashreplace"): size for name, size in files.items()
    }
