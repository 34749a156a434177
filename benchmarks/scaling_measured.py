"""What the cost models of docs/scaling.md can be held against on one machine; writes results/NAME.json.

    python benchmarks/scaling_measured.py [--parts exchange step memory decode linear]

`exchange`: all-reduce and all-gather by 1, 2 and 4 gloo processes; seconds, and the bytes that the loopback interface
carried meanwhile (Linux; nothing else should talk over it). `step`: ResNet-18 under DistributedDataParallel, the global
batch shared by 1, 2 and 4 processes of one thread each. `memory`: what a set of shards holds in memory, its order of an
epoch and its split, from 10^5 to 10^8 images that are not there. `decode`: images a second of one core. `linear`: one
evaluation of the linear protocol's loss and gradient. `scaling_model.py` prints models and these figures side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import circumstances, peak_bytes, save
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from nndl_suite.data.batches import Batches
from nndl_suite.data.image_set import ImageSet, decode
from nndl_suite.data.shards import ShardImages
from nndl_suite.data.splits import stratified_split
from nndl_suite.training.files import Json

WORLDS = (1, 2, 4)
REDUCED = (4_000, 100_000, 1_048_576, 25_760_616, 44_880_528)
"""Bytes: one to a batch norm's statistics, the embeddings of 1024 views, and the gradients of field and ResNet-18."""
GATHERED = (524_288, 16_777_216)
"""Bytes of all processes together."""
BATCH = 32
IMAGES = (10**5, 10**6, 10**7, 10**8)


