"""The commands that are disturbed, at the smallest sizes that have something to lose, and what they read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Command, Forge
from PIL import Image

from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.data.write_shards import write_shards

ON_CPU = ("--device", "cpu")
EXACTLY = (*ON_CPU, "--precision", "32-true")


@dataclass(frozen=True)
class Material:
    """What the commands read."""

    images: str
    """The name of a data set."""
    recipe: Path
    capture: Path
    """With poses."""
    photos: Path
    """Of another, larger one: for COLMAP."""
    field: Path
    """A finished `nerf train`."""
    pictures: Path
    """Class folders."""
    shards: Path


def make_material(forge: Forge, folder: Path, *, photos: int = 14) -> Material:
    """Everything that the commands read, in a new folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, n in (("train", 80), ("test", 40)):
        labels = np.arange(n) % 4
        images = rng.integers(0, 90, (n, 16, 16, 3), dtype=np.uint8)
        for channel in range(3):
            images[labels == channel, :, :, channel] += 60
        np.savez(folder / f"tints-{split}.npz", images=images, labels=labels)
    recipe = folder / "recipe.json"
    recipe.write_text(json.dumps({"batch_size": 12, "rates": {"rate": 0.002, "decay": 0.05}}))
    capture = make_demo_capture(folder / "capture", photos=9, size=(48, 36))
    larger = make_demo_capture(folder / "larger", photos=photos, size=(240, 180)) / "images"
    pictures, shards = folder / "pictures", folder / "shards"
    for row, image in enumerate(images):  # the test images
        file = pictures / f"class{row % 4}" / f"{row:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    write_shards(pictures, shards)
    data = f"arrays:{folder / 'tints.npz'}"
    material = Material(data, recipe, capture, larger, folder / "field", pictures, shards)
    made = forge.run(nerf_train(material, steps=200).words(material.field))  # until there is a surface to export
    assert made.code == 0, made.said
    return material


def nerf_train(material: Material, *, steps: int = 25) -> Command:
    words = ["nerf", "train", material.capture, "--steps", steps, *ON_CPU, "--out"]
    return Command("nerf train", lambda out: [*words, out])


def commands(material: Material, server: Any = None) -> dict[str, Command]:
    """By name; with a server of `material.shards` also the one that fetches."""
    images, recipe = material.images, material.recipe
    slim = ("--backbone", "resnet18-slim")
    made = (
        Command(
            "ssl pretrain",
            lambda out: [
                *("ssl", "pretrain", "--dataset", images, *slim, "--batch-size", 16, "--epochs", 5),
                *(*EXACTLY, "--out", out),
            ],
        ),
        Command(
            "ssl probe (linear)",
            lambda out: [
                *("ssl", "probe", "--features", "random", "--dataset", images, *slim, *ON_CPU),
                *("--cache", out.with_name(f"{out.name}-cache"), "--out", out),
            ],
        ),
        Command(
            "ssl probe (finetune)",
            lambda out: [
                *("ssl", "probe", "--features", "random", "--dataset", images, *slim, *ON_CPU),
                *("--protocol", "finetune", "--epochs", 3, "--batch-size", 12, "--out", out),
            ],
        ),
        Command(
            "train",
            lambda out: [
                *("train", "--arm", "resnet18-slim", "--recipe", recipe, "--dataset", images, "--epochs", 5),
                *(*EXACTLY, "--out", out),
            ],
        ),
        Command(
            "compare",
            lambda out: [
                *("compare", "--cnn", "resnet18-slim", "--transformer", "vit", "--recipe", recipe),
                *("--dataset", images, "--epochs", 2, "--seeds", 1, *EXACTLY, "--out", out),
            ],
        ),
        Command(
            "tune",
            lambda out: [
                *("tune", "--arm", "resnet18-slim", "--recipe", recipe, "--dataset", images, "--epochs", 2),
                *("--trials", 3, *EXACTLY, "--out", out),
            ],
        ),
        Command("nerf poses", lambda out: ["nerf", "poses", material.photos, "--out", out], again=(), exact=False),
        nerf_train(material),
        Command(
            "nerf render",
            lambda out: [
                *("nerf", "render", material.field, "--frames", 24, "--size", "48x36", *ON_CPU),
                *("--out", out.with_suffix(".mp4")),
            ],
            again=(),
        ),
        Command(
            "nerf export",
            lambda out: [
                *("nerf", "export", material.field, "--what", "cloud", *ON_CPU, "--out", out.with_suffix(".ply")),
            ],
            again=(),
        ),
    )
    on_disk = Command(
        "ssl pretrain (images on disk)",
        lambda out: [
            *("ssl", "pretrain", "--dataset", f"folder:{material.pictures}", *slim, "--batch-size", 16, "--epochs", 4),
            *(*EXACTLY, "--out", out),
        ],
        tweaks={"resident_bytes": 0},
    )
    fetching = Command(
        "ssl probe (shards from a server)",
        lambda out: [
            *("ssl", "probe", "--features", "random", *slim),
            *("--dataset", f"wds:{server.url}/images-{{000000..000000}}.tar"),
            *(*ON_CPU, "--no-cache", "--data-root", out.with_name("data"), "--out", out),
        ],
        server=server,
    )
    made = (*made, on_disk) if server is None else (*made, on_disk, fetching)
    return {command.name: command for command in made}
