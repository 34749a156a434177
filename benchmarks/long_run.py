"""Whether anything grows in a long run: memory and open files over the steps, and logs of millions of lines.

    python benchmarks/long_run.py [--parts simulated pretraining arm field log checkpoints] [--name long_run]

Each part is a process of its own. `simulated` is six hours of training as the loop sees them: at 20 steps a second
432,000 steps, a line of the log every 20, a checkpoint every 60 seconds, a report of progress every 0.2, through the
real loop, log and checkpoints, under a clock that goes 0.05 s a step and with a step that costs nothing. `pretraining`,
`arm` and `field` are the real trainers on small input for twenty thousand steps, a checkpoint every two seconds.
Sampled all along are open files and memory: `rss` is what the process has of the machine; `heap` what malloc has handed
out and not got back; `objects` the blocks of Python's own allocator, which malloc knows nothing of. RSS moves by
megabytes with what lies free between blocks, so a leak is looked for in the other two. The first fifth is left out; the
rest is cut into ten stretches whose means give the slope with its 95 % interval (Student's t). `flat` says of each
whether the interval's upper end is below 1 MiB (objects: 1,000) an hour of training, or a thousand steps of the real
trainers.

`log` writes a log of ten million lines with an epoch every 5,000 and opens it: seconds and the most memory of a process
that writes the report, of one that wants the newest loss, and, of a tenth of the log, of one that reads it whole.
`checkpoints` are the seconds that the checksum adds to writing and to reading a state of 45 and of 500 MB.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from record import MIB, circumstances, save
from scipy.stats import linregress, t

from nndl_suite import SSLPretrainer, train_architecture
from nndl_suite.comparison.recipe import DEFAULT_RECIPE
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.frame import field_frame
from nndl_suite.nerf.photos import load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.trainer import TrainSettings, train_field
from nndl_suite.training import loop
from nndl_suite.training.checkpoints import Checkpoint, State, load_checkpoint, save_checkpoint
from nndl_suite.training.files import Json
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.tensor_files import checksum
from nndl_suite.training.watch import Step

HOURS, STEPS_A_SECOND = 6, 20
STEPS = HOURS * 3600 * STEPS_A_SECOND
REAL_STEPS = 20_000
LINES, EPOCH = 10_000_000, 5000
STRETCHES = 10


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()  # noqa: SIM905
    )


_malloc_info = ctypes.CDLL(None).mallinfo2
_malloc_info.restype = _MallocInfo


def memory_now() -> dict[str, float]:
    """MiB of the process and of malloc's blocks in use, and thousands of blocks in use of Python's own allocator."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    malloc = _malloc_info()
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE") / MIB,
        "heap": (malloc.uordblks + malloc.hblkhd) / MIB,
        "objects": sys.getallocatedblocks() / 1000,
    }


class Samples:
    """Memory and open files by step, in arrays, so that looking hardly adds to what is looked at."""

    def __init__(self) -> None:
        self.steps, self.files = array("q"), array("q")
        self.memory = {"rss": array("d"), "heap": array("d"), "objects": array("d")}

    def take(self, step: int) -> None:
        """Look now."""
        self.steps.append(step)
        self.files.append(len(os.listdir("/proc/self/fd")))
        for name, value in memory_now().items():
            self.memory[name].append(value)

    def told(self, unit: float, of: str) -> dict[str, Json]:
        """The slopes of memory for `unit` steps, and what there was of files."""
        begin = next(i for i, step in enumerate(self.steps) if step >= self.steps[-1] / 5)
        steps = np.asarray(self.steps[begin:]) / unit
        return {
            "steps": self.steps[-1],
            "samples": len(self.steps),
            **{
                f"{name} ({'thousand blocks' if name == 'objects' else 'MiB'} a {of})": _slope(
                    steps, np.asarray(values[begin:])
                )
                for name, values in self.memory.items()
            },
            "open_files": [min(self.files[begin:]), max(self.files[begin:])],
        }


def _slope(x: np.ndarray, y: np.ndarray) -> dict[str, Json]:
    """What `y` gains with each 1 of `x`, from the means of ten stretches."""
    means = [[stretch.mean() for stretch in np.array_split(values, STRETCHES)] for values in (x, y)]
    fit = linregress(*means)
    reach = float(t.ppf(0.975, STRETCHES - 2)) * float(fit.stderr)
    slope = float(fit.slope)
    return {
        "slope": round(slope, 4),
        "ci95": [round(slope - reach, 4), round(slope + reach, 4)],
        "flat": slope + reach < 1.0,
        "first_and_last_stretch": [round(float(means[1][0]), 2), round(float(means[1][-1]), 2)],
    }


