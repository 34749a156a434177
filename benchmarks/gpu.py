"""What one GPU does: kernels against references, and everything that is fast timed beside its ceiling; no network.

    python benchmarks/gpu.py [--parts tests ceilings comparison pretraining] [--seconds 2]

Writes results/NAME.json after each part, so that a run that is cut short leaves what it had.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpu_steps import ceilings, comparison_steps, pretraining_steps
from record import circumstances, save

from nndl_suite.training.files import Json

ROOT = Path(__file__).resolve().parent.parent


def tests() -> dict[str, Json]:
    """The tests that need a GPU."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "tests",
        "-o",
        "filterwarnings=default",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-6000:], done.stderr[-2000:])
    return {"exit_code": done.returncode, "summary": done.stdout.strip().splitlines()[-1]}


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ("tests", "ceilings", "comparison", "pretraining")
    parser.add_argument("--parts", nargs="+", choices=known, default=list(known))
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--name", default="gpu")
    args = parser.parse_args()
    start, results = circumstances(), {}
    top = ceilings()
    peak = float(top["bf16_tflops"])

    def comparison() -> list[Json]:
        arms = [("resnet18", 1024, False), ("resnet18", 1024, True), ("vit", 1024, False), ("vit", 1024, True)]
        return [
            comparison_steps(arm, batch=batch, seconds=args.seconds, peak_tflops=peak, compiled=compiled)
            for arm, batch, compiled in arms
        ]

    def pretraining() -> list[Json]:
        sizes = [("cifar", 512), ("cifar", 1024), ("imagenet", 1024)]
        return [pretraining_steps(stem=stem, batch=batch, seconds=args.seconds) for stem, batch in sizes]

    parts: dict[str, Callable[[], Json]] = {
        "tests": tests, "ceilings": lambda: top, "comparison": comparison, "pretraining": pretraining,
    }  # fmt: skip
    for part in args.parts:
        began = time.perf_counter()
        results[part] = parts[part]()
        results.setdefault("part_seconds", {})[part] = round(time.perf_counter() - began, 1)
        print(part, results[part], flush=True)
        save(args.name, start, results, args.out)


if __name__ == "__main__":
    main()
