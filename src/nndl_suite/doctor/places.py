"""Is there room to work, and what lies where: data sets, weights."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nndl_suite.doctor.finding import Finding, set_line
from nndl_suite.doctor.programs import can_write

_GIB = 2**30
_TOO_LITTLE_GIB, _LITTLE_GIB = 0.5, 5.0
NAMED_SETS = {
    "cifar10": ("cifar10-train.npz", "cifar-10-batches-py"),
    "cifar100": ("cifar100-train.npz", "cifar-100-python"),
    "stl10": ("stl10_binary",),
    "tiny-imagenet": ("tiny-imagenet-200",),
}
"""By data name: of which one must be in the data root; see `data.benchmarks`."""


def check_data(data_root: Path, *, named_by: str) -> Finding:
    """Which named sets lie in the data root, and whether others could be put there.

    Args:
        data_root: The folder.
        named_by: What says that it is this one, for a person.
    """
    there = [name for name, marks in NAMED_SETS.items() if any((data_root / mark).exists() for mark in marks)]
    absent = [name for name in NAMED_SETS if name not in there]
    told = f"{data_root} ({named_by}): {', '.join([*there, 'demo (built in)'])}"
    if absent and not can_write(data_root):
        return Finding(
            name="data sets",
            found=f"{told}; {', '.join(absent)} cannot be downloaded to it, it cannot be written",
            state="warn",
            cure=set_line("NNDL_SUITE_DATA", "FOLDER"),
        )
    return Finding(
        name="data sets", found=told + (f"; {', '.join(absent)} will be downloaded when asked for" if absent else "")
    )


def check_imagenet_weights(cache: Path) -> Finding:
    """torchvision's ResNet-18, which `--features imagenet` and studies take; downloaded when it is missing."""
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415

    name = str(ResNet18_Weights.IMAGENET1K_V1.value.url).rsplit("/", 1)[-1]
    if (cache / name).is_file():
        return Finding(name="ImageNet weights", found=f"{name} in {cache}")
    return Finding(
        name="ImageNet weights",
        found=f"no {name} in {cache}; --features imagenet will download it",
        cure="python -c \"import torchvision; torchvision.models.resnet18(weights='IMAGENET1K_V1')\"",
    )


def check_lpips_weights(data_root: Path) -> Finding:
    """SqueezeNet, without which reconstructions are scored by PSNR and SSIM alone; never downloaded by itself."""
    from nndl_suite.nerf.lpips_files import LpipsFiles, find_lpips_files  # noqa: PLC0415

    found = find_lpips_files(data_root)
    if isinstance(found, LpipsFiles):
        return Finding(name="LPIPS weights", found=str(found.features))
    return Finding(
        name="LPIPS weights",
        found=f"{found.reason}; scores will lack LPIPS",
        state="warn",
        cure="python -c \"import torchvision; torchvision.models.squeezenet1_1(weights='IMAGENET1K_V1')\"",
    )


def check_disk(folders: Sequence[Path]) -> Finding:
    """Room for runs, data and temporary files, where the least is what counts."""
    free = {folder: shutil.disk_usage(_nearest(folder)).free / _GIB for folder in folders}
    folder = min(free, key=lambda one: free[one])
    told = f"at least {free[folder]:.1f} GiB free"
    if free[folder] >= _LITTLE_GIB:
        return Finding(name="disk", found=told)
    cure = f"free some space on the disk of {folder}, or work elsewhere: --out, --data-root, TMPDIR"
    state = "fail" if free[folder] < _TOO_LITTLE_GIB else "warn"
    return Finding(name="disk", found=f"{free[folder]:.1f} GiB free for {folder}: little", state=state, cure=cure)


def check_writing(here: Path, cache: Path) -> Finding:
    """Files can be made where runs, temporary files and kept features go."""
    try:
        scratch = Path(tempfile.gettempdir())
    except FileNotFoundError:  # Python tried every folder it knows
        return Finding(
            name="writing",
            found="no folder for temporary files can be written",
            state="fail",
            cure=set_line("TEMP" if os.name == "nt" else "TMPDIR", "FOLDER"),
        )
    if not can_write(here):
        return Finding(
            name="writing", found=f"runs cannot be written in {here}", state="warn", cure=f"cd {Path.home()}"
        )
    if not can_write(cache):
        return Finding(
            name="writing",
            found=f"features and downloads cannot be kept in {cache}",
            state="warn",
            cure=set_line("XDG_CACHE_HOME", "FOLDER"),
        )
    return Finding(name="writing", found=f"here, in {scratch} and in {cache}")


def _nearest(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
