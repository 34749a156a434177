"""One probe of kept features in a process of its own, so that its memory is its own; prints one JSON object.

    python benchmarks/probe_run.py FOLDER linear|path|knn|plain

FOLDER holds `train.npy`, `test.npy` (float32 [n, d]), `train_labels.npy` and `test_labels.npy` (int64 [n]), as
probe_speed.py writes them. `linear` and `knn` are the package's protocols: the choice on a tenth, the fit on all, the
prediction of the test rows. `path` is the path of penalties alone, on the nine tenths, taken apart. `plain` is the same
path by torch.optim.LBFGS and autograd, from the optimum of one penalty to that of the next.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from record import MIB, peak_bytes
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.representation.choice import rows_for_choice
from nndl_suite.representation.knn import NEIGHBOURS, TEMPERATURES, fit_knn
from nndl_suite.representation.linear import PENALTIES, fit_linear
from nndl_suite.representation.logistic import fit_path

SEED = 0


def child(folder: Path, what: str) -> dict:
    """Run this file in a new process, and return what it printed."""
    done = subprocess.run([sys.executable, __file__, str(folder), what], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def read(folder: Path, name: str) -> Tensor:
    """An array, mapped as the feature cache maps it."""
    return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))


def protocol(folder: Path, fit: Callable, settings: int) -> dict:
    """Choose, fit on all rows, predict the test rows."""
    start = time.perf_counter()
    fitted = fit(read(folder, "train"), read(folder, "train_labels"), seed=SEED)
    chosen = time.perf_counter()
    predicted = fitted.predict(read(folder, "test"))
    end = time.perf_counter()
    return {
        "settings_tried": settings,
        "seconds": end - start,
        "seconds_fit": chosen - start,
        "seconds_test": end - chosen,
        "peak_mib": peak_bytes() / MIB,
        "chosen": fitted.chosen,
        "val_accuracy": fitted.val_accuracy,
        "test_accuracy": (predicted == read(folder, "test_labels")).double().mean().item(),
    }


def path(folder: Path) -> dict:
    """Steps, seconds and score of each penalty; products of matrices beside what such products allow."""
    features, rows = read(folder, "train"), rows_for_choice(read(folder, "train_labels"), seed=SEED)
    kept, start, lines = features[rows.kept], time.perf_counter(), []
    solve = fit_path(kept, rows.targets[rows.kept], num_classes=len(rows.classes), penalties=PENALTIES)
    for solution in solve:
        lines.append(
            {
                "l2": solution.penalty,
                "steps": solution.minimum.iterations,
                "excess_nats": solution.minimum.excess,
                "objective": solution.minimum.objective,
                "val_accuracy": solution.classifier.accuracy(features[rows.held_out], rows.targets[rows.held_out]),
                "seconds": time.perf_counter() - start,
            }
        )
    steps, seconds = sum(line["steps"] for line in lines), lines[-1]["seconds"]
    n, d = kept.shape
    gflop = 4e-9 * steps * n * d * len(rows.classes)
    return {
        "lines": lines,
        "steps": steps,
        "seconds": seconds,
        "peak_mib": peak_bytes() / MIB,
        "gflop_of_steps": gflop,
        "gflops": gflop / seconds,
        "sgemm_gflops": sgemm_gflops(kept, len(rows.classes)),
    }


def sgemm_gflops(features: Tensor, classes: int) -> float:
    """The two products of a step, logits and gradient, with nothing between them: billions of operations a second."""
    weights, errors = torch.randn(features.shape[1], classes), torch.randn(len(features), classes)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(features, weights, out=errors)
        torch.mm(features.T, errors, out=weights)
        seconds.append(time.perf_counter() - start)
        weights.normal_()
    return 4e-9 * features.numel() * classes / min(seconds)


def plain(folder: Path) -> dict:
    """The same path by a general solver: up to 200 steps a penalty."""
    features, rows = read(folder, "train"), rows_for_choice(read(folder, "train_labels"), seed=SEED)
    start = time.perf_counter()
    kept, targets = features[rows.kept], rows.targets[rows.kept]
    mean, std = kept.mean(dim=0), kept.std(dim=0)
    x, unseen = (kept - mean) / std, (features[rows.held_out] - mean) / std
    weight = torch.zeros(len(rows.classes), x.shape[1], requires_grad=True)
    bias = torch.zeros(len(rows.classes), requires_grad=True)
    lines = []
    for penalty in PENALTIES:
        objective, evaluations = _descend(x, targets, weight, bias, penalty)
        right = F.linear(unseen, weight, bias).argmax(dim=1) == rows.targets[rows.held_out]
        lines.append(
            {
                "l2": penalty,
                "evaluations": evaluations,
                "objective": objective,
                "val_accuracy": right.double().mean().item(),
                "seconds": time.perf_counter() - start,
            }
        )
    return {"lines": lines, "seconds": lines[-1]["seconds"], "peak_mib": peak_bytes() / MIB}


def _descend(x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, penalty: float) -> tuple[float, int]:
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=200,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )
    losses = []

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), targets) + penalty / 2 * weight.square().sum()
        loss.backward()
        losses.append(loss.item())
        return loss

    solver.step(objective)
    return losses[-1], len(losses)


RUNS: dict[str, Callable[[Path], dict]] = {
    "linear": lambda folder: protocol(folder, fit_linear, len(PENALTIES)),
    "knn": lambda folder: protocol(folder, fit_knn, len(NEIGHBOURS) * len(TEMPERATURES)),
    "path": path,
    "plain": plain,
}


def main() -> None:
    """Probe, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=RUNS)
    args = parser.parse_args()
    print(json.dumps({"threads": torch.get_num_threads(), **RUNS[args.what](args.folder)}))


if __name__ == "__main__":
    main()
