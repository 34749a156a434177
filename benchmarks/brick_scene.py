"""Writes a made scene in Blender's synthetic format: a machine of toy bricks, as hard in kind as NeRF-synthetic's lego.

    python benchmarks/brick_scene.py OUT [--side 400] [--train 100] [--test 25] [--seed 0]

The scene fits a radius of about 1.3 around the origin.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from brick_parts import machine
from brick_tracer import Part, bounds, pack, photograph
from PIL import Image

CAMERA_ANGLE_X, DISTANCE, RADIUS = 0.6911, 4.03, 1.35

README = """A made scene in Blender's synthetic format (transforms_train.json, transforms_test.json, RGBA PNGs).
Nothing here was photographed or modelled by hand: benchmarks/brick_scene.py of nndl-suite computed it with its own
ray tracer from the seed {seed} ({parts} parts, {train} + {test} views of {side} x {side} pixels).
"""


def fitted(parts: list[Part], radius: float) -> list[Part]:
    """The parts moved and scaled into a sphere of that radius around the origin."""
    lows, highs = (np.array(c) for c in zip(*map(bounds, parts), strict=True))
    middle = (lows.min(0) + highs.max(0)) / 2
    corners = np.maximum(np.abs(lows - middle), np.abs(highs - middle))
    scale = radius / np.linalg.norm(corners, axis=1).max()
    return [replace(p, centre=(p.centre - middle) * scale, size=tuple(s * scale for s in p.size)) for p in parts]


def pose(azimuth_rad: float, height: float) -> np.ndarray:
    """World from camera [4, 4] (OpenGL axes) looking at the origin; `height` is the sine of the elevation."""
    flat = np.sqrt(1 - height**2)
    back = np.array([flat * np.cos(azimuth_rad), flat * np.sin(azimuth_rad), height])
    right = np.array([-np.sin(azimuth_rad), np.cos(azimuth_rad), 0.0])
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, DISTANCE * back], 1)
    return matrix


def write_split(out: Path, name: str, poses: list[np.ndarray], scene: tuple[np.ndarray, ...], side: int) -> None:
    """Renders the views of one split and lists them in its transforms file."""
    (out / name).mkdir(parents=True, exist_ok=True)
    focal, frames = 0.5 * side / np.tan(0.5 * CAMERA_ANGLE_X), []
    for k, matrix in enumerate(poses):
        Image.fromarray(photograph(scene, matrix, focal, side)).save(out / name / f"r_{k}.png")
        frames.append({"file_path": f"./{name}/r_{k}", "transform_matrix": matrix.tolist()})
    text = json.dumps({"camera_angle_x": CAMERA_ANGLE_X, "frames": frames}, indent=1)
    (out / f"transforms_{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Parses, renders and says how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    for name, default in (("side", 400), ("train", 100), ("test", 25), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    start, rng = time.perf_counter(), np.random.default_rng(args.seed)
    parts = fitted(machine(rng), RADIUS)
    scene = pack(parts)
    train = [pose(rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.98)) for _ in range(args.train)]
    test = [pose(4 * np.pi * k / args.test, np.sin(np.radians(12 + 50 * k / args.test))) for k in range(args.test)]
    write_split(args.out, "train", train, scene, args.side)
    write_split(args.out, "test", test, scene, args.side)
    readme = README.format(seed=args.seed, parts=len(parts), train=args.train, test=args.test, side=args.side)
    (args.out / "README.txt").write_text(readme, encoding="utf-8")
    print(f"{len(parts)} parts, {args.train + args.test} views in {time.perf_counter() - start:.0f} s: {args.out}")


if __name__ == "__main__":
    main()
