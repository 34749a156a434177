"""One run of our reconstruction in a process of its own, so that its memory is its own; prints one JSON object.

    python benchmarks/nerf_run.py SCENE OUT --seconds 55 [--max-side 480] [--background white] [--frames 400x400]

The scene has poses. Compiling the kernels (once a machine) is done by one step before, and belongs to no time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from record import peak_bytes

from nndl_suite import ColmapNerfReconstructor
from nndl_suite.nerf.cameras import pixel_directions
from nndl_suite.nerf.path import orbit
from nndl_suite.nerf.rendering import render_view

FRAMES_TIMED = 5


def view_directions(width: int, height: int, angle_x_rad: float) -> np.ndarray:
    """Unit directions of a pinhole's pixels in OpenCV axes: float32 [h, w, 3]."""
    focal = 0.5 * width / np.tan(0.5 * angle_x_rad)
    x, y = np.meshgrid((np.arange(width) + 0.5 - width / 2) / focal, (np.arange(height) + 0.5 - height / 2) / focal)
    rays = np.stack([x, y, np.ones_like(x)], -1)
    return (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)


def angle_x(scan: ColmapNerfReconstructor) -> float:
    """The horizontal field of view of the scene's first camera, radians."""
    middle_row = pixel_directions(scan.scene.cameras[0])[scan.scene.cameras[0].height // 2]
    return float(np.arccos(middle_row[0] @ middle_row[-1]))


def frame_seconds(scan: ColmapNerfReconstructor, width: int, height: int) -> float:
    """Median seconds of a few frames of an orbit, after one that is not counted."""
    views = [scan.scene.views[index].world_from_camera for index in scan.split[0]]
    poses = orbit(scan.field_from_world.apply_pose(np.stack(views)), frames=FRAMES_TIMED + 1).poses.astype(np.float32)
    directions, seconds = view_directions(width, height, angle_x(scan)), []
    for pose in poses:
        start = time.perf_counter()
        render_view(scan.field, directions, pose)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def child(source: Path, *, seconds: float, max_side: int, background: str, frames: list[str]) -> dict:
    """Run this file in a new process with a scratch run folder, and return what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, str(source), f"{folder}/run", "--seconds", str(seconds)]
        words += ["--max-side", str(max_side), "--background", background, "--frames", ",".join(frames)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Train, score, time frames, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--max-side", type=int, default=480)
    parser.add_argument("--background", default="white")
    parser.add_argument("--frames", default="", help="sizes to time, as 400x400,854x480")
    args = parser.parse_args()
    scan = ColmapNerfReconstructor(
        args.source, out=args.out, poses="given", max_side=args.max_side, background=args.background
    )
    scores = scan.fit(minutes=args.seconds / 60)
    result = json.loads((args.out / "result.json").read_text(encoding="utf-8"))
    sizes = [size.split("x") for size in args.frames.split(",") if size]
    report = {
        "budget_seconds": args.seconds,
        "train_seconds": result["train_seconds"],
        "steps": result["steps"],
        "psnr": scores.psnr,
        "ssim": scores.ssim,
        "lpips": scores.lpips,
        "test_images": len(scores.images),
        "held_out_frame_seconds": scores.seconds_per_frame,
        "peak_mib": peak_bytes() / 2**20,
        "frame_seconds": {f"{w}x{h}": frame_seconds(scan, int(w), int(h)) for w, h in sizes},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