class Idle:
    """A `Trainable` whose step costs nothing; its state has 1 MB."""

    def __init__(self, samples: Samples, clock: SimpleNamespace) -> None:
        self._samples, self._clock, self._weights = samples, clock, torch.zeros(250_000)

    def step(self, index: int, fraction: float) -> Mapping[str, float]:
        """Let a twentieth of a second go by."""
        self._clock.now += 1 / STEPS_A_SECOND
        if index % 500 == 0:
            self._samples.take(index)
        return {"loss": 1 + fraction, "learning_rate": 0.1}

    def state(self) -> dict[str, State]:
        """As large as a small network's."""
        return {"weights": self._weights, "optimiser": {"state": {0: {"step": 3.0}}}}

    def load_state(self, state: Mapping[str, State]) -> None:
        """Nothing is learned."""


def simulated(folder: Path) -> dict[str, Json]:
    """Six hours of training in the loop's eyes."""
    samples, clock, told = Samples(), SimpleNamespace(now=0.0), [0]
    clock.monotonic = lambda: clock.now
    loop.time = clock  # type: ignore[assignment]

    def watch(_: Step) -> None:
        told[0] += 1

    run = open_run(folder / "run", kind="idle", settings={"seed": 0}, resume=False)
    settings = LoopSettings(stage="idle", total_steps=STEPS, steps_per_epoch=2000)
    start = time.perf_counter()
    done = run_loop(
        Idle(samples, clock), settings, run, watch=watch, end_of_epoch=lambda epoch: {"val_accuracy": epoch / 1000}
    )
    return {
        **samples.told(3600 * STEPS_A_SECOND, "hour"),
        "hours_simulated": round(done.seconds / 3600, 3),
        "log_lines": run.metrics_file.read_bytes().count(b"\n"),
        "reports_of_progress": told[0],
        "seconds": round(time.perf_counter() - start, 1),
    }


def _often() -> None:
    """A checkpoint every two seconds instead of every minute."""
    LoopSettings.__init__.__kwdefaults__["checkpoint_seconds"] = 2.0


def pretraining(folder: Path) -> dict[str, Json]:
    """SimCLR on a slim network, with its looks at the features."""
    samples = Samples()
    total = REAL_STEPS
    trainer = SSLPretrainer(backbone="resnet18-slim", steps=total, batch_size=16, online_probe="yes", device="cpu")
    trainer.fit("demo", out=folder / "run", watch=_sampling(samples, "pretraining", total))
    return samples.told(1000, "thousand steps")


