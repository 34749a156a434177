"""How often is anything lost? Commands killed, interrupted, starved and doubled at random moments, then run again.

    python benchmarks/faults.py --times 50
    python benchmarks/faults.py --times 50 --faults "kill -9" --commands "nerf train" tune
    python benchmarks/faults.py --table docs/reliability.md

Each injection is a whole little command (`tests/faults/victims.py`), disturbed once, then run again with `--resume`, or
just again where it does not train. It counts as lost if a file under its final name does not parse, if going on fails,
if it repeats more than the steps since the last checkpoint, if its checkpoints, result or exported file differ from the
undisturbed run's in a bit (but for seconds and the like), if an unfinished file is left, or if what is said to a person
is a traceback or calls itself a bug. Results of several calls are put together in `results/faults.json`.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / "faults"), str(TESTS / "data")]

import injections  # noqa: E402
from harness import Command, Forge  # noqa: E402
from record import circumstances  # noqa: E402
from shard_server import serving  # noqa: E402
from victims import commands, make_material  # noqa: E402

RESULT = Path(__file__).parent / "results" / "faults.json"
BEGIN, END = "<!-- table of faults: begin -->", "<!-- table of faults: end -->"


def main() -> None:
    """Inject, print, and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=50, help="kills -9 of each command; of the other faults a fifth")
    options.add_argument("--faults", nargs="*", help="only these")
    options.add_argument("--commands", nargs="*", help="only these")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--minutes", type=float, default=60, help="begin no injection after so long")
    options.add_argument("--table", type=Path, help="write the table into this file, and inject nothing")
    asked = options.parse_args()
    if asked.table is not None:
        write_table(asked.table)
        return
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    forge = Forge(scratch)
    try:
        inject_all(forge, scratch, asked)
    finally:
        forge.close()
        shutil.rmtree(scratch, ignore_errors=True)


def inject_all(forge: Forge, scratch: Path, asked: argparse.Namespace) -> None:
    """Everything that was asked for, written down after each command and fault."""
    material = make_material(forge, scratch / "material")
    until = time.monotonic() + 60 * asked.minutes
    with serving(material.shards) as server:
        inject_into(forge, commands(material, server), scratch, asked, until)


def inject_into(
    forge: Forge, known: Mapping[str, Command], scratch: Path, asked: argparse.Namespace, until: float
) -> None:
    """Every fault into each of the commands that were asked for."""
    for name, command in known.items():
        chosen = [
            (fault, inject, share)
            for fault, (inject, share, served) in FAULTS.items()
            if served(name) and (not asked.faults or fault in asked.faults)
        ]
        if not chosen or (asked.commands and name not in asked.commands):
            continue
        reference = injections.undisturbed(forge, command, scratch / "undisturbed")
        print(f"{name}: undisturbed {reference.seconds:.2f} s", flush=True)
        for fault, inject, share in chosen:
            times = max(1, round(asked.times * share))
            row = inject_some(forge, reference, inject, fault, times, scratch, asked, until)
            keep(row)
            print(f"  {fault}: {row}", flush=True)


def inject_some(  # noqa: PLR0913
    forge: Forge,
    reference: injections.Undisturbed,
    inject: injections.Injection,
    fault: str,
    times: int,
    scratch: Path,
    asked: argparse.Namespace,
    until: float,
) -> dict[str, Any]:
    """One fault, until it has come before the command's end so many times."""
    rng = random.Random(f"{asked.seed}/{reference.command.name}/{fault}")
    hits = missed = equal = 0
    lost: list[str] = []
    seconds = 0.0
    while hits < times and missed < times and time.monotonic() < until:
        verdict = inject(injections.Trial(forge, reference, scratch / "trial"), rng)
        hits, missed = hits + verdict.hit, missed + (not verdict.hit)
        equal += verdict.equal and verdict.hit
        seconds += verdict.seconds
        if verdict.lost:
            lost.append("; ".join(verdict.lost)[:2000])
            print(f"    LOST: {lost[-1]}\n    said: {verdict.said[-1500:]}", flush=True)
    return {
        "command": reference.command.name,
        "fault": fault,
        "injected": hits,
        "came_too_late": missed,
        "lost": len(lost),
        "resumed_bit_equal": equal if reference.command.exact else None,
        "mean_seconds_to_go_on": round(seconds / max(1, hits + missed), 2),
        "undisturbed_seconds": round(reference.seconds, 2),
        "what_was_lost": list[str](lost),
    }


