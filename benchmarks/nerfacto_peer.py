"""Nerfacto of nerfstudio on the CPU, driven step by step; runs in nerfstudio's own Python and needs nothing of ours.

    PEER_PYTHON benchmarks/nerfacto_peer.py FOX WORK --rays 1024 --marks 60,300,600,1200 [--photos 7]

At every mark (seconds of training; the clock stands still while scores are taken) it prints one JSON object a line.
Offline nerfstudio cannot build its model, because LPIPS fetches weights: that metric is replaced by one that says NaN.
Otherwise it is nerfstudio's own configuration, but for the chunk of rays a picture is rendered in, where the default
is three times slower on a CPU and takes 13.6 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from copy import deepcopy
from pathlib import Path
from statistics import mean, median

import numpy as np
import psutil
import torch
import torchmetrics.image.lpip
from PIL import Image

REDUCTION = 4
RENDER_CHUNK = 4096


class _NoLpips(torch.nn.Module):
    """Stands in for the metric whose weights are not there."""

    def __init__(self, *_args: object, **_options: object) -> None:
        super().__init__()

    def forward(self, *_args: object) -> torch.Tensor:
        return torch.tensor(float("nan"))


def reduced_copy(source: Path, out: Path) -> Path:
    """The capture in nerfstudio's layout: the photos that exist, reduced by whole blocks, sorted by name."""
    scene = json.loads((source / "transforms.json").read_text(encoding="utf-8"))
    frames = sorted((f for f in scene["frames"] if (source / f["file_path"]).exists()), key=lambda f: f["file_path"])
    folder = out / f"images_{REDUCTION}"
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        name = f"{Path(frame['file_path']).stem}.png"
        Image.open(source / frame["file_path"]).convert("RGB").reduce(REDUCTION).save(folder / name)
        frame["file_path"] = f"images/{name}"
    (out / "transforms.json").write_text(json.dumps({**scene, "frames": frames}), encoding="utf-8")
    return out


def nerfacto(scene: Path, work: Path, rays: int):  # noqa: ANN201 - nerfstudio's own Trainer
    """Nerfstudio's trainer, set up for the CPU, every 8th photo held out."""
    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = _NoLpips
    from nerfstudio.configs.method_configs import method_configs  # noqa: PLC0415 - after the metric is replaced

    config = deepcopy(method_configs["nerfacto"])
    config.data, config.output_dir, config.experiment_name = scene, work / "runs", "peer"
    config.vis, config.machine.device_type = "tensorboard", "cpu"
    config.set_timestamp()
    manager, model = config.pipeline.datamanager, config.pipeline.model
    manager.data, manager.train_num_rays_per_batch = scene, rays
    parser = manager.dataparser
    parser.eval_mode, parser.eval_interval, parser.downscale_factor = "interval", 8, REDUCTION
    model.implementation, model.eval_num_rays_per_chunk = "torch", RENDER_CHUNK
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def score(pipeline, photos: int) -> dict[str, float]:  # noqa: ANN001
    """Means over the first held-out photos, and the median time of a frame."""
    held_out = pipeline.datamanager.eval_dataset
    psnr, ssim, seconds = [], [], []
    pipeline.eval()
    for index in range(min(photos, len(held_out))):
        photo = held_out[index]["image"]
        photo = photo.float() / 255 if photo.dtype == torch.uint8 else photo
        start = time.perf_counter()
        with torch.no_grad():
            seen = pipeline.model.get_outputs_for_camera(held_out.cameras[index : index + 1])
        seconds.append(time.perf_counter() - start)
        metrics, _ = pipeline.model.get_image_metrics_and_images(seen, {"image": photo})
        psnr.append(float(metrics["psnr"]))
        ssim.append(float(metrics["ssim"]))
    pipeline.train()
    return {"psnr": mean(psnr), "ssim": mean(ssim), "frame_seconds": median(seconds), "test_images": len(psnr)}


def one_step(trainer, index: int, locations) -> float:  # noqa: ANN001
    """One training step with its callbacks, as nerfstudio's loop does it; seconds."""
    start = time.perf_counter()
    trainer.step = index
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(index, location=locations.BEFORE_TRAIN_ITERATION)
    trainer.train_iteration(index)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(index, location=locations.AFTER_TRAIN_ITERATION)
    return time.perf_counter() - start


def main() -> None:
    """Train from mark to mark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rays", type=int, default=1024)
    parser.add_argument("--marks", default="60,300,600,1200")
    parser.add_argument("--photos", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(42)
    random.seed(42)
    np.random.seed(42)  # noqa: NPY002 - nerfstudio draws from the global one
    trainer = nerfacto(reduced_copy(args.source, args.work / "scene"), args.work, args.rays)
    from nerfstudio.engine.callbacks import TrainingCallbackLocation  # noqa: PLC0415

    seconds: list[float] = []
    spent, training_peak = 0.0, 0
    for mark in map(float, args.marks.split(",")):
        while spent < mark:
            seconds.append(one_step(trainer, len(seconds), TrainingCallbackLocation))
            spent += seconds[-1]
            training_peak = max(training_peak, psutil.Process().memory_info().rss)
        report = {"seconds": spent, "steps": len(seconds), "seconds_per_step": median(seconds)}
        report |= {"training_mib": training_peak / 2**20, "rays": args.rays, **score(trainer.pipeline, args.photos)}
        print(json.dumps(report), flush=True)
    for worker in psutil.Process().children(recursive=True):
        worker.kill()  # nerfstudio's data workers do not end by themselves
    os._exit(0)


if __name__ == "__main__":
    main()
