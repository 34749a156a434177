"""Where the weights of LPIPS lie on this machine."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LpipsFiles:
    """The two files of weights."""

    features: Path
    """SqueezeNet, trained on ImageNet."""
    heads: Path
    """Fitted to people's judgements."""


@dataclass(frozen=True, slots=True)
class NoLpips:
    """There are no weights, and where they were looked for."""

    reason: str


def find_lpips_files(data_root: Path) -> LpipsFiles | NoLpips:
    """`weights/squeezenet1_1.pth` in the data root, or torchvision's file in torch's hub cache.

    The heads are `weights/lpips_squeeze.pth`, else the copy that torchmetrics brings along.
    """
    weights = data_root / "weights"
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    found = [
        file for file in (weights / "squeezenet1_1.pth", *sorted(cache.glob("squeezenet1_1-*.pth"))) if file.is_file()
    ]
    if not found:
        return NoLpips(
            f"no SqueezeNet weights found: neither squeezenet1_1.pth in {weights} nor torchvision's in {cache}"
        )
    heads = next((file for file in (weights / "lpips_squeeze.pth", *_bundled()) if file.is_file()), None)
    if heads is None:
        return NoLpips(f"no LPIPS heads found: no lpips_squeeze.pth in {weights}")
    return LpipsFiles(features=found[0], heads=heads)


def _bundled() -> list[Path]:
    """Found without importing torchmetrics, which takes seconds."""
    package = find_spec("torchmetrics")
    folders = (package.submodule_search_locations if package else None) or []
    return [Path(folder) / "functional" / "image" / "lpips_models" / "squeeze.pth" for folder in folders]
