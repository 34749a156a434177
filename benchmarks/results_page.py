"""Writes docs/results.md and the README's main figures from results/*.json, so that no number is typed by hand.

python benchmarks/results_page.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import results_course
import results_peers
import results_tables
from results_words import Found, count, duration, percent, read, seeds, table, within

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
SOURCES = (
    *("course_project", "course_counts", "cifar100_comparison", "cifar100_representation", "speed_preset"),
    *("speed_recipe_trials", "compare_speed", "pretrain_speed", "pretrain_speed_both_stems", "views_speed"),
    *("cutmix_table", "fox", "bricks", "fox_against_nerfacto", "gpu_h200", "gpu_h200_pretraining", "gpu_h200_nerf"),
    *("probe_made", "shards_speed", "scaling"),
)
BEGIN, END = "<!-- made by benchmarks/results_page.py -->", "<!-- to here -->"

_HEAD = """# Results

Made by `benchmarks/results_page.py` from `benchmarks/results/*.json`; a test holds the two together. Nothing is here
that was not measured; what is missing is said to be missing, with the command that would measure it. Intervals are of
95 %: over test images where there is one seed (Wilson's), over seeds where there are several (Student's t). How each
program measures: `benchmarks/README.md`."""


def page(found: Found) -> str:
    """The whole of docs/results.md."""
    parts = [_HEAD, results_course.section(found), results_peers.peers(found), results_tables.measured(found)]
    return "\n\n".join([*parts, sources(found)]) + "\n"


def main_lines(found: Found) -> str:
    """The README's table."""
    course, ours = found["course_project"], found["cifar100_representation"]
    best = max(arm["test_accuracy"] for arm in course["comparison"]["arms"].values())
    runs, tuned = found["speed_preset"]["runs"], ours["finetune"]
    longest = tuned["simclr cifar10, temperature 0.2, 20 epochs"]
    theirs = course["representation"]
    low, high = theirs["test_accuracy"]["cifar10"]
    linear = {row["name"]: row for row in ours["study"]["rows"] if row["protocol"] == "linear"}
    step, plain = found["pretrain_speed"]["imagenet"], found["compare_speed"]["arms"]["resnet18"]
    fox, peer = found["fox"]["curve"], found["fox_against_nerfacto"]["peer"][-1]
    made, card = found["bricks"]["curve"][0], found["gpu_h200"]
    rate = next(one for one in card["comparison"] if one["arm"] == "resnet18" and not one["compiled"])
    rows = [
        [
            "CIFAR-100 from nothing, two CPU cores",
            "; ".join(
                f"{within(run['test_accuracy'], run['test_accuracy_ci95'])} in {duration(run['seconds'])}"
                for run in runs
            ),
            f"{percent(best, 2)}, the course project's best of {course['comparison']['epochs']} epochs",
        ],
        [
            "SimCLR on CIFAR-10, fine-tuned on CIFAR-100",
            f"{within(longest['test_accuracy'], longest['test_accuracy_ci95'])}, "
            f"{ours['pretraining']['simclr-cifar10-temperature0.2']['epochs']} epochs of pretraining",
            f"≈ {100 * low:.3g}-{100 * high:.3g} %, the course project's, "
            f"{theirs['pretraining']['epochs']['cifar10']} epochs",
        ],
        [
            "ImageNet's features, linear protocol",
            f"{percent(linear['imagenet at 32 px']['mean'])} at 32 px, "
            f"{percent(linear['imagenet at 128 px']['mean'])} at 128 px",
            f"{percent(linear['random']['mean'])}, random features",
        ],
        [
            "SimCLR steps, two CPU cores",
            f"{count(step['ours'])} images a second",
            f"{count(step['lightly'])}, lightly's documented loop",
        ],
        [
            "a comparison's steps, ResNet-18, two CPU cores",
            f"{count(plain['images_per_second']['ours']['median'])} images a second",
            f"{count(plain['images_per_second'][plain['better_plain']]['median'])}, plain PyTorch",
        ],
        [
            f"the same on one {card['ceilings']['gpu']}",
            f"{count(rate['images_per_second'])} images a second",
            f"{count(rate['bare_images_per_second'])}, bare steps",
        ],
        [
            "fox, 50 phone photos, two CPU cores",
            "; ".join(f"{one['psnr']:.2f} dB in {duration(round(one['train_seconds']))}" for one in (fox[0], fox[-1])),
            f"{peer['psnr']:.2f} dB in {duration(peer['seconds'])}, nerfstudio's nerfacto",
        ],
        ["bricks, an object, made", f"{made['psnr']:.2f} dB in {duration(round(made['train_seconds']))}", ""],
    ]
    return table(["", "here", "beside it"], rows)


def sources(found: Found) -> str:
    """Where each file came from: command, machine, load, seeds, date, commit."""
    rows = [
        [
            f"`{name}`",
            f"`{one['command']}`" if "command" in one else "see its section",
            _machine(one),
            f"{one['load_before']:.1f}, {one['load_after']:.1f}" if "load_before" in one else "not recorded",
            seeds(one),
            _when(one),
        ]
        for name, one in found.items()
        if name != "course_project"
    ]
    return "\n\n".join(
        [
            "## Where each number comes from",
            table(["file", "command", "machine", "load before, after", "seeds", "date, commit"], rows),
            "A load near the number of cores means other work beside. A commit with * had changes that were not "
            "committed yet; "
            "one in brackets is that which brought the file, where the file does not name its own.",
        ]
    )


def _machine(one: dict[str, Any]) -> str:
    card = one["gpu"] if isinstance(one.get("gpu"), str) else one.get("ceilings", {}).get("gpu")
    cpu = f"{one['cpu'].replace('(R)', '')}, {one['cores']} cores" if "cpu" in one else ""
    torch = one.get("versions", {}).get("torch") or one.get("torch")
    known = [*filter(None, [card, cpu, f"torch {torch}" if torch else ""])]
    return "; ".join(known) or "as its section says"


def _when(one: dict[str, Any]) -> str:
    if "commit" in one:
        commit = f"`{one['commit'][:8]}`{'*' if one.get('changed_files') else ''}"
    else:
        commit = f"(`{one['recorded_in'][:8]}`)"
    return f"{one['date'][:10]}, {commit}" if "date" in one else commit


def with_main_lines(readme: str, lines: str) -> str:
    """The README with the figures between its two marks replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def main() -> None:
    """Write both."""
    found = read(SOURCES)
    PAGE.write_text(page(found), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_main_lines(readme, main_lines(found)), encoding="utf-8")
    print(f"wrote {PAGE} and the figures of {README}")


if __name__ == "__main__":
    main()