def keep(row: dict[str, Any]) -> None:
    """Put one row in the place of its forerunner."""
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"rows": []}
    rows = {(old["command"], old["fault"]): old for old in found["rows"]}
    about = circumstances()
    rows[row["command"], row["fault"]] = {**row, "commit": about["commit"], "date": about["date"]}
    content = {**about, "rows": [rows[key] for key in sorted(rows)]}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


def write_table(file: Path) -> None:
    """The result between two marks of a page: kills by command, the other faults over all commands."""
    rows = json.loads(RESULT.read_text())["rows"]
    order = list(FAULTS)
    lines = ["| fault | command | times | lost | resumed to the same bits |", "|---|---|---|---|---|"]
    for fault in sorted({row["fault"] for row in rows}, key=order.index):
        of_it = [row for row in rows if row["fault"] == fault]
        if fault == "kill -9":
            lines += [table_line(fault, f"`{row['command']}`", [row]) for row in of_it]
        names = f"`{of_it[0]['command']}`" if len(of_it) == 1 else f"{len(of_it)} commands"
        lines.append(table_line(fault, names, of_it))
    page = file.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    file.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


def table_line(fault: str, commands: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One line; what COLMAP finds is not promised to the bit, and is left out of the last column."""
    exact = [row for row in rows if row["resumed_bit_equal"] is not None]
    promised = sum(row["injected"] for row in exact)
    same = f"{sum(row['resumed_bit_equal'] for row in exact)} of {promised}" if exact else "not promised"
    times, lost = (sum(row[what] for row in rows) for what in ("injected", "lost"))
    return f"| {fault} | {commands} | {times} | {lost} | {same} |"


def only(names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a command is one of these."""
    return lambda name: name in names


def all_but(names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a command is none of these."""
    return lambda name: name not in names


SPECIAL = ("ssl pretrain (images on disk)", "ssl probe (shards from a server)")
LOCKED = ("ssl pretrain", "ssl probe (linear)", "train", "compare", "nerf poses", "nerf train")
FAULTS: dict[str, tuple[injections.Injection, float, Callable[[str], bool]]] = {
    "kill -9": (injections.kill, 1.0, all_but(SPECIAL)),
    "SIGTERM": (injections.terminate, 0.2, all_but(SPECIAL)),
    "Ctrl-C": (injections.interrupt, 0.2, all_but(SPECIAL)),
    "Ctrl-C twice": (injections.interrupt_twice, 0.2, all_but(SPECIAL)),
    "no room (limit on a file)": (injections.file_limit, 0.2, all_but(SPECIAL)),
    "full disk": (injections.full_disk, 0.2, all_but(SPECIAL)),
    "disk becomes read-only": (injections.read_only, 0.1, all_but(SPECIAL)),
    "clock jumps": (injections.clock, 0.1, all_but(SPECIAL)),
    "no memory": (injections.little_memory, 0.2, all_but((*SPECIAL, "nerf poses"))),
    "two commands on one folder": (injections.two_at_once, 0.1, only(LOCKED)),
    "COLMAP is killed": (injections.child_dies(9), 0.2, only(("nerf poses",))),
    "COLMAP aborts": (injections.child_dies(6), 0.2, only(("nerf poses",))),
    "a worker is killed": (injections.child_dies(9), 0.2, only(("ssl pretrain (images on disk)",))),
    "network vanishes": (injections.network, 0.2, only(("ssl probe (shards from a server)",))),
}
"""How, what share of `--times`, and to which commands."""


if __name__ == "__main__":
    main()
