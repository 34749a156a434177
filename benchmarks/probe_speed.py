"""How long probes of kept features take, and how much memory; writes results/NAME.json.

    python benchmarks/probe_speed.py [--name probe_made] [--parts linear path knn plain]
    python benchmarks/probe_speed.py --name probe_cifar100 --features imagenet --dataset cifar100 [--resolution 32]

Without `--features` they are made: 50,000 + 10,000 rows of 512, a hundred classes that overlap. With it they are those
of a backbone, extracted first and kept in the user's cache; that is timed too, and so is finding them again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import probe_run
import torch
from record import circumstances, save
from torch import Tensor

from nndl_suite.data.catalog import load_image_set
from nndl_suite.representation.feature_cache import cache_folder, find_features
from nndl_suite.representation.features import load_feature_source
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.files import Json

PARTS = ("linear", "path", "knn", "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Features like a ResNet's, as far as a solver can tell: never negative, correlated, of classes that overlap."""

    train: int = 50_000
    test: int = 10_000
    dim: int = 512
    classes: int = 100
    distance: float = 1.5
    """Of the classes' means from the common one along the first axis, in standard deviations there; along the i-th it
    falls as i ** -0.5. The best penalty then lies inside the grid, and a third of the test rows is wrong even so."""
    spectrum: float = 1.5
    """The i-th principal variance falls as i ** -spectrum: over four decades."""
    shift: float = 0.02
    """Before the ReLU, which leaves about half of the values at zero."""

    def split(self, rows: int, seed: int) -> tuple[Tensor, Tensor]:
        """Features [n, d] and labels [n] of one split."""
        common, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
        axes = torch.linalg.qr(torch.randn(self.dim, self.dim, generator=common))[0]
        axis = torch.arange(1, self.dim + 1)
        means = self.distance * axis**-0.5 * torch.randn(self.classes, self.dim, generator=common)
        spreads = axis ** (-self.spectrum / 2)
        labels = torch.randint(self.classes, (rows,), generator=own)
        place = torch.randn(rows, self.dim, generator=own).add_(means[labels]).mul_(spreads)
        return (place @ axes).add_(self.shift).relu_(), labels


def write_made(made: Made, folder: Path) -> dict[str, Json]:
    """Both splits into a folder, for probe_run.py."""
    for seed, (name, rows) in enumerate((("train", made.train), ("test", made.test)), start=1):
        features, labels = made.split(rows, seed)
        np.save(folder / f"{name}.npy", features.numpy())
        np.save(folder / f"{name}_labels.npy", labels.numpy())
    return {"features": "made", "train": made.train, "test": made.test, "dim": made.dim, "classes": made.classes}


def write_real(features: str, dataset: str, resolution: int | None, folder: Path) -> dict[str, Json]:
    """A backbone's features of both splits, and the seconds to get them, then to find them again."""
    fabric, seconds, again = make_fabric("auto", "32-true"), 0.0, 0.0
    train, test = load_image_set(dataset, "train"), load_image_set(dataset, "test")
    source = load_feature_source(features, train, resolution=resolution)
    cached = True
    for name, images in (("train", train), ("test", test)):
        found = find_features(source, images, fabric, cache=cache_folder("auto"))
        seconds, cached = seconds + found.seconds, cached and found.cached
        start = time.perf_counter()
        found = find_features(source, images, fabric, cache=cache_folder("auto"))
        again += time.perf_counter() - start
        np.save(folder / f"{name}.npy", found.features.numpy())
        np.save(folder / f"{name}_labels.npy", images.required_labels().numpy())
    return {
        "features": Path(source.name).name,
        "dataset": train.name,
        "backbone": source.backbone.name,
        "stem": source.backbone.stem,
        "resolution": source.resolution,
        "train": len(train),
        "test": len(test),
        "dim": source.backbone.feature_dim,
        "classes": train.num_classes,
        "seconds_features": seconds,
        "features_were_kept": cached,
        "seconds_features_again": again,
    }


def told(part: str, found: dict) -> str:
    """One line for a person."""
    line = f"{part:7s} {found['seconds']:7.1f} s  {found['peak_mib']:6.0f} MiB"
    if "test_accuracy" in found:
        chosen = ", ".join(f"{name} {value:.3g}" for name, value in found["chosen"].items())
        line += f"  {found['settings_tried']} settings, {chosen}: test {found['test_accuracy']:.4f}"
    if "steps" in found:
        line += f"  {found['steps']} steps, {found['gflops']:.0f} of {found['sgemm_gflops']:.0f} GFLOP/s"
    return line


def main() -> None:
    """Make or find features, probe them in processes of their own, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="probe_made", help="of the file in --out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["linear", "path", "knn"])
    parser.add_argument("--features", help="a pretraining run, a state-dict file, imagenet or random; else made ones")
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--rows", type=int, nargs=2, default=(Made().train, Made().test), help="made: train and test")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args()
    start, results = circumstances(), {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.features is None:
            results["data"] = write_made(Made(train=args.rows[0], test=args.rows[1]), folder)
        else:
            results["data"] = write_real(args.features, args.dataset, args.resolution, folder)
        print(json.dumps(results["data"]))
        for part in args.parts:
            results[part] = probe_run.child(folder, part)
            print(told(part, results[part]), flush=True)
    print(save(args.name, start, results, args.out))


if __name__ == "__main__":
    main()
