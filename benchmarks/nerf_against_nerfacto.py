"""Nerfacto and ours on the same photos, split and resolution, one after the other: seconds to the same score.

    python benchmarks/nerf_against_nerfacto.py FOX --peer-python ns/bin/python [--rays 1024] [--budgets 15 30 55 120]

FOX is the capture of the fox with its poses (270 x 480, every 8th photo held out). Writes results/NAME.json and
results/NAME.md. Our learning rates fall over the time that a run is given, so ours is a full run per budget and the
seconds to a mark are the shortest budget whose final score passes it: nothing is interpolated. Nerfacto is one run,
scored at marks; between two of them its seconds are interpolated, which favours it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nerf_run import child
from record import circumstances, save

Run = dict[str, float]


@dataclass(frozen=True, slots=True)
class Reached:
    """Seconds of training to one score; infinite where it was never reached."""

    mark: float
    """dB."""
    peer: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times fewer seconds ours took; NaN where either did not get there."""
        return self.peer / self.ours if math.isfinite(self.peer) and math.isfinite(self.ours) else math.nan


def run_peer(python: Path, fox: Path, rays: int, marks: list[float], photos: int) -> list[Run]:
    """Nerfacto's scores at its marks, in a process of its own."""
    script = Path(__file__).with_name("nerfacto_peer.py")
    with tempfile.TemporaryDirectory() as work:
        words = [str(python), str(script), str(fox), work, "--rays", str(rays), "--photos", str(photos)]
        words += ["--marks", ",".join(map(str, marks))]
        process = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"seconds"')]


def seconds_between(scores: Sequence[Run], mark: float) -> float:
    """Seconds at which a run passed a mark, linear between the scores that were taken; no mark below the first."""
    for before, after in pairwise(scores):
        if before["psnr"] < mark <= after["psnr"]:
            share = (mark - before["psnr"]) / (after["psnr"] - before["psnr"])
            return before["seconds"] + share * (after["seconds"] - before["seconds"])
    return math.inf


def shortest_budget(runs: Sequence[Run], mark: float) -> float:
    """The least training time of the runs that ended at or above a mark."""
    return min((run["train_seconds"] for run in runs if run["psnr"] >= mark), default=math.inf)


def table(reached: Sequence[Reached], peer: Run, ours: Run) -> str:
    """Both tables, in Markdown."""

    def cell(value: float) -> str:
        return f"{value:.3g}" if value < 10 else f"{value:.0f}" if math.isfinite(value) else "not reached"

    lines = ["| held-out PSNR | nerfacto, s | ours, s | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {r.mark:g} dB | {cell(r.peer)} | {cell(r.ours)} | {'-' if math.isnan(r.ratio) else cell(r.ratio)} |"
        for r in reached
    ]
    frames = peer["frame_seconds"], ours["held_out_frame_seconds"]
    memory = peer["training_mib"], ours["peak_mib"]
    lines += ["", "| | nerfacto | ours | ratio |", "|---|---|---|---|"]
    lines.append(f"| seconds a frame | {cell(frames[0])} | {cell(frames[1])} | {cell(frames[0] / frames[1])} |")
    lines.append(f"| most memory, MiB | {cell(memory[0])} | {cell(memory[1])} | {cell(memory[0] / memory[1])} |")
    lines.append(
        f"| seconds a step | {cell(peer['seconds_per_step'])} | {cell(ours['train_seconds'] / ours['steps'])} | |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the peer, then ours, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fox", type=Path)
    parser.add_argument("--peer-python", type=Path, required=True, help="the python of a venv that has nerfstudio")
    parser.add_argument("--rays", type=int, default=1024, help="nerfacto's rays a step")
    parser.add_argument(
        "--peer-marks",
        nargs="+",
        type=float,
        default=[60, 150, 300, 570, 1150],
        help="seconds of training at which it is scored",
    )
    parser.add_argument("--peer-photos", type=int, default=7, help="held-out photos it is scored on, a minute each")
    parser.add_argument(
        "--budgets", nargs="+", type=float, default=[10, 15, 20, 30, 55, 120], help="seconds of training of our runs"
    )
    parser.add_argument("--marks", nargs="+", type=float, default=[18, 19, 20, 21, 22, 23.4, 24.5, 25], help="dB")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--name", default="fox_against_nerfacto")
    args = parser.parse_args()
    start = circumstances()
    child(args.fox, seconds=1, max_side=480, background="white", frames=[])  # compiles, and fails now if it fails
    peer = run_peer(args.peer_python, args.fox, args.rays, args.peer_marks, args.peer_photos)
    print(f"nerfacto, {peer[-1]['seconds']:.0f} s: {peer[-1]['psnr']:.2f} dB", flush=True)
    ours = []
    for budget in args.budgets:
        ours.append(child(args.fox, seconds=budget, max_side=480, background="white", frames=[]))
        print(f"ours, {budget:g} s: {ours[-1]['psnr']:.2f} dB", flush=True)
    marks = [mark for mark in args.marks if mark > peer[0]["psnr"]]  # when it passed the others nobody knows
    reached = [Reached(mark, seconds_between(peer, mark), shortest_budget(ours, mark)) for mark in marks]
    text = table(reached, peer[-1], ours[-1])
    finite = {f"{r.mark:g}": r.ratio for r in reached if math.isfinite(r.ratio)}
    file = save(args.name, start, {"peer": peer, "ours": ours, "times_fewer_seconds": finite}, args.out)
    file.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{text}\n{file}")


if __name__ == "__main__":
    main()
