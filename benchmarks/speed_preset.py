"""Accuracy over seconds of `nndl-suite train`; runs it, or reads finished runs; writes results/NAME.json and NAME.svg.

    python benchmarks/speed_preset.py runs/speed6 runs/speed16 [--name speed_preset]
    python benchmarks/speed_preset.py --train runs/speed16 --arm whitened-cnn-wide --epochs 16 [--device cuda]

Validation accuracy is that of each epoch, of the tenth held out of the training images; the test images are read once,
at the end, so `passed` has the whole training time of the shortest run whose test accuracy is above each mark. What
is passed on the way, on validation images, is `passed_on_validation`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from record import circumstances, save

from nndl_suite.comparison.recipes import load_recipe
from nndl_suite.comparison.train import train_architecture
from nndl_suite.report.figures import Line, curves
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

MARKS = {0.6553: 20 * 60, 0.70: 40 * 60, 0.75: 90 * 60}
"""Accuracy, and the seconds in which two CPU cores shall pass it."""


def read(folder: Path) -> dict[str, Json]:
    """What one run says of itself; its log is in step order."""
    run = RunFolder(folder)
    result, log = run.result(), [record for record in run.metrics() if "val_accuracy" in record]
    if result is None:
        raise SystemExit(f"{folder} has no result.json; let it finish first")
    kept = ("arm", "parameters", "dataset", "epochs", "seed", "test_accuracy", "test_accuracy_ci95", "seconds")
    return {
        **{name: result[name] for name in kept},
        "images_per_second": result["images_per_second"],
        "device": result["device"],
        "recipe": result["recipe"],
        "machine": run.config()["machine"],
        "epoch_seconds": [record["seconds"] for record in log],
        "val_accuracy": [record["val_accuracy"] for record in log],
    }


def passed(runs: list[dict]) -> dict[str, Json]:
    """By mark: the aim, the seconds of the shortest run that is above it, and where a validation curve was."""
    found: dict[str, Json] = {}
    for mark, aim in MARKS.items():
        seconds = [run["seconds"] for run in runs if run["test_accuracy"] >= mark]
        on_the_way = [
            second
            for run in runs
            for second, accuracy in zip(run["epoch_seconds"], run["val_accuracy"], strict=True)
            if accuracy >= mark
        ]
        found[f"{mark:.2%}"] = {
            "aim_seconds": aim,
            "seconds": min(seconds, default=None),
            "seconds_on_validation": min(on_the_way, default=None),
        }
    return found


def main() -> None:
    """Train if asked to, then read and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="finished run folders")
    parser.add_argument("--train", type=Path, help="a new run folder, or one to go on with")
    parser.add_argument("--arm", default="whitened-cnn-wide")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--name", default="speed_preset")
    args = parser.parse_args()
    start, folders = circumstances(), list(args.runs)
    if args.train:
        recipe = load_recipe("speed")
        train_architecture(
            args.arm, args.dataset, epochs=args.epochs, out=args.train, recipe=recipe, seed=args.seed,
            device=args.device, resume=True,
        )  # fmt: skip
        folders.append(args.train)
    if not folders:
        parser.error("name finished runs, or --train one")
    runs = [read(folder) for folder in folders]
    for mark, times in passed(runs).items():
        print(f"{mark}: {times}")
    lines = [
        Line(
            label=f"{run['arm']}, {run['epochs']} epochs",
            colour=colour,
            x=[second / 60 for second in run["epoch_seconds"]],
            y=run["val_accuracy"],
        )
        for colour, run in enumerate(runs)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    drawing = curves(lines, x="training time (minutes)", y="validation accuracy", percent=True)
    (args.out / f"{args.name}.svg").write_text(drawing, encoding="utf-8")
    print(save(args.name, start, {"passed": passed(runs), "runs": runs}, args.out))


if __name__ == "__main__":
    main()
