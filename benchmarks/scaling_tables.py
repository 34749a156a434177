"""The tables of docs/scaling.md: what `scaling_model.py` says, and what was measured beside it.

python benchmarks/scaling_tables.py [--measured results/scaling.json] [--shards results/shards_speed.json]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling_model import (
    FLOAT,
    PHOTO,
    SMALL,
    Arm,
    Cluster,
    Cost,
    Field,
    Pictures,
    Pretraining,
    Probe,
    sent_by_each,
)

GPUS = (1, 2, 8, 64, 256, 1024)
IMAGES = (10**5, 10**6, 10**7, 10**8, 10**9)
_PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P"}


def readable(number: float, unit: str = "") -> str:
    """Three digits and a prefix; seconds from two minutes on as minutes, hours or days."""
    if number == 0:
        return f"0 {unit}".rstrip()
    if unit == "s" and number >= 120:
        seconds, name = next((n, s) for n, s in ((86400, "d"), (3600, "h"), (60, "min")) if number >= 2 * n or n == 60)
        return f"{number / seconds:.3g} {name}"
    power = min(5, max(-3, math.floor(math.log10(abs(number)) / 3 + 1e-9)))
    value = number / 1000.0**power
    return f"{value:.{0 if value >= 99.5 else 1 if value >= 9.95 else 2}f} {_PREFIXES[power]}{unit}".rstrip()


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One table in Markdown."""
    print(f"\n{title}\n")
    for cells in (columns, ["---"] * len(columns), *rows):
        print(f"| {' | '.join(cells)} |")


def show_steps(title: str, what: str, costs: Sequence[tuple[int, float, Cost]]) -> None:
    """A row for each number of GPUs: (GPUs, images or samples a step, cost)."""
    _, work_alone, alone = costs[0]
    show(
        title,
        ["GPUs", what, "compute", "exchange", "sent by each", "held by each", f"{what} a second", "of linear"],
        [
            [
                str(gpus),
                f"{work:,.0f}",
                readable(cost.compute, "s"),
                readable(cost.exchange, "s"),
                readable(cost.sent, "B"),
                readable(cost.held, "B"),
                readable(work / cost.seconds),
                f"{work / cost.seconds / gpus / (work_alone / alone.seconds):.0%}",
            ]
            for gpus, work, cost in costs
        ],
    )


def show_training() -> None:
    """Steps of the three trainers, one batch shared and one for each GPU."""
    cluster = Cluster()
    for name, what, work, step in (
        ("Pretraining", "images", 512, Pretraining().step),
        ("An arm of a comparison", "images", 256, Arm().step),
        ("The radiance field", "samples", 2**18, Field().step),
    ):
        shared = [(p, float(work), step(work, p, cluster)) for p in GPUS if work % p == 0]
        show_steps(f"{name}: one batch, shared", what, shared)
        each = [(p, float(work * p), step(work * p, p, cluster)) for p in GPUS]
        show_steps(f"{name}: the batch grows with the GPUs", what, each)


def show_probe() -> None:
    """The linear protocol against the number of images."""
    probe = Probe()
    weights = FLOAT * (probe.dim + 1) * probe.classes
    show(
        "Linear protocol",
        ["images", *(f"features by {p}" for p in (1, 8, 1024)), "held", "fit", "fit by 8 would send"],
        [
            [
                _power(n),
                *(readable(probe.features_seconds(n, p), "s") for p in (1, 8, 1024)),
                readable(probe.held(n), "B"),
                readable(probe.fit_seconds(n), "s"),
                readable(probe.evaluations * sent_by_each(weights, 8), "B"),
            ]
            for n in IMAGES
        ],
    )


def show_data() -> None:
    """Sets of small images and of photos."""
    columns = [
        "images",
        "in tars",
        "tars",
        "indexes",
        "walk",
        "open by index",
        "memory",
        "while split",
        "epoch",
        "1024",
    ]
    for name, kind, rate in (("32 px", SMALL, 25_000.0), ("photos at 224 px", PHOTO, 2_500.0)):
        show(
            f"Data, {name}: {rate * kind.decode:.1f} cores decode for one GPU of {rate:,.0f} images/s",
            columns,
            [_data_row(kind, n, rate) for n in IMAGES],
        )


