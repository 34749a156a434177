"""Shards of many small images: complete, in the same order by any number of workers, how fast; results/NAME.json.

    python benchmarks/shards_speed.py [--images 100000] [--size 32] [--shard-mib 16] [--workers 1 3] [--batch 250]

Makes JPEGs of seeded noise over gradients in ten class folders and writes them as shards. Each measurement is a process
of its own. `opening` is the time to the image set and the most memory of the process, `walked` without indexes beside
the shards and `indexed` with them. `reading` is an epoch of shuffled batches decoded by DataLoader workers, first with
nothing in the system's cache (`cold`), then again (`warm`): every image must come once, be the pixels that the folder
has at its index, and come in the order that the other numbers of workers give. `resumed` is a new process that begins
in the middle of the epoch and must see what the others saw from there. `disk` is plain reading with no decoding: all
shards from end to end in blocks of 1 MiB, and the image files one by one in a shuffled order (the system may read
ahead). `decode` is one process that decodes image files that are in memory, the ceiling of a worker.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import MIB, circumstances, peak_bytes, save
from torch import Tensor

from nndl_suite.data import folders, shards
from nndl_suite.data.batches import Batches, in_order
from nndl_suite.data.image_set import ImageSet, decode
from nndl_suite.data.shard_index import index_file
from nndl_suite.data.write_shards import write_shards
from nndl_suite.training.files import Json
from nndl_suite.training.watch import ignore

CLASSES = 10
BLOCK = 1000


def make_images(folder: Path, count: int, size: int) -> None:
    """`count` JPEGs, no two alike, in class folders."""
    ramp = np.linspace(0, 160, size)[None, :, None, None] + np.linspace(0, 60, size)[None, None, :, None]
    for name in range(CLASSES):
        (folder / f"class-{name}").mkdir(parents=True)
    for first in range(0, count, BLOCK):
        rng = np.random.default_rng(first)
        blobs = rng.integers(0, 96, (BLOCK, size // 4, size // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
        pixels = (np.roll(ramp, first // BLOCK, axis=1) + blobs).clip(0, 255).astype(np.uint8)
        for i, image in enumerate(pixels[: count - first], start=first):
            Image.fromarray(image).save(folder / f"class-{i % CLASSES}" / f"{i:07d}.jpg", quality=90)


def evict(files: list[Path]) -> None:
    """Take files out of the system's cache (Linux)."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def prints(images: Tensor) -> Tensor:
    """One number an image: equal pixels, equal number [b]."""
    weights = torch.from_numpy(np.random.default_rng(0).integers(1, 2**40, images[0].numel()))
    rows = images.flatten(1).split(10)  # the C library keeps freed blocks of megabytes, and memory is measured here
    return torch.cat([(few.long() * weights).sum(1) for few in rows])


def streamed(place: Path) -> ImageSet:
    """All images of shards, never kept in memory."""
    shards.RESIDENT_BYTES = folders.RESIDENT_BYTES = 0
    return shards.read_tars(f"wds:{place}", shards.find_shards(place), place / "classes.txt", None, ignore)


def opening(place: Path) -> dict[str, Json]:
    """Seconds to the image set, and memory."""
    before, start = peak_bytes(), time.perf_counter()
    images = streamed(place)
    seconds = time.perf_counter() - start
    return {"images": len(images), "seconds": seconds, "peak_mib_added": (peak_bytes() - before) / MIB}


def reading(place: Path, workers: int, batch: int, first: int, known: Path) -> dict[str, Json]:
    """An epoch from step `first` on: images a second, whether each came once and is right, and the order's digest."""
    images = streamed(place)
    batches = Batches(images, batch_size=batch, seed=0, workers=workers)
    middle, wanted = len(batches) // 2, torch.load(known)
    whole, half = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
    seen, right = torch.zeros(len(images), dtype=torch.int32), True
    started = time.perf_counter()
    for step in range(first, len(batches)):
        found = batches.at(step)
        if step == first:
            beginning = time.perf_counter()
        told = prints(found.images)
        right = right and torch.equal(told, wanted[found.indices])
        seen[found.indices] += 1
        whole.update(told.numpy().tobytes())
        if step >= middle:
            half.update(told.numpy().tobytes())
    ended, mean_bytes = time.perf_counter(), float(images.store.lengths.double().mean())
    return {
        "images": int(seen.sum()),
        "each_once": bool((seen == 1).all()) if first == 0 else int(seen.max()) == 1,
        "pixels_are_the_folders": right,
        "seconds_to_first_batch": beginning - started,
        "images_per_second": (len(batches) - first - 1) * batch / (ended - beginning),
        "mb_per_second": mean_bytes * (len(batches) - first - 1) * batch / (ended - beginning) / 1e6,
        "peak_mib": peak_bytes() / MIB,
        "order_digest": whole.hexdigest(),
        "second_half_digest": half.hexdigest(),
    }


