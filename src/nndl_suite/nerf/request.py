"""What a reconstruction is asked to do, checked before anything is done."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from nndl_suite.errors import CaptureError, ConfigError, RunError, unknown_name
from nndl_suite.nerf.capture import FEWEST_PHOTOS
from nndl_suite.nerf.clip import VIDEO_SUFFIXES, check_video, is_video
from nndl_suite.nerf.photo_files import find_photos
from nndl_suite.nerf.readers import has_poses
from nndl_suite.training.fabric import Device, resolve_device
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.sealed_json import read_sealed, write_sealed

PosesFrom = Literal["auto", "given", "colmap"]
Background = Literal["white", "black", "random"]
Choice = Literal["no", "yes"]

_DEFAULT_MINUTES = 5.0


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
    """"auto" is the CPU, see `gpu.chosen.choose_device`."""

    def __post_init__(self) -> None:
        self._check_types()
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

    def _check_types(self) -> None:
        """A run's settings come back from a file, which may say anything."""
        whole = {"seed": self.seed, "video_frames": self.video_frames, "max_side": self.max_side}
        for name, value in whole.items():
            is_whole = isinstance(cast(object, value), int) and not isinstance(value, bool)
            if not is_whole and not (name == "max_side" and value is None):
                raise ConfigError(f"{name} must be a whole number, got {value!r}")


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
    budget = Budget(minutes=saved.get("minutes"), steps=saved.get("steps"))
    if not _is_budget(budget):
        raise RunError(f"{file} is damaged, it states {saved}; train into another --out")
    if (minutes is not None or steps is not None) and Budget(minutes=minutes, steps=steps) != budget:
        raise RunError(
            f"{run.path} was started with minutes={budget.minutes}, steps={budget.steps}; "
            "resume with the same, or choose another --out"
        )
    return budget


def _is_budget(budget: Budget) -> bool:
    """What a file says may be of any type."""
    minutes, steps = cast(object, budget.minutes), cast(object, budget.steps)
    stated = [value for value in (minutes, steps) if value is not None]
    return bool(stated) and type(steps) in (int, type(None)) and all(_above_0(value) for value in stated)


def _above_0(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


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
    else:
        check_video(source)


def fingerprint(source: Path) -> str:
    """Names and sizes of a capture's files: enough to notice that a resumed run has got another one.

    Raises:
        CaptureError: the capture is not there any more.
    """
    if not source.exists():
        raise CaptureError(f"{source} does not exist any more; put the capture back to go on with its run")
    files = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
    listing = "\n".join(f"{file.relative_to(source.parent)} {file.stat().st_size}" for file in files)
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()