def _data_row(kind: Pictures, n: int, rate: float) -> list[str]:
    return [
        _power(n),
        readable(n * kind.padded_bytes, "B"),
        f"{kind.shards(n):,}",
        readable(n * kind.index_file, "B"),
        readable(n * kind.walk, "s"),
        readable(kind.open_seconds(n), "s"),
        readable(kind.held(n), "B"),
        readable(n * kind.split, "B"),
        readable(n / rate, "s"),
        readable(n / rate / 1024, "s"),
    ]


def show_exchange(found: dict[str, Any]) -> None:
    """gloo on one machine: a hop and a rate are fitted to two processes' smallest and largest all-reduce."""
    exchange = found["exchange"]
    small, large = exchange["2"][0], exchange["2"][4]
    hop = small["seconds"] / 2
    rate = large["wire_bytes"] / (large["seconds"] - small["seconds"])
    rows: list[list[str]] = []
    for p, one in ((int(world), one) for world in ("2", "4") for one in exchange[world]):
        size, reduced = one["bytes"], one["what"] == "all_reduce"
        total = p * sent_by_each(size, p) if reduced else (p - 1) * size
        seconds = (p - 1) * (2 if reduced else 1) * hop + total / rate
        words = [one["what"].replace("_", "-"), readable(size, "B"), str(p)]
        rows.append([*words, *_beside(total, one["wire_bytes"], "B"), *_beside(seconds, one["seconds"], "s")])
    show(
        f"gloo: {readable(hop, 's')} a hop, {readable(rate, 'B/s')} of all processes together",
        ["what", "of", "processes", "on the wire", "measured", "seconds", "measured"],
        rows,
    )
    alone, rows = found["step"]["1"][0], []
    for p, one in ((int(world), found["step"][world][0]) for world in ("1", "2", "4")):
        total = p * sent_by_each(FLOAT * one["parameters"], p)
        seconds = alone["seconds"] / min(p, 2) + 2 * (p - 1) * hop + total / rate
        rows.append([str(p), *_beside(total, one["wire_bytes"], "B"), *_beside(seconds, one["seconds"], "s")])
    show("A step of ResNet-18", ["processes", "on the wire", "measured", "seconds", "measured"], rows)


def show_memory(found: dict[str, Any], read: dict[str, Any]) -> None:
    """Index, order and plan; opening; decoding; the linear protocol."""
    rows = [
        [
            _power(one["images"]),
            *_beside(SMALL.index * one["images"], one["index_bytes"], "B"),
            *_beside(SMALL.order * one["images"], one["order_bytes"], "B"),
            *_beside(SMALL.plan * one["images"] / 256, one["plan_bytes"], "B"),
            *_beside(SMALL.split * one["images"], one.get("split_peak_bytes", 0), "B"),
            readable(one["order_seconds"], "s"),
        ]
        for one in found["memory"]
    ]
    columns = ["index", "measured", "order", "measured", "plan", "measured", "while split", "measured", "order made in"]
    show("Memory", ["images", *columns], rows)
    n, opened = read["settings"]["images"], read["opening"]
    rows = [[name.replace("_", ", "), readable(one["seconds"], "s")] for name, one in opened.items()]
    show(f"Opening {n:,} images in {read['writing']['shards']} shards", ["how", "measured"], rows)
    rows = [
        [one["from"], str(one["to"]), readable(one["file_bytes"], "B"), readable(one["seconds_per_image"], "s")]
        for one in found["decode"]
    ]
    show("Decoding", ["image", "brought to", "file", "core seconds an image"], rows)
    first = found["linear"][0]
    rows = [
        [f"{one['images']:,}", *_beside(first["seconds"] * one["images"] / first["images"], one["seconds"], "s")]
        for one in found["linear"]
    ]
    show("One evaluation of the linear protocol", ["images", "in proportion", "measured"], rows)


def _beside(model: float, measured: float, unit: str) -> tuple[str, str]:
    return readable(model, unit), readable(measured, unit) if measured else "-"


def _power(n: int) -> str:
    return f"10^{round(math.log10(n))}"


def main() -> None:
    """Print all tables."""
    results = Path(__file__).parent / "results"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=results / "scaling.json")
    parser.add_argument("--shards", type=Path, default=results / "shards_speed.json")
    args = parser.parse_args()
    show_training()
    show_probe()
    show_data()
    found, read = (json.loads(file.read_text(encoding="utf-8")) for file in (args.measured, args.shards))
    show_exchange(found)
    show_memory(found, read)


if __name__ == "__main__":
    main()
