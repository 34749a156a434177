"""Options that several commands share; their defaults are those of the Python API, which a test compares."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

DATASETS = ("cifar10", "cifar100", "stl10", "tiny-imagenet", "demo", "folder:", "arrays:", "wds:")
METHODS = (
    "simclr",
    "mocov2",
    "mocov3",
    "byol",
    "simsiam",
    "barlow",
    "vicreg",
    "swav",
    "dino",
    "nnclr",
    "lejepa",
    "supervised",
)
RECIPES = ("default", "speed", "course-2024")
"""What shells complete; written out here, for asking the package would import torch. A test compares them."""


def offered(names: Sequence[str]) -> Callable[[str], list[str]]:
    """For a shell's completion: those names that begin as what was typed."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


Out = Annotated[Path, typer.Option("--out", help="The run folder to write; must be new unless --resume.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or start it if there is none.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides every random draw of the run.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
DeviceChoice = Literal["auto", "cpu", "cuda"]
DeviceName = Annotated[DeviceChoice, typer.Option("--device", help="auto takes a CUDA device where there is one.")]
Devices = Annotated[
    int, typer.Option("--devices", min=1, help="Processes on this machine that share every batch, a GPU each.")
]
Nodes = Annotated[int, typer.Option("--nodes", min=1, help="Machines that share every batch.")]
PrecisionName = Annotated[
    Literal["auto", "32-true", "bf16-mixed"],
    typer.Option("--precision", help="auto takes bf16 where the machine computes it natively."),
]
Dataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="cifar10, cifar100, stl10, tiny-imagenet, demo, folder:PATH, arrays:FILE.npz or wds:SHARDS.",
        autocompletion=offered(DATASETS),
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Where named data sets lie; else NNDL_SUITE_DATA, else the user's cache."),
]
AsLargeAs = Annotated[str, typer.Option("--cnn", help="The network that a vit, vit-pool, … is made as large as.")]
MatchName = Annotated[
    Literal["parameters", "flops"], typer.Option("--match", help="What a vit that is made to measure has as much of.")
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="default, speed or course-2024, or a JSON file of a recipe's settings.",
        autocompletion=offered(RECIPES),
    ),
]
T = TypeVar("T")


def listed(words: str, kind: Callable[[str], T], option: str = "") -> tuple[T, ...]:
    """ "32,64" -> (32, 64); empty parts are left out."""
    try:
        return tuple(kind(word.strip()) for word in words.split(",") if word.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{option} wants numbers with commas between, got {words!r}") from error
