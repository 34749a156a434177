"""SimCLR's steps beside bare ones and beside lightly's documented loop, one after the other; writes results/NAME.json.

    python benchmarks/pretrain_speed.py [--dataset cifar100] [--stems imagenet cifar] [--seconds 20]

Rates are images a second; each image gives two views. `ours` is the whole step of `nndl-suite ssl pretrain` (views,
data, logging), in the precision that it chooses. `bare` is forward, backward and optimiser of the same network on views
that are ready, in the same precision. `lightly` is the loop of its documentation: PIL views in two DataLoader workers,
float32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from record import circumstances, save
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from nndl_suite.data.batches import Batches
from nndl_suite.data.catalog import load_pretraining_set
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import measure_normalisation
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.pretrain_config import PretrainConfig
from nndl_suite.representation.pretraining import Pretraining
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import open_run
from nndl_suite.training.seeds import isolated_rng

BATCH = 256


def rate(step: Callable[[int], object], seconds: float, *, warmup: int = 2) -> float:
    """Images a second of steps of `BATCH` images."""
    for index in range(warmup):
        step(index)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or done < 3:
        step(warmup + done)
        done += 1
    return BATCH * done / (time.perf_counter() - start)


def pretraining(images: ImageSet, config: PretrainConfig) -> Pretraining:
    """What `SSLPretrainer.fit` trains."""
    fabric = make_fabric(config.device, config.precision)
    with isolated_rng(config.seed):
        backbone = build_backbone(config.backbone, stem=config.stem, image_size=images.image_size)
        method = METHODS[config.method].build(backbone, config.recipe, 0)
    batches = Batches(images, batch_size=config.batch_size, seed=config.seed, device=fabric.device)
    return Pretraining(config, method, batches, measure_normalisation(images), fabric)


def ours(images: ImageSet, config: PretrainConfig, seconds: float) -> float:
    """The rate of the training loop as it is, with its log."""
    learning = pretraining(images, config)
    timed = rate(lambda index: learning.step(index, 0.5), 1)  # how many steps the time is enough for
    steps = max(3, int(seconds * timed / BATCH))
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", kind="pretrain", settings={}, resume=False)
        loop = LoopSettings(stage="timing", total_steps=steps, checkpoint_seconds=1e9)
        start = time.perf_counter()
        run_loop(learning, loop, run)
        return BATCH * steps / (time.perf_counter() - start)


def bare_step(images: ImageSet, config: PretrainConfig) -> Callable[[int], object]:
    """A step of the same method on views that are ready on the device, under plain SGD."""
    fabric, layout = make_fabric(config.device, config.precision), torch.channels_last
    with isolated_rng(config.seed):
        backbone = build_backbone(config.backbone, stem=config.stem, image_size=images.image_size)
        method = METHODS[config.method].build(backbone, config.recipe, 0)
    method.to(fabric.device, memory_format=layout)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.06, momentum=0.9)
    size, pairs = images.image_size, (2, config.batch_size)
    views = torch.randn(2 * config.batch_size, 3, size, size).to(fabric.device, memory_format=layout)

    def step(_: int) -> None:
        with fabric.autocast():
            loss = method(views.unflatten(0, pairs), None, 0.5)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


class _PilViews(Dataset):
    """Two PIL views of each image, as lightly makes them for CIFAR."""

    def __init__(self, images: ImageSet) -> None:
        assert isinstance(images.store, ResidentImages)
        self._pixels = images.store.pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self._transform = SimCLRTransform(input_size=images.image_size, gaussian_blur=0.0)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return self._transform(Image.fromarray(self._pixels[index]))


def lightly(images: ImageSet, stem: str, seconds: float) -> float:
    """The rate of lightly's documented loop."""
    loader = DataLoader(_PilViews(images), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2)
    network = resnet18()
    if stem == "cifar":
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    network.fc = nn.Identity()
    head, criterion = SimCLRProjectionHead(512, 512, 128), NTXentLoss()
    optimiser = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.06)
    batches = cycle(loader)

    def step(_: int) -> None:
        loss = criterion(*[head(network(view)) for view in next(batches)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return rate(step, seconds)


def main() -> None:
    """Measure one stem after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--stems", nargs="+", choices=["imagenet", "cifar"], default=["imagenet", "cifar"])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--name", default="pretrain_speed")
    args = parser.parse_args()
    start = circumstances()
    images = load_pretraining_set(args.dataset, data_root=args.data_root)
    results = {}
    for stem in args.stems:
        config = PretrainConfig(stem=stem, batch_size=BATCH)
        found = {
            "precision": str(make_fabric(config.device, config.precision).strategy.precision.precision),
            "bare": rate(bare_step(images, config), args.seconds),
            "ours": ours(images, config, args.seconds),
            "lightly": lightly(images, stem, args.seconds),
            "bare_again": rate(bare_step(images, config), args.seconds),  # whether the machine stayed the same
        }
        found["ours_of_bare"] = found["ours"] / found["bare"]
        found["ours_of_lightly"] = found["ours"] / found["lightly"]
        print(stem, {name: value if isinstance(value, str) else round(value, 2) for name, value in found.items()})
        results[stem] = found
    print(save(args.name, start, results, args.out))


if __name__ == "__main__":
    main()
