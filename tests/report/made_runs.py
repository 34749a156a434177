"""Runs of each kind as their engines leave them, made up in an instant."""

import base64
import io
import json

import numpy as np
from PIL import Image

from nndl_suite.report.turning import TURN_COLUMNS, TURN_FRAMES
from nndl_suite.training.files import write_json
from nndl_suite.training.predictions import Predictions, write_predictions
from nndl_suite.training.runs import open_run

CLASSES = ("cat", "dog", "eel")

_CLASSES = len(CLASSES)


def probe(root, name="probe", accuracy=0.5512):
    run = open_run(root / name, kind="probe", settings={"grid": {"l2": [1e-4, 1e-3]}}, resume=False)
    fields = {
        "protocol": "linear",
        "features": "imagenet",
        "dataset": "cifar100",
        "test_accuracy": accuracy,
        "test_accuracy_ci95": [accuracy - 0.01, accuracy + 0.01],
        "val_accuracy": 0.56,
        "chosen": {"l2": 0.001},
        "feature_dim": 512,
        "resolution": 32,
        "test_images": 60,
        "class_names": list(CLASSES),
    }
    predictions(run.path)
    embedding(run.path, "imagenet", labels=True)
    neighbours(run.path, labels=True)
    run.finish("probe", seconds=81, seed=3, fields=fields)
    return run.path


def pretrain(root, name="simclr", *, finished=True):
    run = open_run(root / name, kind="pretrain", settings={"method": "simclr"}, resume=False)
    for step in range(1, 1001):
        looked = {"knn_accuracy": step / 2000, "effective_rank": 10 + step / 50} if step % 100 == 0 else {}
        run.log({"step": step, "seconds": step * 0.1, "loss": 6 / step, **looked})
    fields = {
        "method": "simclr",
        "epochs": 100,
        "images_per_second": 11873.2,
        "final_loss": 4.2123,
        "effective_rank": 212.3,
        "checkpoint": "weights.safetensors",
    }
    embedding(run.path, "simclr", labels=False)
    neighbours(run.path, labels=False)
    if finished:
        run.finish("pretrain", seconds=4210, seed=0, fields=fields)
    return run.path


def measure(mean, by_seed):
    interval = None if len(by_seed) == 1 else [mean - 0.01, mean + 0.01]
    return {"by_seed": [mean] * len(by_seed), "mean": mean, "ci95": interval}


def measures(mean, seeds):
    figures = {"top5": mean + 0.2, "ece": 0.0517, "nll": 1.234, "train_accuracy": 0.99, "gap": 0.28, "corrupted": 0.6}
    return {name: measure(value, seeds) for name, value in figures.items()}


def arm(name, mean, seeds):
    return {
        "name": name,
        "parameters": 11_220_132,
        "flops": 1_110_937_600,
        "seeds": list(seeds),
        "test_accuracy": [mean] * len(seeds),
        "mean": mean,
        "ci95": [mean - 0.01, mean + 0.01],
        "best_epoch": None,
        "seconds": 700.0,
        "images_per_second": 6012.0,
        "chosen": {"rate": 0.001, "decay": 0.05},
        "measures": measures(mean, seeds),
        "corruptions": {"noise": 0.5, "blur": 0.7},
        "per_class": [mean, mean, None],
        "per_superclass": {},
        "curve": {
            "epochs": [1, 2, 3],
            "flops": [1e15, 2e15, 3e15],
            "seconds": [300.0, 600.0, 900.0],
            "val_accuracy": [0.3, 0.6, mean],
        },
    }


def comparison(root, *, seeds=(0, 1), ci95=(-0.01, 0.05), finished=True, superclasses=None, failed=False):
    run = open_run(
        root / "cmp",
        kind="comparison",
        settings={"recipe": {"batch_size": 256}, "arms": {"resnet18": "", "vit": ""}},
        resume=False,
    )
    arms = []
    for name, mean in (("resnet18", 0.71), ("vit", 0.73)):
        for seed in seeds:
            folder = open_run(run.path / "arms" / f"{name}-seed{seed}", kind="arm", settings={}, resume=False)
            predictions(folder.path, seed=seed)
            for epoch in range(1, 6):
                folder.log({"step": epoch * 10 - 5, "seconds": epoch, "loss": 4 / epoch})
                folder.log(
                    {"step": epoch * 10, "seconds": epoch, "loss": 4 / epoch, "epoch": epoch, "val_accuracy": 0.1}
                )
        arms.append(arm(name, mean, seeds))
    difference = {
        "mean": 0.02,
        "ci95": None if ci95 is None else list(ci95),
        "measures": measures(0.02, seeds),
        "per_class": [measure(0.03, seeds), measure(-0.01, seeds), None],
        "per_superclass": {name: measure(value, seeds) for name, value in (superclasses or {}).items()},
    }
    crossing = {"epochs": {"leader": "vit", "at": 2.5, "val_accuracy": 0.65}, "flops": None, "seconds": None}
    failures = []
    if failed:
        arms[0] = {**arms[0], "seeds": [], "mean": None, "ci95": None, "seconds": None, "images_per_second": None}
        difference, crossing = None, {}
        failures = [{"arm": "resnet18", "seed": 0, "reason": "resnet18, seed 0: loss is nan at <step> 40"}]
    if finished:
        fields = {
            "arms": arms,
            "difference": difference,
            "crossing": crossing,
            "sentence": {"may": "On set, no difference is shown.", "may_not": "This does not say <more>."},
            "failures": failures,
            "learning_curve": [],
            "tuning": None,
            "class_names": list(CLASSES),
            "recipe": {"batch_size": 256},
        }
        run.finish("comparison", seconds=2800, seed=0, fields=fields)
    return run.path