def arm(folder: Path) -> dict[str, Json]:
    """A slim CNN as an arm of a comparison, validated after every epoch."""
    samples, batch = Samples(), 50
    per_epoch = int(len(load_image_set("demo", "train")) * 0.9) // batch
    epochs = -(-REAL_STEPS // per_epoch)
    train_architecture(
        "resnet18-slim",
        "demo",
        epochs=epochs,
        out=folder / "run",
        recipe=replace(DEFAULT_RECIPE, batch_size=batch),
        device="cpu",
        watch=_sampling(samples, "resnet18-slim", epochs * per_epoch),
    )
    return samples.told(1000, "thousand steps")


def field(folder: Path) -> dict[str, Json]:
    """A small radiance field, its cameras moving too."""
    scene = read_scene(make_demo_capture(folder / "capture", photos=12, size=(80, 60)))
    photos = load_photos(scene, tuple(range(12)), field_from_world=field_frame(scene), max_side=80)
    samples, total = Samples(), REAL_STEPS
    settings = TrainSettings(
        steps=total, samples_per_step=2**12, pose_rate=1e-3, field=FieldSettings(log2_rows=12, finest=256)
    )
    run = open_run(folder / "run", kind="nerf", settings={"seed": 0}, resume=False)
    train_field(photos, settings, run, watch=_sampling(samples, "training", total))
    return samples.told(1000, "thousand steps")


def _sampling(samples: Samples, stage: str, total: int) -> Callable[[Step], None]:
    """A watcher that looks each time that the loop tells it of a step."""
    _often()

    def watch(step: Step) -> None:
        if step.stage == stage and step.done < step.total:
            samples.take(round(step.done / step.total * total))

    return watch


def write_log(folder: Path, lines: int) -> RunFolder:
    """The folder of a training at work with a log of so many lines."""
    run = open_run(folder, kind="training", settings={"dataset": "made", "seed": 0}, resume=False)
    rng = np.random.default_rng(0)
    with run.metrics_file.open("w", encoding="utf-8") as log:
        for first in range(1, lines + 1, EPOCH):
            steps = range(first, first + EPOCH)
            losses = 4 / (1 + np.arange(first, first + EPOCH) / 1e6) + 0.1 * rng.standard_normal(EPOCH)
            block = [
                f'{{"step": {s}, "seconds": {s / 20:.2f}, "loss": {x}}}\n' for s, x in zip(steps, losses, strict=True)
            ]
            epoch = (first + EPOCH - 1) // EPOCH
            block[-1] = block[-1][:-2] + f', "epoch": {epoch}, "val_accuracy": {1 - 1 / (epoch + 1)}}}\n'
            log.writelines(block)
    return run


OPENING = """
import json, sys, time
from pathlib import Path
def most():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
folder, what = Path(sys.argv[1]), sys.argv[2]
if what == "report":
    from nndl_suite.report.page import write_report
else:
    from nndl_suite.training.runs import RunFolder
before, start = most(), time.perf_counter()
if what == "report":
    found = write_report([folder], folder / "report.html").stat().st_size
elif what == "newest":
    found = RunFolder(folder).newest("loss")
else:
    found = len(RunFolder(folder).metrics())
seconds = time.perf_counter() - start
told = {"seconds": round(seconds, 3), "mib_before": round(before, 1), "mib_peak": round(most(), 1), "found": found}
print(json.dumps(told))
"""
"""One reading of a log, in a process that has loaded only what it needs."""


def log(folder: Path) -> dict[str, Json]:
    """Reading ten million lines."""
    run, tenth = write_log(folder / "long", LINES), write_log(folder / "tenth", LINES // 10)
    asked = ((run, "report"), (run, "newest"), (tenth, "report"), (tenth, "whole"))
    return {
        "lines": LINES,
        "bytes": run.metrics_file.stat().st_size,
        **{
            f"{what} of {'all' if one is run else 'a tenth'}": _told_by(["-c", OPENING, str(one.path), what])
            for one, what in asked
        },
    }


def checkpoints(folder: Path) -> dict[str, Json]:
    """What a checksum costs."""
    told: dict[str, Json] = {}
    for megabytes in (45, 500):
        tensors = {f"w{i}": torch.randn(250_000) for i in range(megabytes)}
        state = Checkpoint(step=megabytes, seconds=1.0, state=dict[str, State](tensors))
        seconds: dict[str, list[float]] = {"checksum": [], "save": [], "load": []}
        for _ in range(5):
            seconds["checksum"].append(_timed(lambda tensors=tensors: checksum({}, tensors)))
            seconds["save"].append(_timed(lambda state=state: save_checkpoint(folder, state)))
            file = folder / f"step-{megabytes:09d}.safetensors"
            seconds["load"].append(_timed(lambda file=file: load_checkpoint(file)))
        told[f"{megabytes} MB"] = {f"{name}_seconds": round(float(np.median(s)), 4) for name, s in seconds.items()}
    return told


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


PARTS: dict[str, Callable[[Path], dict[str, Json]]] = {
    "simulated": simulated,
    "pretraining": pretraining,
    "arm": arm,
    "field": field,
    "log": log,
    "checkpoints": checkpoints,
}


def _told_by(words: list[str]) -> dict[str, Json]:
    """The last line that a Python process prints, as JSON."""
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the parts one after the other, or be the process of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--name", default="long_run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.child:
            print(json.dumps(PARTS[args.child](Path(folder))))
            return
        start, results = circumstances(), dict[str, Json]()
        kept = args.out / f"{args.name}.json"
        if kept.exists():  # parts that are not measured now stay
            results = {
                name: part for name, part in json.loads(kept.read_text(encoding="utf-8")).items() if name in PARTS
            }
        for part in args.parts:
            results[part] = {**_told_by([__file__, "--child", part]), "commit": start["commit"], "date": start["date"]}
            print(part, json.dumps(results[part]), flush=True)
            save(args.name, start, results, args.out)


if __name__ == "__main__":
    main()
