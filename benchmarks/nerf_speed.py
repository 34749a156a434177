"""How fast the reconstruction is and how far that is from what the machine allows; writes results/NAME.json and plots.

    python benchmarks/nerf_speed.py SCENE --name fox [--quick] [--budgets 15 60 300] [--parts profile curve]

SCENE has poses (the fox, or what brick_scene.py writes). Parts: `profile` (a step's kernels beside the ceilings),
`linear` (seconds against rays and photos), `curve` (score against training time, with memory and frame times).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import ceilings
import matplotlib as mpl
import nerf_run
import step_profile
from record import circumstances, peak_bytes, save

from nndl_suite.nerf.frame import field_frame
from nndl_suite.nerf.photos import PosedPhotos, load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.scene import hold_out
from nndl_suite.nerf.trainer import TrainSettings
from nndl_suite.training.files import Json

mpl.use("svg")
from matplotlib import pyplot as plt  # noqa: E402 - after the choice of a backend

PARTS = ["profile", "linear", "curve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    warmup: int = 300
    """Steps before a profile."""
    steps: int = 40
    """Steps whose median is taken."""
    ceilings: float = 1.0
    """Share of the work that the ceilings are measured with."""
    ray_factors: tuple[float, ...] = (0.25, 0.5, 1, 2, 4)
    """Batches, as multiples of the usual one."""
    photo_shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1)
    budgets: tuple[float, ...] = (15, 30, 60, 120, 300, 600)
    """Seconds of training."""
    frames: tuple[str, ...] = ("400x400", "270x480", "854x480")
    """Sizes of the frames that are timed."""


QUICK = Effort(
    warmup=3,
    steps=3,
    ceilings=0.02,
    ray_factors=(0.25, 0.5),
    photo_shares=(0.1, 0.2),
    budgets=(3,),
    frames=("100x100",),
)


def load_training_photos(source: Path, share: float, max_side: int) -> PosedPhotos:
    """The first share of a scene's training photos."""
    scene = read_scene(source)
    train, _ = hold_out(scene, "every8")
    chosen = train[: max(2, round(share * len(train)))]
    return load_photos(scene, chosen, field_from_world=field_frame(scene), max_side=max_side)


def kernels_and_ceilings(photos: PosedPhotos, settings: TrainSettings, effort: Effort) -> dict[str, Json]:
    """A step taken apart, the rates that its parts reach, and those the machine has."""
    top = ceilings.measure(gather_rows=2**settings.field.log2_rows, effort=effort.ceilings)
    step = step_profile.profile(photos, settings, warmup=effort.warmup, steps=effort.steps)
    work, parts = step.work, step.parts
    rates: dict[str, Json] = {}
    nets = sum(seconds for name, seconds in parts.items() if "shade" in name or "learn" in name)
    if nets > 0:
        rates["nets_gflops"] = work.net_gflop / nets
        rates["nets_of_narrow_sgemm"] = work.net_gflop / nets / top.sgemm_narrow_gflops
        rates["nets_of_large_sgemm"] = work.net_gflop / nets / top.sgemm_large_gflops
    if parts.get("encode", 0) > 0:
        rates["encode_g_gathers_per_s"] = 1e-9 * work.gathers / parts["encode"]
        rates["encode_of_gather_rate"] = 1e-9 * work.gathers / parts["encode"] / top.gather_g_per_s
    # What the step would take if nets ran at sgemm's rate and every table row cost one random read, or copy's share
    floor = work.net_gflop / top.sgemm_narrow_gflops + 1e-9 * (work.gathers + work.scatter_rows) / top.gather_g_per_s
    rates["floor_seconds"] = floor
    rates["floor_of_step"] = floor / step.step_seconds
    shares: dict[str, Json] = {name: seconds / step.step_seconds for name, seconds in parts.items()}
    sizes: dict[str, Json] = {**asdict(work), "table_gb": work.table_gb}
    return {
        "ceilings": asdict(top),
        "step_seconds": step.step_seconds,
        "parts_seconds": dict(parts),
        "parts_share": shares,
        "work_per_step": sizes,
        "rates": rates,
    }


