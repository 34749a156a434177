"""What a study compares: SSL methods on sets of images, and what they are measured against."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RowKind = Literal["ssl", "imagenet", "random", "scratch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One source of features."""

    kind: RowKind
    name: str
    """"byol on cifar10", "imagenet at 64 px", "random", "scratch"."""
    folder: str
    """The name as a part of folder names."""
    method: str | None = None
    dataset: str | None = None
    """What it is pretrained on; None where nothing is."""
    resolution: int | None = None
    """Pixels asked for; None leaves it to `features.load_feature_source`."""


def study_rows(
    methods: Sequence[str], datasets: Sequence[str], downstream: str, resolutions: Sequence[int]
) -> tuple[Row, ...]:
    """Each method on each set, ImageNet weights at each resolution (or their own), random weights, and from scratch."""
    short = _short_names([*datasets])
    learned = [
        Row(
            kind="ssl",
            name=f"{method} on {short[dataset]}",
            folder=f"{method}-{_slug(short[dataset])}",
            method=method,
            dataset=dataset,
        )
        for dataset in datasets
        for method in methods
    ]
    imagenet = [
        Row(kind="imagenet", name=f"imagenet at {size} px", folder=f"imagenet-{size}px", resolution=size)
        for size in resolutions
    ] or [Row(kind="imagenet", name="imagenet", folder="imagenet")]
    return (
        *learned,
        *imagenet,
        Row(kind="random", name="random", folder="random"),
        Row(kind="scratch", name="scratch", folder="scratch", method="supervised", dataset=downstream),
    )


def _short_names(datasets: Sequence[str]) -> dict[str, str]:
    """ "arrays:/data/leaves.npz" -> "leaves", where that names one set only; else its whole name."""
    short = {name: re.split(r"[/\\:]", name.rstrip("/\\"))[-1].removesuffix(".npz") for name in datasets}
    values = list(short.values())
    clear = {name for name, brief in short.items() if re.search(r"\w", brief) and values.count(brief) == 1}
    return {name: brief if name in clear else name for name, brief in short.items()}


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