def disk(place: Path) -> dict[str, Json]:
    """Plain reading: MB/s end to end, images a second one by one, each cold and warm."""
    images = streamed(place)
    store, tars = images.store, shards.find_shards(place)
    order = torch.randperm(len(store), generator=torch.Generator().manual_seed(0)).tolist()
    places = list(zip(store.numbers.tolist(), store.starts.tolist(), store.lengths.tolist(), strict=True))
    total, image_bytes = sum(tar.stat().st_size for tar in tars), int(store.lengths.sum())
    found: dict[str, Json] = {"bytes": total, "image_bytes": image_bytes}
    for state in ("cold", "warm"):
        if state == "cold":
            evict(tars)
        start = time.perf_counter()
        for tar in tars:
            with tar.open("rb", buffering=0) as stream:
                while stream.read(MIB):
                    pass
        found[f"sequential_{state}_mb_per_second"] = total / (time.perf_counter() - start) / 1e6
    handles = [os.open(tar, os.O_RDONLY) for tar in tars]
    for state in ("cold", "warm"):
        if state == "cold":
            evict(tars)
        start = time.perf_counter()
        for i in order:
            number, begin, length = places[i]
            os.pread(handles[number], length, begin)
        found[f"random_{state}_images_per_second"] = len(order) / (time.perf_counter() - start)
    return found


def decode_rate(place: Path) -> dict[str, Json]:
    """Images a second of one process from memory."""
    store = streamed(place).store
    contents: list[bytes] = []
    for i in range(min(len(store), 5000)):
        with store.shards[store.numbers[i]].open("rb") as stream:
            stream.seek(int(store.starts[i]))
            contents.append(stream.read(int(store.lengths[i])))
    start = time.perf_counter()
    for content in contents:
        decode(BytesIO(content), store.image_size)
    return {"images_per_second": len(contents) / (time.perf_counter() - start)}


def measured(*words: object) -> dict[str, Json]:
    """What this program finds in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(args: argparse.Namespace, work: Path) -> dict[str, Json]:
    """Everything, one after the other."""
    source, place, known = work / "images", work / "shards", work / "known.pt"
    make_images(source, args.images, args.size)
    start = time.perf_counter()
    written = write_shards(source, place, shard_mib=args.shard_mib)
    seconds = time.perf_counter() - start
    folders.RESIDENT_BYTES = 0
    as_folder = folders.read_labelled("folder", source, None, ignore)
    told = torch.cat([prints(batch.images) for batch in in_order(as_folder, batch_size=500, workers=2)])
    torch.save(told, known)
    indexes = [index_file(tar) for tar in written.shards]
    found: dict[str, Json] = {
        "settings": {"images": args.images, "size": args.size, "shard_mib": args.shard_mib, "batch": args.batch},
        "writing": {"seconds": seconds, "images_per_second": written.images / seconds, "shards": len(written.shards)},
        "different_images": len(told.unique()),
        "index_bytes_per_image": sum(file.stat().st_size for file in indexes) / args.images,
    }
    evict([*written.shards, *indexes])
    opened: dict[str, Json] = {"indexed_cold": measured("--opening", place), "indexed": measured("--opening", place)}
    for file in indexes:
        file.rename(file.with_name(f"{file.name}.aside"))
    evict(list(written.shards))
    opened |= {"walked_cold": measured("--opening", place), "walked": measured("--opening", place)}
    for file in indexes:
        file.with_name(f"{file.name}.aside").rename(file)
    found["opening"] = opened
    read: dict[str, Json] = {}
    for workers in args.workers:
        evict(list(written.shards))
        for state in ("cold", "warm"):
            read[f"workers_{workers}_{state}"] = measured("--reading", place, known, workers, args.batch, 0)
    middle = args.images // args.batch // 2
    read["resumed"] = measured("--reading", place, known, max(args.workers), args.batch, middle)
    found["reading"] = read
    found["same_order"] = len({one["order_digest"] for name, one in read.items() if name != "resumed"}) == 1
    found["resumed_as_undisturbed"] = len({one["second_half_digest"] for one in read.values()}) == 1
    found["disk"], found["decode"] = measured("--disk", place), measured("--decode", place)
    return found


def main() -> None:
    """Measure; or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--shard-mib", type=int, default=16)
    parser.add_argument("--batch", type=int, default=250, help="divides the images, so that an epoch has them all")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--work", type=Path, help="where images and shards go; a temporary folder unless given")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="shards_speed")
    for part in ("opening", "disk", "decode"):
        parser.add_argument(f"--{part}", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reading", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.opening:
        print(json.dumps(opening(args.opening)))
    elif args.disk:
        print(json.dumps(disk(args.disk)))
    elif args.decode:
        print(json.dumps(decode_rate(args.decode)))
    elif args.reading:
        place, known, workers, batch, first = args.reading
        print(json.dumps(reading(Path(place), int(workers), int(batch), int(first), Path(known))))
    else:
        start = circumstances()
        work = Path(tempfile.mkdtemp(dir=args.work))
        try:
            found = measure(args, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        print(json.dumps(found, indent=2))
        print(save(args.name, start, found, args.out))


if __name__ == "__main__":
    main()
