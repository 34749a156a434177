"""The radiance field on a GPU: seconds of a step and of a frame beside what the card allows, and scores after seconds.

Scenes with poses are looked for in the data root, as `fox` or `captures/fox`, `lego`, `nerf_synthetic/lego` and
`bricks` (which `brick_scene.py` makes).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gpu_clock import seconds_a_step

from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.frame import FieldFrame, field_frame
from nndl_suite.nerf.gpu.field import DeviceField
from nndl_suite.nerf.gpu.trainer import GpuFieldTrainer, gpu_settings, train_field_on
from nndl_suite.nerf.hull import object_field, object_frame
from nndl_suite.nerf.nearest import nearest_surface
from nndl_suite.nerf.photos import PosedPhotos, load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.rendering import render_view
from nndl_suite.nerf.scene import hold_out, stacked_poses
from nndl_suite.nerf.trainer import TrainSettings
from nndl_suite.training.checkpoints import load_newest
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder

CUDA = torch.device("cuda")
NET_FLOPS = 80e3
"""Of the nets, a sample, forwards and back, padding counted."""
TABLE_BYTES = 16 * 8 * 8 * 2
"""What a sample reads of the hash table and adds to its gradient; most of it stays in the L2 cache."""
SAMPLE_BYTES = 3 * 12 + 128 + 144 + 48 + 288 + 128 + 16
"""What a sample moves through memory: points, encoding, nets, rays, nets back, gradient, density grid."""
PLACES = {"fox": ("fox", "captures/fox"), "lego": ("lego", "nerf_synthetic/lego"), "bricks": ("bricks",)}
BUDGETS = {"fox": (5.0, 20.0), "lego": (5.0, 30.0), "bricks": (5.0, 30.0)}
"""Seconds of training."""
MAX_SIDES = {"fox": 480, "lego": None, "bricks": None}


def find_scene(root: Path, name: str) -> Path | None:
    """Where a scene lies; None where it does not."""
    return next((root / place for place in PLACES[name] if (root / place).is_dir()), None)


def load(source: Path, max_side: int | None) -> tuple[PosedPhotos, PosedPhotos, TrainSettings]:
    """Photos to train on, held-out ones, and the settings that `nerf train --device cuda` would train with."""
    scene = read_scene(source)
    train, test = hold_out(scene, "every8")
    frame = FieldFrame(field_from_world=field_frame(scene))
    photos, held_out = (
        load_photos(scene, part, field_from_world=frame.field_from_world, max_side=max_side) for part in (train, test)
    )
    frame = object_frame(photos, frame)

    def moved(some: PosedPhotos, part: Sequence[int]) -> PosedPhotos:
        poses = frame.field_from_world.apply_pose(stacked_poses(scene, part))
        return replace(some, field_from_camera=poses.astype(np.float32))

    photos, held_out = moved(photos, train), moved(held_out, test)
    points = None if scene.points is None else frame.field_from_world.apply(scene.points.xyz)
    open_field = FieldSettings(near=nearest_surface(photos, points)) if frame.bound is None else object_field(photos)
    return photos, held_out, gpu_settings(TrainSettings(field=open_field))


def view_of(photos: PosedPhotos, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The directions [h, w, 3] of a photo's pixels, and its pose."""
    height, width = photos.sizes[index]
    first = int(photos.direction_starts[photos.camera_of[index]])
    return photos.directions[first : first + height * width].reshape(height, width, 3), photos.field_from_camera[index]


def psnr(field: DeviceField, photos: PosedPhotos) -> float:
    """The mean over photos, in dB; photos with alpha over the field's background."""
    scores: list[float] = []
    for index in range(len(photos.names)):
        pixels = photos.pixels[photos.starts[index] : photos.starts[index + 1]] / np.float32(255)
        truth = pixels[:, :3]
        if field.settings.background is not None:
            truth = pixels[:, 3:] * truth + (1 - pixels[:, 3:]) * np.array(field.settings.background, np.float32)
        seen = render_view(field, *view_of(photos, index)).rgb.reshape(-1, 3).clip(0, 1)
        scores.append(float(-10 * np.log10(np.mean((seen - truth) ** 2, dtype=np.float64))))
    return float(np.mean(scores))


def trained(photos: PosedPhotos, settings: TrainSettings, seconds: float) -> tuple[DeviceField, int, float]:
    """A field after `seconds` of training, the steps that these were, and the seconds by the run's own clock."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.checkpoints.mkdir()
        field = train_field_on(CUDA, photos, replace(settings, max_seconds=seconds), run)
        saved = load_newest(run.checkpoints)
        assert saved is not None
        return field, saved.step, saved.seconds


def score(name: str, source: Path, budgets: Sequence[float]) -> list[Json]:
    """One run a budget: held-out PSNR, steps, and milliseconds of a frame."""
    photos, held_out, settings = load(source, MAX_SIDES[name])
    rows: list[Json] = []
    for budget in budgets:
        field, steps, spent = trained(photos, settings, budget)
        row: dict[str, Json] = {
            "scene": name, "train_seconds": spent, "steps": steps, "psnr": psnr(field, held_out),
            "frame_size": list(held_out.sizes[0]), "frame_ms": frame_ms(field, held_out),
        }  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    return rows


def frame_ms(field: DeviceField, photos: PosedPhotos) -> float:
    """A frame's median, from directions in the CPU's memory to a picture there."""
    spent: list[float] = []
    for index in range(6):
        start = time.perf_counter()
        render_view(field, *view_of(photos, index % len(photos.names)))
        spent.append(time.perf_counter() - start)
    return 1e3 * float(np.median(spent[1:]))


def steps(source: Path, seconds: float, *, peak_tflops: float, copy_tb_per_second: float) -> dict[str, Json]:
    """A step of 2**18 samples, replayed and launched kernel by kernel, beside the time that the card needs at best."""
    photos, _, settings = load(source, 480)
    trainer = GpuFieldTrainer(photos, settings, CUDA)
    replayed = seconds_a_step(lambda index: trainer.step(index, 0.1), seconds)
    launched = seconds_a_step(lambda _: trainer._advance(), seconds)
    n = settings.rays * settings.samples
    table = trainer.field.table.nbytes
    in_memory = n * SAMPLE_BYTES + 8 * table  # Adam reads and writes four tensors
    best = max(NET_FLOPS * n / peak_tflops / 1e12, in_memory / copy_tb_per_second / 1e12)
    return {
        "samples": n, "rays": settings.rays, "ms": 1e3 * replayed, "launched_ms": 1e3 * launched,
        "seconds_per_1000_steps": 1e3 * replayed, "net_gflop": 1e-9 * NET_FLOPS * n, "gb_in_memory": 1e-9 * in_memory,
        "gb_of_table": 1e-9 * TABLE_BYTES * n, "net_tflops": 1e-12 * NET_FLOPS * n / replayed,
        "best_ms": 1e3 * best, "of_best": best / replayed,
    }  # fmt: skip


def measure(root: Path, seconds: float, *, peak_tflops: float, copy_tb_per_second: float) -> dict[str, Json]:
    """Everything, of the scenes that are there."""
    found = {name: source for name in PLACES if (source := find_scene(root, name)) is not None}
    results: dict[str, Json] = {"scenes": list[Json](found)}
    for name, source in found.items():
        if "step" not in results:
            results["step"] = steps(source, seconds, peak_tflops=peak_tflops, copy_tb_per_second=copy_tb_per_second)
            print(results["step"], flush=True)
        results[name] = score(name, source, BUDGETS[name])
    return results
