"""One short window of training steps in a process of its own; prints one JSON object.

    python benchmarks/compare_window.py ours|bare|plain-2|plain-0 --arm resnet18 [--batch 256] [--seconds 20]

`ours` is what `nndl-suite compare` runs between two validations: batches of resident images, crop, flip, CutMix, the
step, the metrics log, in the precision that "auto" takes. `bare` is forward, backward and optimiser of the same network
on one batch that is ready, in the same precision, optimiser and memory format. `plain-N` is the loop that most first
projects have: PIL images through torchvision's transforms in N DataLoader workers (0: in the loop itself), float32,
contiguous, SGD, and the loss asked for after each step.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from nndl_suite.comparison.architectures import Architecture, resolve_arms
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.optimisers import make_optimiser
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.splits import Splits
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import ImageSet, ResidentImages, resident_set
from nndl_suite.errors import DataError
from nndl_suite.models.normalisation import measure_normalisation
from nndl_suite.training.checkpoints import Checkpoint, save_checkpoint
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import open_run
from nndl_suite.training.seeds import isolated_rng

KINDS = ("ours", "bare", "plain-2", "plain-0")
ARMS = ("resnet18", "resnet18-1m", "vit", "vit-1m")
WARM_STEPS, LEAST_STEPS = 3, 3
SEED = 0


def child(kind: str, *, arm: str, batch: int, seconds: float, data: str) -> dict:
    """Run this file in a new process, and return what it printed."""
    words = [sys.executable, __file__, kind, "--arm", arm, "--batch", str(batch), "--seconds", str(seconds)]
    done = subprocess.run([*words, "--data", data], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def architecture(arm: str, images: ImageSet) -> Architecture:
    """One of `ARMS`: a CNN, or the ViT that is as large as `resnet18` or `resnet18-1m`."""
    cnn = "resnet18-1m" if arm.endswith("-1m") else "resnet18"
    arms = resolve_arms(cnn, "vit", num_classes=images.num_classes, image_size=images.image_size)
    return arms[arm.startswith("vit")]


def load(data: str) -> ImageSet:
    """The training images of a data name; random ones of CIFAR-100's shape for "random", or where the set is not there.

    The seconds of a step do not depend on what is in the pictures.
    """
    if data != "random":
        try:
            return load_image_set(data, "train")
        except DataError as error:
            print(f"random images instead of {data}: {error}", file=sys.stderr)
    generator = torch.Generator().manual_seed(SEED)
    pixels = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return resident_set("random", pixels, torch.arange(50_000) % 100, [str(label) for label in range(100)])


def timed(step: Callable[[], object], batch: int, seconds: float) -> dict:
    """Steps until the window is over, after a few that warm up."""
    for _ in range(WARM_STEPS):
        step()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or done < LEAST_STEPS:
        step()
        done += 1
    return found(done, time.perf_counter() - start, batch)


def found(steps: int, seconds: float, batch: int) -> dict:
    """A window as it is reported."""
    return {"images_per_second": batch * steps / seconds, "steps": steps, "seconds": seconds}


def ours(arm: Architecture, images: ImageSet, recipe: Recipe, seconds: float) -> dict:
    """The package's loop with its log; what one of its checkpoints costs is said apart."""
    fabric = make_fabric()
    splits = Splits(train=images, val=images, test=images, normalisation=measure_normalisation(images))
    training = ArmTraining(arm, recipe.rates, recipe, splits, seed=SEED, fabric=fabric)
    for index in range(WARM_STEPS):
        start = time.perf_counter()
        training.step(index, 0.5)
    steps = max(LEAST_STEPS, math.ceil(seconds / (time.perf_counter() - start)))
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", kind="arm", settings={}, resume=False)
        loop = LoopSettings(
            stage="timing", total_steps=steps, steps_per_epoch=len(training.batches), checkpoint_seconds=math.inf
        )
        spent = run_loop(training, loop, run)
        start = time.perf_counter()
        save_checkpoint(run.checkpoints, Checkpoint(step=steps, seconds=spent.seconds, state=training.state()))
        saving = time.perf_counter() - start
    result = found(spent.steps, spent.seconds, recipe.batch_size)
    return result | {"precision": str(fabric.strategy.precision.precision), "checkpoint_seconds": saving}


def bare(arm: Architecture, images: ImageSet, recipe: Recipe, seconds: float) -> dict:
    """Forward, backward and optimiser, and nothing else."""
    fabric = make_fabric()
    step = bare_step(arm, images, recipe, fabric)
    return timed(step, recipe.batch_size, seconds) | {"precision": str(fabric.strategy.precision.precision)}


def bare_step(arm: Architecture, images: ImageSet, recipe: Recipe, fabric: Fabric) -> Callable[[], object]:
    """A step on one batch of noise that is ready on the device."""
    device, size, layout = fabric.device, images.image_size, torch.channels_last
    with isolated_rng(SEED):
        network = arm.build().to(device, memory_format=layout)
        batch = torch.randn(recipe.batch_size, 3, size, size).to(device, memory_format=layout)
        labels = torch.randint(images.num_classes, (recipe.batch_size,)).to(device)
    if recipe.compile:
        network.compile()
    optimiser = make_optimiser(network, recipe.optimiser, recipe.rates)

    def step() -> None:
        with fabric.autocast():
            logits = network(batch)
        optimiser.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimiser.step()

    return step


class _PilImages(Dataset):
    """Image and label, the image through a transform."""

    def __init__(self, pixels: np.ndarray, labels: list[int], transform: Callable) -> None:
        self._pixels, self._labels, self._transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


def plain(arm: Architecture, images: ImageSet, recipe: Recipe, workers: int, seconds: float) -> dict:
    """The loop of most first projects."""
    assert isinstance(images.store, ResidentImages)
    scale = measure_normalisation(images)
    transform = transforms.Compose(
        [
            transforms.RandomCrop(images.image_size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(scale.mean, scale.std),
        ]
    )
    pixels = images.store.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    pictures = _PilImages(pixels, images.required_labels().tolist(), transform)
    loader = DataLoader(pictures, batch_size=recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    batches = chain.from_iterable(repeat(loader))
    network = arm.build()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def step() -> float:
        inputs, labels = next(batches)
        optimiser.zero_grad()
        loss = criterion(network(inputs), labels)
        loss.backward()
        optimiser.step()
        return loss.item()

    return timed(step, recipe.batch_size, seconds) | {"precision": "32-true"}


def main() -> None:
    """Measure one window and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--arm", choices=ARMS, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--data", default="cifar100")
    args = parser.parse_args()
    images, recipe = load(args.data), Recipe(batch_size=args.batch)
    arm = architecture(args.arm, images)
    if args.kind == "ours":
        result = ours(arm, images, recipe, args.seconds)
    elif args.kind == "bare":
        result = bare(arm, images, recipe, args.seconds)
    else:
        result = plain(arm, images, recipe, int(args.kind.removeprefix("plain-")), args.seconds)
    result |= {"network": arm.shape, "parameters": arm.parameters, "flops": arm.flops, "data": images.name}
    print(json.dumps(result | {"torch_threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
