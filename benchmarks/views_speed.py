"""Pairs of views a second, beside lightly's PIL transform in DataLoader workers; writes results/NAME.json.

    python benchmarks/views_speed.py [--dataset cifar100] [--size 32] [--blur 0] [--workers 2] [--seconds 10]

`ours` is what a training step gets: two normalised views of each of 256 images, on all cores. `one_thread` is the same
on one, `torch` the same draws rendered by torch's operations, which is the way on other devices. `lightly` is the
transform of its SimCLR example for small images with the same recipe, in worker processes, with nothing else to do.
`parts_seconds` takes a batch of ours apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from record import circumstances, save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import ImageSet, ResidentImages
from nndl_suite.models.normalisation import IMAGENET
from nndl_suite.representation.view_draws import draw_view
from nndl_suite.representation.view_kernel import render_on_cpu
from nndl_suite.representation.views import ViewRecipe, random_views, render
from nndl_suite.training.seeds import generator_for

BATCH = 256


class _PilViews(Dataset):
    """Two PIL views of each image by lightly."""

    def __init__(self, pixels: Tensor, recipe: ViewRecipe) -> None:
        self._pixels = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self._transform = SimCLRTransform(
            input_size=pixels.shape[-1],
            cj_prob=recipe.jitter,
            cj_strength=0.5,  # of 0.8, 0.8, 0.8, 0.2
            min_scale=recipe.scale[0],
            random_gray_scale=recipe.grey,
            gaussian_blur=recipe.blur,
            sigmas=recipe.blur_sigma,
        )

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self._transform(Image.fromarray(self._pixels[index]))


def rate(step: Callable[[], object], seconds: float, *, warmup: int = 3) -> float:
    """Pairs a second of a step that makes `BATCH` of them."""
    for _ in range(warmup):
        step()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or done < 3:
        step()
        done += 1
    return BATCH * done / (time.perf_counter() - start)


def forever(loader: DataLoader) -> Iterator[list[Tensor]]:
    """Its batches, epoch after epoch."""
    while True:
        yield from loader


def lightly(pixels: Tensor, recipe: ViewRecipe, workers: int, seconds: float) -> float:
    """The rate of lightly's views; the workers are running when the clock starts, and their queues are full."""
    loader = DataLoader(
        _PilViews(pixels, recipe),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    batches = forever(loader)
    return rate(lambda: next(batches), seconds, warmup=2 * workers + 1)


def by_torch(images: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> list[Tensor]:
    """Two views of each image as on devices other than the CPU."""
    pixels = images.to(torch.float32).div_(255)
    views = [render(pixels, draw_view(len(images), images.shape[-1], recipe, generator)) for _ in range(2)]
    return [IMAGENET(view).contiguous(memory_format=torch.channels_last) for view in views]


def parts(images: Tensor, recipe: ViewRecipe, repeats: int = 50) -> dict[str, float]:
    """Median seconds of what makes two views of a batch."""
    size = images.shape[-1]
    taken: dict[str, list[float]] = {"draws": [], "kernel": [], "normalisation": []}
    for index in range(repeats):
        generator = generator_for(0, "parts", index)
        marks = [time.perf_counter()]
        draws = [draw_view(len(images), size, recipe, generator) for _ in range(2)]
        marks.append(time.perf_counter())
        views = images.new_empty((2, len(images), size, size, 3), dtype=torch.float32).permute(0, 1, 4, 2, 3)
        for view, drawn in zip(views, draws, strict=True):
            render_on_cpu(images, drawn, view)
        marks.append(time.perf_counter())
        IMAGENET(views.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        marks.append(time.perf_counter())
        for name, start, end in zip(taken, marks[:-1], marks[1:], strict=True):
            taken[name].append(end - start)
    return {name: sorted(seconds)[repeats // 2] for name, seconds in taken.items()}


def resident(images: ImageSet) -> Tensor:
    """Its pixels [n, 3, s, s]."""
    if not isinstance(images.store, ResidentImages):
        raise SystemExit("the set is too large to be kept in memory; choose another one or a smaller size")
    return images.store.pixels


def main() -> None:
    """Measure one after the other, ours first and last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--size", type=int, help="pixels; else the set's own")
    parser.add_argument("--blur", type=float, default=0.0, help="its probability")
    parser.add_argument("--workers", type=int, default=2, help="of lightly's")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--name", default="views_speed")
    args = parser.parse_args()
    start = circumstances()
    pixels = resident(load_image_set(args.dataset, "train", data_root=args.data_root, image_size=args.size))
    images, recipe = pixels[:BATCH], ViewRecipe(blur=args.blur)
    generator = generator_for(0, "views")

    def ours() -> Tensor:
        views = random_views(images, (recipe, recipe), generator=generator)
        return IMAGENET(views.flatten(0, 1)).contiguous(memory_format=torch.channels_last)

    threads = torch.get_num_threads()
    results: dict[str, float] = {"ours": rate(ours, args.seconds)}
    results["lightly"] = lightly(pixels, recipe, args.workers, args.seconds)
    results["torch"] = rate(lambda: by_torch(images, recipe, generator), args.seconds)
    torch.set_num_threads(1)
    results["one_thread"] = rate(ours, args.seconds)
    torch.set_num_threads(threads)
    results["ours_again"] = rate(ours, args.seconds)  # whether the machine stayed the same
    results["ours_of_lightly"] = results["ours"] / results["lightly"]
    results["ours_of_torch"] = results["ours"] / results["torch"]
    taken = parts(images, recipe)
    print(
        {name: round(value, 1) for name, value in results.items()}, {k: f"{1e3 * v:.2f} ms" for k, v in taken.items()}
    )
    peers = {name: version(name) for name in ("lightly", "torchvision", "pillow")}
    settings = {
        "peers": peers,
        "size": int(images.shape[-1]),
        "batch": BATCH,
        "workers": args.workers,
        "blur": args.blur,
    }
    print(save(args.name, start, {**settings, "pairs_per_second": {**results}, "parts_seconds": {**taken}}, args.out))


if __name__ == "__main__":
    main()
