"""Steps of `nndl-suite compare` beside bare ones and beside plain PyTorch training; writes results/NAME.json.

    python benchmarks/compare_speed.py [--arms resnet18 resnet18-1m vit] [--rounds 3] [--minutes M] [--seconds 20]

Rates are images a second. What is measured, see compare_window.py: each window is a process of its own. A round is
`bare`, `ours`, `bare` again, `plain-2`, `plain-0`, every other round the other way about, so that a machine whose speed
moves over minutes moves all of them. `ours_of_bare` of a round is against the two bare windows around it;
`ours_of_plain` is against the number of workers whose median is better. Both are medians over the rounds, with all
rounds beside them. With `--minutes` no round begins that would end later, as long as the longest until then; the first
one always does.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from statistics import mean, median

from compare_window import ARMS, child
from record import circumstances, save

AIM_OF_BARE, AIM_OF_PLAIN = 0.95, 1.8
ROUND = ("bare", "ours", "bare_again", "plain-2", "plain-0")


def one_round(arm: str, number: int, *, batch: int, seconds: float, data: str) -> dict[str, dict]:
    """The windows of a 0-based round by name, in the order in which they were run."""
    windows = {}
    for name in ROUND if number % 2 == 0 else ROUND[::-1]:
        kind = name.removesuffix("_again")
        windows[name] = child(kind, arm=arm, batch=batch, seconds=seconds, data=data)
        print(f"{arm}, round {number + 1}, {name}: {windows[name]['images_per_second']:.1f} images/s", flush=True)
    return windows


def measure(
    arms: list[str], *, rounds: int, minutes: float, batch: int, seconds: float, data: str
) -> dict[str, list[dict[str, dict]]]:
    """Rounds by arm, all arms in turn, until there are enough of them or no other would end in time."""
    found: dict[str, list[dict[str, dict]]] = {arm: [] for arm in arms}
    start, longest = time.monotonic(), 0.0
    for number in range(rounds):
        before = time.monotonic()
        if number and before - start + longest > 60 * minutes:
            print(f"{number} rounds instead of {rounds}: another would end after {minutes:g} minutes", flush=True)
            break
        for arm in arms:
            found[arm].append(one_round(arm, number, batch=batch, seconds=seconds, data=data))
        longest = max(longest, time.monotonic() - before)
    return found


def spread(values: list[float]) -> dict[str, float | list[float]]:
    """A median, and what it is the median of."""
    return {"median": median(values), "least": min(values), "most": max(values), "all": values}


def summarise(rounds: list[dict[str, dict]]) -> dict:
    """Rates by name, and the two ratios that are aimed at."""
    rates = {name: [windows[name]["images_per_second"] for windows in rounds] for name in ROUND}
    bare = [mean(pair) for pair in zip(rates["bare"], rates["bare_again"], strict=True)]
    plain = max("plain-2", "plain-0", key=lambda name: median(rates[name]))
    of_bare = [ours / ceiling for ours, ceiling in zip(rates["ours"], bare, strict=True)]
    of_plain = [ours / other for ours, other in zip(rates["ours"], rates[plain], strict=True)]
    one = rounds[0]["ours"]
    return {
        **{name: one[name] for name in ("network", "parameters", "flops", "precision", "data", "torch_threads")},
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "better_plain": plain,
        "ours_of_bare": spread(of_bare),
        "ours_of_plain": spread(of_plain),
        "reached": {"bare": median(of_bare) >= AIM_OF_BARE, "plain": median(of_plain) >= AIM_OF_PLAIN},
        "checkpoint_seconds": median(windows["ours"]["checkpoint_seconds"] for windows in rounds),
        "window_seconds": [{name: windows[name]["seconds"] for name in windows} for windows in rounds],
        "window_steps": [{name: windows[name]["steps"] for name in windows} for windows in rounds],
    }


def main() -> None:
    """Measure one arm after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["resnet18", "resnet18-1m", "vit"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="leave out rounds that would end later")
    parser.add_argument("--seconds", type=float, default=20, help="of a window; at least three steps are timed")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--data", default="cifar100", help='a data name, or "random"')
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--name", default="compare_speed")
    args = parser.parse_args()
    start = circumstances()
    measured = measure(
        args.arms, rounds=args.rounds, minutes=args.minutes, batch=args.batch, seconds=args.seconds, data=args.data
    )
    results = {arm: summarise(windows) for arm, windows in measured.items()}
    for arm in args.arms:
        for ratio, aim in (("ours_of_bare", AIM_OF_BARE), ("ours_of_plain", AIM_OF_PLAIN)):
            found = results[arm][ratio]
            print(
                f"{arm}: {ratio} {found['median']:.3f} ({found['least']:.3f} to {found['most']:.3f}), aim {aim}",
                flush=True,
            )
    aims = {"ours_of_bare": AIM_OF_BARE, "ours_of_plain": AIM_OF_PLAIN}
    settings = {"batch": args.batch, "rounds": len(measured[args.arms[0]]), "aims": aims}
    print(save(args.name, start, {**settings, "arms": results}, args.out))


if __name__ == "__main__":
    main()
