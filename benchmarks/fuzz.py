"""Every reader of the package, with thousands of inputs that are wrong: in their bytes, or in what they say.

    python benchmarks/fuzz.py --minutes 15

An input is a valid one, made by `tests/fuzz/valid_inputs.py`, with one file of it changed by `fuzz_mutations.py`. It is
read in a process of its own, which may take 10 seconds and 1 GB more than what its libraries take. What may come of it
is a valid result, whose numbers are checked, or an NndlError that names the file or its folder. All else is a crash:
another exception, a warning, a signal, the alarm, the limit of memory, a number that is none. `--again READER NUMBER`
shows one input's end in full. Needs Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from record import circumstances, save

_TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(_TESTS / "fuzz"), str(_TESTS / "report")]

from fuzz_targets import TARGETS, Target, names_it, spoil  # noqa: E402

from nndl_suite.errors import NndlError  # noqa: E402

_SECONDS = 10
_BYTES = 2**30
_ONE_ARENA = (-8, 1)  # mallopt's M_ARENA_MAX: an arena for each thread would count against the limit, unused
_TOLD = 25
_THEIRS = ("Detected pickle protocol", "constrained_layout not applied")
"""Warnings that torch and matplotlib give of their own, of what is read all the same."""


@dataclass(kw_only=True)
class Tally:
    """What came of one reader's inputs."""

    reader: str
    inputs: int = 0
    valid: int = 0
    refused: int = 0
    crashes: int = 0
    seconds: float = 0.0
    most_mb: float = 0.0
    """The most memory that one input took beyond what was there before."""
    slowest_s: float = 0.0
    told: list[dict[str, Any]] = field(default_factory=list)
    """The first crashes, with the number that makes each again."""

    def count(self, number: int, outcome: dict[str, Any], seconds: float) -> None:
        """Add what came of one input."""
        self.inputs += 1
        self.seconds += seconds
        self.slowest_s = max(self.slowest_s, round(seconds, 2))
        self.most_mb = max(self.most_mb, round(outcome.get("mb", 0.0), 1))
        if outcome["end"] == "valid":
            self.valid += 1
        elif outcome["end"] == "refused":
            self.refused += 1
        else:
            self.crashes += 1
            if len(self.told) < _TOLD:
                self.told.append({"number": number, **outcome})


def read_one(target: Target, valid: Path, number: int) -> dict[str, Any]:
    """Make input `number` of a reader and read it, in a process of its own; number -1 is the valid one."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            told = _in_child(target, valid, number)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a crash
            told = {"end": type(error).__name__, "said": str(error)[:300], "trace": traceback.format_exc()[-2500:]}
        os.write(into, json.dumps(told).encode())
        os._exit(0)
    os.close(into)
    ready, _, _ = select.select([out], [], [], 2 * _SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    said = b""
    while part := os.read(out, 65536):
        said += part
    os.close(out)
    _, status = os.waitpid(child, 0)
    if said:
        return json.loads(said)
    code = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {"end": "hang" if code in (signal.SIGALRM, signal.SIGKILL) else f"signal {code}"}


def _in_child(target: Target, valid: Path, number: int) -> dict[str, Any]:
    folder = valid.with_name("input")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid, folder)
    file = folder if number < 0 else spoil(target, folder, Random(f"{target.name} {number}"))
    _be_quiet()
    torch.set_num_threads(1)  # the threads of the process that it was forked off are not in it
    before = _status("VmRSS")
    limit = _status("VmSize") + _BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    warnings.simplefilter("error")
    for theirs in _THEIRS:
        warnings.filterwarnings("ignore", theirs)
    told: dict[str, Any] = {"file": file.name}
    try:
        target.read(folder)
        told["end"] = "valid"
    except NndlError as error:
        told["end"] = "refused" if names_it(str(error), file, folder) else "names no file"
        told["said"] = str(error)[:300]
    except MemoryError:
        told |= {"end": "memory", "trace": traceback.format_exc()[-2500:]}
    grown = max(0, _status("VmHWM") - before)
    told["mb"] = max(grown, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - _START) / 2**20
    if told["mb"] > _BYTES / 2**20:
        told["end"] = "memory"
    return told


_START = 2**29  # what a child with its libraries may take itself


def _be_quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _status(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def fuzz(target: Target, place: Path, inputs: int, first: int, until: float) -> Tally:
    """Read so many inputs, or as many as there is time for."""
    valid = place / "valid"
    valid.mkdir(parents=True)
    target.make(valid)
    untouched = read_one(target, valid, -1)
    if untouched["end"] != "valid":
        raise SystemExit(f"{target.name}: the valid input is not read: {untouched}")
    tally = Tally(reader=target.name)
    for number in range(first, first + inputs):
        if time.monotonic() > until:
            break
        start = time.monotonic()
        outcome = read_one(target, valid, number)
        tally.count(number, outcome, time.monotonic() - start)
    tally.seconds = round(tally.seconds, 1)
    return tally


def main() -> None:
    """Fuzz all readers, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="for all readers together")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each reader, at most")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", help="readers whose name holds this")
    parser.add_argument("--part", default="1/1", help="K/N: every N-th reader, from the K-th on; results are added")
    parser.add_argument("--again", nargs=2, metavar=("READER", "NUMBER"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    ctypes.CDLL(None).mallopt(*_ONE_ARENA)
    start = circumstances()
    part, parts = map(int, asked.part.split("/"))
    chosen = [target for target in TARGETS if asked.only is None or asked.only in target.name][part - 1 :: parts]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        if asked.again:
            target = next(target for target in TARGETS if target.name == asked.again[0])
            (Path(scratch) / "valid").mkdir()
            target.make(Path(scratch) / "valid")
            told = read_one(target, Path(scratch) / "valid", int(asked.again[1]))
            print(told.pop("trace", ""), json.dumps(told, indent=2), sep="\n")
            return
        file = asked.out / "fuzz.json"
        kept = json.loads(file.read_text())["readers"] if file.exists() and parts > 1 and part > 1 else []
        tallies: list[Any] = [row for row in kept if row["reader"] not in {target.name for target in chosen}]
        for number, target in enumerate(chosen):
            share = 60 * asked.minutes / len(chosen)
            tally = fuzz(target, Path(scratch) / str(number), asked.inputs, asked.first, time.monotonic() + share)
            print(
                f"{tally.reader:32} {tally.inputs:6} inputs, {tally.valid:6} valid, {tally.refused:6} refused, "
                f"{tally.crashes:4} crashes, {tally.slowest_s:6.2f} s, {tally.most_mb:7.1f} MB",
                flush=True,
            )
            for crash in tally.told:
                print("    ", {key: value for key, value in crash.items() if key != "trace"}, flush=True)
            tallies.append(asdict(tally))
    total = {key: sum(row[key] for row in tallies) for key in ("inputs", "valid", "refused", "crashes")}
    limits = {"seconds_an_input": _SECONDS, "bytes_an_input": _BYTES}
    print(total, save("fuzz", start, {"limits": limits, "total": total, "readers": tallies}, asked.out))


if __name__ == "__main__":
    main()