def loopback_bytes() -> int:
    """Bytes that went over the loopback interface since the machine started."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return next(int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:"))


def counted(work: Callable[[], object], repeats: int) -> dict[str, Json]:
    """Seconds and loopback bytes of one piece of work that all processes do."""
    work()
    distributed.barrier()
    time.sleep(0.1)
    before, start = loopback_bytes(), time.perf_counter()
    for _ in range(repeats):
        work()
    distributed.barrier()
    seconds = (time.perf_counter() - start) / repeats
    time.sleep(0.1)
    return {"seconds": seconds, "wire_bytes": (loopback_bytes() - before) / repeats}


def exchange() -> list[Json]:
    """Every collective of this number of processes."""
    world = distributed.get_world_size()
    found: list[Json] = []
    for size in REDUCED:
        tensor = torch.zeros(size // 4)
        found.append(
            {"what": "all_reduce", "bytes": size}
            | counted(lambda one=tensor: distributed.all_reduce(one), repeats(size))
        )
    for size in GATHERED:
        own = torch.zeros(size // 4 // world)
        parts = [torch.empty_like(own) for _ in range(world)]
        found.append(
            {"what": "all_gather", "bytes": size}
            | counted(lambda one=own, all_of=parts: distributed.all_gather(all_of, one), repeats(size))
        )
    return found


def repeats(size: int) -> int:
    """Enough to time something of this size."""
    return 100 if size < 10**6 else 10


def step() -> list[Json]:
    """Seconds of one training step of ResNet-18 at 32 pixels, and the bytes that it sends."""
    torch.manual_seed(0)
    network = resnet18(num_classes=100)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    shared: nn.Module = network
    if distributed.get_world_size() > 1:
        shared = nn.parallel.DistributedDataParallel(network)
    optimiser = torch.optim.SGD(shared.parameters(), lr=0.01)
    own = BATCH // distributed.get_world_size()
    images, labels = torch.rand(own, 3, 32, 32), torch.randint(100, (own,))

    def one() -> None:
        optimiser.zero_grad()
        F.cross_entropy(shared(images), labels).backward()
        optimiser.step()

    parameters = sum(weight.numel() for weight in network.parameters())
    return [{"batch": BATCH, "parameters": parameters} | counted(one, 4)]


def memory(count: int) -> dict[str, Json]:
    """Bytes and seconds of what a set of so many images needs before the first batch."""
    before = peak_bytes()
    store = ShardImages(
        shards=(Path("none.tar"),),
        numbers=torch.zeros(count, dtype=torch.int32),
        starts=torch.arange(count),
        lengths=torch.ones(count, dtype=torch.int32),
        image_size=32,
    )
    labels = torch.arange(count).remainder_(10)
    images = ImageSet(name="made", store=store, labels=labels, class_names=tuple("0123456789"), fingerprint="made")
    held = peak_bytes() - before
    start = time.perf_counter()
    batches = Batches(images, batch_size=256, seed=0)
    batches._indices(0)
    seconds_order, ordered = time.perf_counter() - start, peak_bytes() - before
    start = time.perf_counter()
    rest = batches._rest_of_epoch(0)
    seconds_rest, planned = time.perf_counter() - start, peak_bytes() - before
    assert len(rest) == count // 256
    found: dict[str, Json] = {
        "images": count,
        "index_bytes": held,
        "order_bytes": ordered - held,
        "order_seconds": seconds_order,
        "plan_bytes": planned - ordered,
        "plan_seconds": seconds_rest,
    }
    if count <= 10**7:
        del rest, batches
        start = time.perf_counter()
        stratified_split(labels, held_out=count // 5, seed=0)
        found |= {"split_seconds": time.perf_counter() - start, "split_peak_bytes": peak_bytes() - before}
    return found


def decoding() -> list[Json]:
    """Images a second of one core, small ones and photos."""
    found: list[Json] = []
    rng = np.random.default_rng(0)
    for (width, height), size in (((32, 32), 32), ((500, 375), 96), ((500, 375), 224)):
        rough = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 9, (height, width, 1))
        pixels = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, "jpeg", quality=90)
        content, count, start = stream.getvalue(), 0, time.perf_counter()
        while time.perf_counter() - start < 2:
            decode(BytesIO(content), size)
            count += 1
        seconds = (time.perf_counter() - start) / count
        found.append(
            {"from": f"{width} x {height}", "to": size, "file_bytes": len(content), "seconds_per_image": seconds}
        )
    return found


def linear() -> list[Json]:
    """Seconds of a loss and its gradient, 512 features and 100 classes, against the number of images."""
    found: list[Json] = []
    for count in (5_000, 10_000, 20_000, 40_000):
        features, labels = torch.randn(count, 512), torch.randint(100, (count,))
        weight = torch.zeros(100, 512)

        def one(x: Tensor = features, y: Tensor = labels, w: Tensor = weight) -> Tensor:
            shares = F.linear(x, w).softmax(dim=1)
            shares[torch.arange(len(y)), y] -= 1
            return shares.T @ x

        one()
        start = time.perf_counter()
        for _ in range(5):
            one()
        found.append({"images": count, "dim": 512, "classes": 100, "seconds": (time.perf_counter() - start) / 5})
    return found


def together(part: str, world: int) -> Json:
    """What `world` processes find of a part."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, "--member", part]
    others = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(1, world)]
    first = subprocess.run(command, env={**environment, "RANK": "0"}, stdout=subprocess.PIPE, text=True, check=True)
    assert all(other.wait() == 0 for other in others)
    return json.loads(first.stdout)


def alone(*words: object) -> Json:
    """What a process of its own finds, on one thread."""
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def member(part: str) -> None:
    """Be one of several processes."""
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    found = {"exchange": exchange, "step": step}[part]()
    if distributed.get_rank() == 0:
        print(json.dumps(found))
    distributed.destroy_process_group()


def main() -> None:
    """Measure; or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["exchange", "step", "memory", "decode", "linear"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="scaling")
    parser.add_argument("--member", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--alone", choices=("decode", "linear"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.member:
        member(args.member)
    elif args.memory:
        print(json.dumps(memory(args.memory)))
    elif args.alone:
        print(json.dumps({"decode": decoding, "linear": linear}[args.alone]()))
    else:
        start = circumstances()
        found: dict[str, Json] = {}
        for part in args.parts:
            if part in ("exchange", "step"):
                found[part] = {str(world): together(part, world) for world in WORLDS}
            elif part == "memory":
                found[part] = [alone("--memory", count) for count in IMAGES]
            else:
                found[part] = alone("--alone", part)
            print(part, json.dumps(found[part], indent=1), file=sys.stderr)
        print(save(args.name, start, found, args.out))


if __name__ == "__main__":
    main()
