"""What COLMAP may be asked to do: everything that reaches it is on these lists, for some of its mistakes are fatal."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from nndl_suite.errors import ConfigError, unknown_name

Matcher = Literal["exhaustive", "sequential"]
Mapper = Literal["global", "incremental"]
Features = Literal["asked", "more"]
Start = Literal["strict", "relaxed"]

SOLVED_MODELS = (
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "FULL_OPENCV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "OPENCV_FISHEYE",
)
"""Camera models whose parameters COLMAP finds from bare photos."""
_BYTES_A_PIXEL = 90  # of scale space, measured with pycolmap 4.2.1 at 960 to 1920 pixels
_MEMORY_SHARE = 0.5  # of what is free; the rest is for photos, matches and everybody else


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRequest:
    """One run of COLMAP over prepared photos, checked on both sides of the pipe."""

    images: str
    masks: str | None
    groups: tuple[tuple[str, ...], ...]
    """File names in `images`, those of one camera together."""
    database: str
    model: str
    """The folder that gets the best model."""
    camera_model: str
    shared_camera: bool
    max_image_size: int
    """Pixels on the longer side at which features are sought."""
    photo_side: int
    """Pixels on the longer side of the largest photo: no more is to be had."""
    max_features: int
    first_octave: int
    """-1 seeks features at twice the size too."""
    matcher: Matcher
    widest_matcher: Matcher
    """The one that may be fallen back upon."""
    overlap: int
    """Neighbours on each side that sequential matching compares."""
    mapper: Mapper
    enough: float
    """Share of placed photos from which no other way is tried."""
    seed: int
    threads: int
    """-1 is one a core."""

    def __post_init__(self) -> None:
        for name, known in (
            ("matcher", get_args(Matcher)),
            ("widest_matcher", get_args(Matcher)),
            ("mapper", get_args(Mapper)),
            ("camera_model", SOLVED_MODELS),
        ):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ConfigError(f"{name} must lie in {least}..{most}, got {value!r}")
        names = [name for group in self.groups for name in group]
        if not names or len(set(names)) != len(names) or any(Path(name).name != name for name in names):
            raise ConfigError("groups must name each photo once, by its bare file name")

    @property
    def names(self) -> tuple[str, ...]:
        """All photos, in the order that numbers them."""
        return tuple(name for group in self.groups for name in group)

    @classmethod
    def from_json(cls, sent: Mapping[str, Any]) -> "EstimateRequest":
        """The request as the other side sent it.

        Raises:
            ConfigError: a field that is not known, is missing, or holds what it must not.
        """
        known = {field.name for field in fields(cls)}
        strange = sorted(set(sent) ^ known)
        if strange:
            raise ConfigError(f"a request to COLMAP has exactly its fields; unknown or missing: {', '.join(strange)}")
        checked: dict[str, Any] = {**sent, "groups": tuple(tuple(group) for group in sent["groups"])}
        return cls(**checked)


_RANGES: dict[str, tuple[float, float]] = {
    "max_image_size": (64, 10_000),
    "photo_side": (1, 100_000),
    "max_features": (100, 100_000),
    "first_octave": (-1, 0),
    "overlap": (1, 1000),
    "enough": (0, 1),
    "seed": (0, 2**31 - 1),
    "threads": (-1, 1024),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One way to the poses."""

    name: str
    """For a person: what is different about it."""
    features: Features
    matcher: Matcher
    mapper: Mapper
    start: Start
    """Relaxed: the mapper begins with a pair of less parallax, and adds photos that fewer points hold."""


def ladder(request: EstimateRequest) -> tuple[Rung, ...]:
    """The ways to try, cheapest first, until enough photos are placed."""
    other: Mapper = "incremental" if request.mapper == "global" else "global"
    asked = Rung(name="as asked", features="asked", matcher=request.matcher, mapper=request.mapper, start="strict")
    rungs = [
        asked,
        Rung(name=f"{other} mapper", features="asked", matcher=request.matcher, mapper=other, start="strict"),
    ]
    widest = request.widest_matcher
    if widest != request.matcher:
        rungs.append(
            Rung(name=f"{widest} matching", features="asked", matcher=widest, mapper=request.mapper, start="strict")
        )
    rungs += [
        Rung(name="more features", features="more", matcher=widest, mapper=request.mapper, start="strict"),
        Rung(name="relaxed start", features="more", matcher=widest, mapper="incremental", start="relaxed"),
    ]
    return tuple(rungs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """How features are sought."""

    max_image_size: int
    max_features: int
    first_octave: int


def extraction(request: EstimateRequest, features: Features) -> Extraction:
    """What was asked, or twice the features, at twice the size and a finer scale."""
    if features == "asked":
        return Extraction(
            max_image_size=request.max_image_size,
            max_features=request.max_features,
            first_octave=request.first_octave,
        )
    side = max(request.max_image_size, min(2 * request.max_image_size, request.photo_side))
    return Extraction(max_image_size=side, max_features=2 * request.max_features, first_octave=-1)


def extraction_threads(asked: int, settings: Extraction, *, cores: int, free_bytes: int | None) -> int:
    """As many as asked, never more than cores, nor than memory is free for: each holds a scale space of its own."""
    wanted = cores if asked == -1 else min(asked, cores)
    if free_bytes is None:
        return wanted
    side = settings.max_image_size * (2 if settings.first_octave == -1 else 1)
    return max(1, min(wanted, int(_MEMORY_SHARE * free_bytes // (_BYTES_A_PIXEL * side**2))))


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """What can be had without swapping; None where the system does not say (other than Linux)."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if available is None else int(available) * 1024


def usable_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