def linearity(source: Path, settings: TrainSettings, effort: Effort, max_side: int) -> dict[str, Json]:
    """Seconds a step against rays; seconds of loading, and of a fixed number of steps, against photos."""
    whole = load_training_photos(source, 1.0, max_side)
    against_rays: list[Json] = []
    for factor in effort.ray_factors:
        batch = replace(settings, samples_per_step=int(settings.samples_per_step * factor))
        against_rays.append([batch.rays, step_profile.step_seconds(whole, batch, steps=effort.steps)])
    against_photos: list[Json] = []
    for share in effort.photo_shares:
        start = time.perf_counter()
        photos = load_training_photos(source, share, max_side)
        loaded = time.perf_counter()
        step_profile.step_seconds(photos, settings, steps=effort.steps)
        against_photos.append([len(photos.names), loaded - start, time.perf_counter() - loaded])
    return {"rays_seconds": against_rays, "photos_load_seconds_steps_seconds": against_photos}


def curve(source: Path, effort: Effort, max_side: int) -> list[Json]:
    """One full run a budget, each in a process of its own."""
    runs: list[Json] = []
    for budget in effort.budgets:
        run = nerf_run.child(source, seconds=budget, max_side=max_side, background="white", frames=list(effort.frames))
        print(f"{budget:g} s: {run['psnr']:.2f} dB, SSIM {run['ssim']:.3f}, {run['peak_mib']:.0f} MiB", flush=True)
        runs.append(run)
    return runs


def plot(results: dict[str, Json], file: Path) -> None:
    """What was measured, side by side: score against time, seconds against rays and against photos."""
    panels = [name for name in ("curve", "linear") if name in results]
    figure, axes = plt.subplots(
        1, len(panels) + ("linear" in panels), figsize=(4.2 * (len(panels) + 1), 3.4), squeeze=False
    )
    free = list(axes[0])
    if "curve" in results:
        axis, runs = free.pop(0), results["curve"]
        axis.semilogx([r["train_seconds"] for r in runs], [r["psnr"] for r in runs], "o-")
        axis.minorticks_off()
        axis.set_xticks([r["budget_seconds"] for r in runs], [f"{r['budget_seconds']:g}" for r in runs])
        axis.set(xlabel="seconds of training", ylabel="held-out PSNR, dB")
    if "linear" in results:
        rays = results["linear"]["rays_seconds"]
        photos = results["linear"]["photos_load_seconds_steps_seconds"]
        free[0].plot([r[0] for r in rays], [1e3 * r[1] for r in rays], "o-")
        free[0].set(xlabel="rays a step", ylabel="milliseconds a step", xlim=(0, None), ylim=(0, None))
        free[1].plot([p[0] for p in photos], [p[1] for p in photos], "o-", label="loading")
        free[1].plot([p[0] for p in photos], [p[2] for p in photos], "s-", label="the same number of steps")
        free[1].set(xlabel="photos", ylabel="seconds", xlim=(0, None), ylim=(0, None))
        free[1].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)


def main() -> None:
    """Measures the parts that are asked for, then writes them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--name", required=True, help="of the files in --out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--quick", action="store_const", const=QUICK, default=Effort(), dest="effort", help="a smoke run"
    )
    parser.add_argument("--budgets", nargs="+", type=float, help="seconds of training")
    parser.add_argument("--max-side", type=int, default=480)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args()
    effort, parts = args.effort, args.parts
    if args.budgets:
        effort = replace(effort, budgets=tuple(args.budgets))
    start, settings, results = circumstances(), TrainSettings(), {}
    if "profile" in parts:
        photos = load_training_photos(args.source, 1.0, args.max_side)
        results["profile"] = kernels_and_ceilings(photos, settings, effort)
        results["profile_peak_mib"] = peak_bytes() / 2**20
    if "linear" in parts:
        results["linear"] = linearity(args.source, settings, effort, args.max_side)
    if "curve" in parts:
        results["curve"] = curve(args.source, effort, args.max_side)
    file = save(args.name, start, {"scene": args.source.name, "max_side": args.max_side, **results}, args.out)
    if {"linear", "curve"} & set(results):
        plot(results, file.with_suffix(".svg"))
    print(file)


if __name__ == "__main__":
    main()
