"""A script whose processes share trainings: `python many_processes.py WORLD FOLDER TRAINING...`.

It starts its own other processes, as any plain script does. What each training ends with lies in its newest checkpoint
under `FOLDER/TRAINING`. `TRAINING=dies-before-K` lets the last process kill itself before step K, and
`TRAINING=stops-before-K` lets it be asked to stop.
"""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nndl_suite.comparison.architectures import resolve_arm
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import training_splits
from nndl_suite.data.image_set import FileImages, ImageSet, file_set, resident_set
from nndl_suite.errors import Interrupted, NndlError
from nndl_suite.nerf import trainer
from nndl_suite.nerf.field import FieldSettings
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.representation import pretrainer
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.training import processes
from nndl_suite.training.environment import Spread
from nndl_suite.training.fabric import join_fabric
from nndl_suite.training.files import write_json
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import open_run

BATCH, STEPS, SIZE = 24, 3, 8
RATE = 3e-3  # rounding grows from step to step: these images say nothing, and a norm of noise is a hard one


def images(n=101, seed=0):
    """101: no number of processes divides it."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return resident_set("made", pixels, torch.arange(n) % 5, tuple("abcde"))


def on_disk(folder: Path) -> ImageSet:
    return file_set("made", FileImages(tuple(sorted(folder.glob("*.png"))), SIZE), None, ())


def pretrain(method: str, world: int, out: Path, given: ImageSet | None = None, **settings) -> None:
    asked = {"steps": STEPS, "batch_size": BATCH, "projector_dim": 16, "learning_rate": RATE, "warmup": 0.0}
    if method == "supervised":
        del asked["projector_dim"]
    common = {"backbone": "resnet18-slim", "device": "cpu", "precision": "32-true", "devices": world, "workers": 1}
    SSLPretrainer(method=method, **common, **{**asked, **settings}).fit(given or images(), out=out, resume=True)


def arm(name: str, world: int, out: Path) -> None:
    """CutMix, a running mean of the weights, RandAugment, erasing and clipping together."""
    recipe = Recipe(
        optimiser="sgd",
        rates=Rates(rate=1e-3, decay=0.01),
        batch_size=BATCH,
        warmup=0.0,
        clip_norm=1.0,
        ema_decay=0.9,
        crop_padding=1,
        randaugment_operations=1,
        erasing_probability=0.5,
        cutmix_probability=1.0,
        cutmix_variant="kornia",
    )
    fabric = join_fabric("cpu", "32-true", Spread(world))
    network = resolve_arm(name, cnn="resnet18-slim", num_classes=5, image_size=SIZE)
    splits = training_splits(images(), recipe)
    training = ArmTraining(network, recipe.rates, recipe, splits, seed=0, fabric=fabric)
    run = open_run(out, kind="arm", settings={}, resume=True)
    run_loop(training, LoopSettings(stage="arm", total_steps=STEPS, log_every=1), run)
    accuracy, loss = training.score(images(seed=1))
    processes.from_first(lambda: write_json(out / "scores.json", {"accuracy": accuracy, "loss": loss}))


def field(world: int, out: Path) -> None:
    """A ring of photos of noise, whose cameras may move."""
    join_fabric("cpu", "32-true", Spread(world))
    trainer.WARMUP_STEPS = 0
    small = FieldSettings(log2_rows=8, finest=32)
    settings = trainer.TrainSettings(samples_per_step=96 * 25, steps=STEPS, pose_rate=1e-3, field=small)
    run = open_run(out, kind="field", settings={}, resume=True)
    run_loop(trainer.FieldTrainer(ring(), settings), LoopSettings(stage="field", total_steps=STEPS), run)


def ring(count: int = 5, side: int = 12) -> PosedPhotos:
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    poses = np.zeros((count, 3, 4), np.float32)
    for pose, angle in zip(poses, angles, strict=True):
        ahead = -np.array([np.cos(angle), np.sin(angle), 0])
        pose[:] = np.stack([np.cross(ahead, [0, 0, 1]), [0, 0, -1], ahead, -ahead], axis=1)
    u, v = np.meshgrid(*[(np.arange(side) + 0.5) / side - 0.5] * 2)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    n = side * side
    return PosedPhotos(
        names=tuple("abcde"[:count]),
        sizes=((side, side),) * count,
        pixels=random.integers(0, 256, (count * n, 3), dtype=np.uint8),
        starts=np.arange(count + 1) * n,
        camera_of=np.zeros(count, np.int64),
        directions=(rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32),
        direction_starts=np.array([0, n]),
        field_from_camera=poses,
    )


def act_before(step: int, what: signal.Signals, world: int) -> None:
    """Let the last process send itself a signal before a step; checkpoints are written as often as they can be."""
    pretrainer.LoopSettings = partial(LoopSettings, checkpoint_seconds=0.0)
    before = pretrainer.Pretraining.step

    def deadly(self, index, fraction):
        if index == step and processes.rank() == world - 1:
            os.kill(os.getpid(), what)
        time.sleep(0.3)  # an agreement at every step
        return before(self, index, fraction)

    pretrainer.Pretraining.step = deadly


def main(world: int, folder: Path, trainings: list[str]) -> None:
    for training in trainings:
        name, _, event = training.partition("=")
        out = folder / name
        if event:
            what, _, step = event.partition("-before-")
            act_before(int(step), {"dies": signal.SIGKILL, "stops": signal.SIGTERM}[what], world)
        if name == "field":
            field(world, out)
        elif name in ("resnet18-slim", "vit"):
            arm(name, world, out)
        elif name == "disk":
            pretrain("simclr", world, out, on_disk(folder / "images"))
        else:
            pretrain(name, world, out, online_probe="yes")


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except NndlError as error:
        if not error.told:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, Interrupted) else 1)
