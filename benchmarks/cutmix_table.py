"""How much CutMix cuts, by variant, beside the library whose convention it is; writes results/cutmix_table.json.

    python benchmarks/cutmix_table.py [--draws 400000] [--size 32] [--alpha 1.0]

Each library is asked by its own code: torchvision's and kornia's transforms for their parameters, timm for its box.
The paper's code is no package, so "original" has no library beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from kornia.augmentation import RandomCutMixV2
from record import circumstances, save
from timm.data.mixup import cutmix_bbox_and_lam
from torch import Tensor
from torchvision.transforms import v2

from nndl_suite.comparison.cutmix import CutMix, box_areas
from nndl_suite.training.files import Json
from nndl_suite.training.seeds import isolated_rng

VARIANTS = ("original", "torchvision", "timm", "kornia")


def figures(draw: Callable[[], Tensor], size: int) -> dict[str, Json]:
    """Of the areas in pixels that `draw` gives: mean share of a square image, its standard error, P(share > 1/2)."""
    with isolated_rng(0):
        shares = draw().double() / size**2
    return {
        "mean_cut": shares.mean().item(),
        "standard_error": shares.std().item() / len(shares) ** 0.5,
        "more_than_half": (shares > 0.5).double().mean().item(),
    }


def ours(variant: str, n: int, size: int, alpha: float) -> Tensor:
    """Areas of n boxes of this package."""
    mix = CutMix(alpha=alpha, probability=1, variant=variant, generator=torch.Generator().manual_seed(0))
    return box_areas(mix.draw_boxes(n, (size, size)))


def of_torchvision(n: int, size: int, alpha: float) -> Tensor:
    """Areas of n boxes of `v2.CutMix`, which draws them one at a time."""
    transform, images = v2.CutMix(alpha=alpha, num_classes=2), [torch.zeros(1, 1, size, size)]
    boxes = torch.tensor([transform.make_params(images)["box"] for _ in range(n)])  # x1, y1, x2, y2
    return box_areas(boxes)


def of_timm(n: int, size: int, alpha: float) -> Tensor:
    """Areas of n boxes of `timm.data.Mixup`, from NumPy's global generator, as timm draws them."""
    np.random.seed(0)  # noqa: NPY002
    kept = np.random.beta(alpha, alpha, n)  # noqa: NPY002
    top, bottom, left, right = np.array([cutmix_bbox_and_lam((size, size), lam)[0] for lam in kept]).T
    return torch.as_tensor((bottom - top) * (right - left))


def of_kornia(n: int, size: int, alpha: float) -> Tensor:
    """Areas of n boxes of `RandomCutMixV2`, a batch of n."""
    transform = RandomCutMixV2(beta=alpha, data_keys=["input", "class"], use_correct_lambda=True)
    corners = transform.forward_parameters((n, 1, size, size))["crop_src"][0]  # [n, 4, 2], the last pixel inside
    return (corners[:, 2] - corners[:, 0] + 1).prod(dim=1)


LIBRARIES = {"torchvision": of_torchvision, "timm": of_timm, "kornia": of_kornia}


def main() -> None:
    """Draw, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400_000)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args()
    start = circumstances()
    table: dict[str, Json] = {}
    print(f"{'':12} {'mean cut':>9} {'library':>9} {'P(> 1/2)':>9} {'library':>9}")
    for variant in VARIANTS:
        mine = figures(lambda variant=variant: ours(variant, args.draws, args.size, args.alpha), args.size)
        library = LIBRARIES.get(variant)
        theirs: dict[str, Json] | None = None
        if library is not None:
            theirs = figures(lambda library=library: library(args.draws, args.size, args.alpha), args.size)
        table[variant] = {"ours": mine, "library": theirs}
        cells = [
            f"{row[name]:9.4f}" if row else " " * 9 for name in ("mean_cut", "more_than_half") for row in (mine, theirs)
        ]
        print(f"{variant:12} {' '.join(cells)}")
    peers = {name: version(name) for name in LIBRARIES}
    settings = {"peers": peers, "draws": args.draws, "size": args.size, "alpha": args.alpha}
    print(save("cutmix_table", start, {**settings, "variants": table}, args.out))


if __name__ == "__main__":
    main()