def nerf(root, *, whole=True):
    run = open_run(root / "can", kind="nerf", settings={"capture": "photos/<script>alert(1)</script>"}, resume=False)
    names = [f"images/{i:03d}.jpg" for i in range(10)]
    fields = {
        "test": {
            "psnr": 25.7,
            "ssim": 0.83,
            "lpips": None,
            "per_image": [{"name": n, "psnr": 20.0 + i, "ssim": 0.8, "lpips": None} for i, n in enumerate(names)],
        },
        "lpips_missing": "no SqueezeNet weights found in here",
        "train": {"psnr": 28.9, "ssim": 0.91, "names": names[1:4]},
        "gap": {"psnr": 3.2, "ssim": 0.08},
        "photo_size": [1080, 1920],
        "max_side": 640,
        "error_scale": 0.25,
        "train_images": 56,
        "test_images": 10,
        "resolution": [360, 640],
        "steps": 20_000,
        "train_seconds": 600.0,
        "render_seconds_per_frame": 0.31,
        "poses": {"registered": 66, "total": 67, "mean_reprojection_error": 0.83, "notes": ["3 of <66> doubted"]},
        "note": "the held-out photos took part in the joint solve",
    }
    run.finish("nerf", seconds=700, seed=0, fields=fields)
    if whole:
        (run.path / "views").mkdir()
        for i in range(10):
            for kind in ("photo", "render", "error"):
                Image.new("RGB", (80, 60), (25 * i, 0, 0)).save(run.path / "views" / f"{i:03d}-{kind}.jpg")
        turn(run.path)
        write_scene(run.path / "scene.json")
    return run.path


def write_scene(file, **changes):
    rng = np.random.default_rng(0)
    cameras = [
        {"name": "a", "center": [0, -2, 0], "forward": [0, 1, 0], "up": [0, 0, 1], "test": False},
        {"name": "b", "center": [4, 0, 0], "forward": [-1, 0, 0], "up": [0, 0, 1], "test": True},
    ]
    points = {"xyz": rng.normal(size=(50, 3)).tolist(), "rgb": rng.integers(0, 256, (50, 3)).tolist()}
    scene = {"cameras": cameras, "points": points, "up": [0, 0, 1], "center": [0, 0, 0]} | changes
    file.write_text(json.dumps(scene))


def predictions(folder, seed=0, classes=_CLASSES, images=60):
    """Of so many test images, two thirds right."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    guessed = np.where(rng.random(images) < 2 / 3, labels, rng.integers(0, classes, images))
    write_predictions(folder, Predictions(predicted=guessed, labels=labels))


def embedding(folder, name, *, labels, classes=_CLASSES):
    """Two hundred places in a plane."""
    xy = np.random.default_rng(0).normal(size=(200, 2)).round(4).tolist()
    content = {
        "method": "first two principal components",
        "of": "test images" if labels else "training images",
        "labels": [i % classes for i in range(200)] if labels else [],
        "maps": [{"name": name, "explained": [0.25, 0.125], "xy": xy}],
    }
    write_json(folder / "embedding.json", content)


def neighbours(folder, *, labels):
    """Eight images and five near each, two of these of another class."""

    def image(shade, label):
        content = io.BytesIO()
        Image.new("RGB", (32, 32), (shade, 90, 200 - shade // 2)).save(content, format="JPEG")
        uri = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
        return {"image": uri, "label": CLASSES[label % 3] if labels else None}

    queries = [
        {
            **image(25 * i, i),
            "neighbours": [{**image(20 * j, i + (j > 2)), "similarity": 0.9 - 0.1 * j} for j in range(5)],
        }
        for i in range(8)
    ]
    write_json(folder / "neighbours.json", {"how": "cosine of features, among 900 images", "queries": queries})


def turn(folder):
    """A turn whose frames differ: each has a shade of its own."""
    size = (TURN_COLUMNS, TURN_FRAMES // TURN_COLUMNS)
    shades = np.arange(TURN_FRAMES, dtype=np.uint8).reshape(size[1], size[0]) * 7
    frames = np.repeat(np.repeat(shades, 30, axis=0), 40, axis=1)
    Image.fromarray(np.stack([frames, 255 - frames, frames], axis=-1)).save(folder / "turn.jpg", quality=95)
