"""Cost models of one to 1024 GPUs and 10^5 to 10^9 images: pure functions of stated assumptions.

What is assumed of machines is in `Cluster` and of the work in `Pretraining`, `Arm`, `Field`, `Probe` and `Pictures`,
each with where it comes from. Seconds are upper bounds in one respect: nothing is taken to overlap, though
DistributedDataParallel sends gradients while it makes others. `scaling_tables.py` prints what they say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOAT = 4
"""Bytes: gradients, embeddings and statistics are exchanged in float32."""
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Nodes of eight GPUs. Assumed, in the range of H100 nodes; none of it was measured here."""

    gpus_per_node: int = 8
    inner_rate: float = 360e9
    """Bytes/s that a collective moves a GPU within a node: 80 % of NVLink 4's 450e9 each way."""
    outer_rate: float = 45e9
    """Bytes/s between nodes a GPU: 90 % of 400 Gbit/s."""
    inner_hop: float = 5e-6
    """Seconds that a message takes at least, kernel launch included."""
    outer_hop: float = 15e-6
    gpu_bytes: float = 80e9
    node_bytes: float = 1e12
    """Main memory."""
    node_cores: int = 128
    node_disk_bytes: float = 15e12
    node_disk_rate: float = 6e9
    launch: float = 4e-3
    """Seconds that a step takes however few images it has: some thousand kernel launches."""

    def rate(self, gpus: int) -> float:
        """Of the slowest link between so many GPUs."""
        return self.inner_rate if gpus <= self.gpus_per_node else self.outer_rate

    def hop(self, gpus: int) -> float:
        """Over the slowest link."""
        return self.inner_hop if gpus <= self.gpus_per_node else self.outer_hop


def sent_by_each(size: float, processes: int) -> float:
    """Bytes that each process sends in an all-reduce of `size` bytes: 2 (p - 1) / p of them, the least possible."""
    return 2 * (processes - 1) / processes * size


def reduce_seconds(size: float, processes: int, rate: float, hop: float) -> float:
    """An all-reduce by a ring, or by two trees where that is faster, as NCCL chooses."""
    if processes == 1:
        return 0.0
    ring = 2 * (processes - 1) * hop + sent_by_each(size, processes) / rate
    tree = 2 * math.ceil(math.log2(processes)) * hop + 2 * size / rate
    return min(ring, tree)


def gather_seconds(size: float, processes: int, rate: float, hop: float) -> float:
    """An all-gather of `size` bytes of all processes together."""
    if processes == 1:
        return 0.0
    return math.ceil(math.log2(processes)) * hop + (processes - 1) / processes * size / rate


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step, for each of the processes."""

    compute: float
    """Seconds."""
    exchange: float
    """Seconds."""
    sent: float
    """Bytes."""
    held: float
    """Bytes on the GPU."""

    @property
    def seconds(self) -> float:
        """One after the other."""
        return self.compute + self.exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """SimCLR on ResNet-18 with the CIFAR stem at 32 pixels. Counts are exact, rates assumed."""

    parameters: int = 11_497_792
    """Backbone and projector."""
    norms: int = 22
    channels: int = 5_440
    """Of all batch norms together."""
    dim: int = 128
    images_per_second: float = 25_000.0
    """Of one GPU, two views each: the aim for a card of the H200's class."""
    flops_per_second: float = 4e14
    """Of the products of embeddings."""
    view_bytes: float = 3e6
    """Kept of a view for the backward pass, bf16."""

    def step(self, batch: int, gpus: int, cluster: Cluster) -> Cost:
        """One step of a global batch."""
        rate, hop, views = cluster.rate(gpus), cluster.hop(gpus), 2 * batch
        gradients, embeddings = FLOAT * self.parameters, FLOAT * views * self.dim
        statistics = FLOAT * 2 * self.channels
        exchange = (
            reduce_seconds(gradients, gpus, rate, hop)
            + gather_seconds(embeddings, gpus, rate, hop)
            + reduce_seconds(embeddings, gpus, rate, hop)  # backward: what all processes want of a row
            + self.norms * gather_seconds(statistics * gpus / self.norms, gpus, rate, hop)
            + self.norms * reduce_seconds(statistics / self.norms, gpus, rate, hop)
        )
        logits = views / gpus * views  # of a process's own anchors against all
        products = 3 * 2 * logits * self.dim
        sent = (
            sent_by_each(gradients + embeddings + statistics, gpus)
            + (gpus - 1) / gpus * embeddings
            + (gpus - 1) * statistics
        )
        return Cost(
            compute=cluster.launch + batch / gpus / self.images_per_second + products / self.flops_per_second,
            exchange=exchange,
            sent=sent,
            held=3 * gradients + views / gpus * self.view_bytes + 3 * FLOAT * logits,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """ResNet-18 of a comparison, 100 classes, with CutMix and EMA. A ViT is the same without batch norms."""

    parameters: int = 11_220_132
    norms: int = 20
    channels: int = 4_800
    images_per_second: float = 50_000.0
    """Half of the work of pretraining: one view."""
    image_bytes: float = 3e6

    def step(self, batch: int, gpus: int, cluster: Cluster) -> Cost:
        """One step of a global batch; images that CutMix mixes from other processes' rows are at hand on each GPU."""
        rate, hop = cluster.rate(gpus), cluster.hop(gpus)
        gradients, statistics = FLOAT * self.parameters, FLOAT * 2 * self.channels
        exchange = reduce_seconds(gradients, gpus, rate, hop) + self.norms * (
            gather_seconds(statistics * gpus / self.norms, gpus, rate, hop)
            + reduce_seconds(statistics / self.norms, gpus, rate, hop)
        )
        return Cost(
            compute=cluster.launch + batch / gpus / self.images_per_second,
            exchange=exchange,
            sent=sent_by_each(gradients + statistics, gpus) + (gpus - 1) * statistics,
            held=5 * gradients + batch / gpus * self.image_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The radiance field with its default table, whose gradient is exchanged whole: a step touches much of it."""

    parameters: int = 6_430_682 + 9_472
    """Numbers of the hash table and of both nets."""
    grid: int = 128**3
    samples_per_second: float = 2e8
    """Of one GPU; assumed until the GPU sheet has it."""
    launch: float = 1e-3
    sample_bytes: float = 400.0

    def step(self, samples: int, gpus: int, cluster: Cluster) -> Cost:
        """One step of so many samples along rays, which the processes share; they agree on the density grid too."""
        size = FLOAT * (self.parameters + self.grid)
        return Cost(
            compute=self.launch + samples / gpus / self.samples_per_second,
            exchange=reduce_seconds(size, gpus, cluster.rate(gpus), cluster.hop(gpus)),
            sent=sent_by_each(size, gpus),
            held=4 * FLOAT * self.parameters + FLOAT * self.grid + samples / gpus * self.sample_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The linear protocol: features once, then eleven penalties by L-BFGS, in one process."""

    dim: int = 512
    classes: int = 100
    images_per_second: float = 150_000.0
    """Features: a sixth of the work of pretraining, which does two views forward and backward."""
    evaluations: int = 800
    """Of the loss, over all penalties; 707 steps of L-BFGS were counted on made features (results/probe_made.json)."""
    flops_per_second: float = 3e13
    """float32 without tensor cores."""
    feature_rate: float = 2.5e12
    """Bytes/s at which a GPU reads features: each evaluation reads them twice."""

    def features_seconds(self, images: int, gpus: int) -> float:
        """Every process does its share, and sends nothing but the features."""
        return images / gpus / self.images_per_second

    def held(self, images: int) -> float:
        """Bytes of the features, which fitting keeps on one GPU."""
        return FLOAT * images * self.dim

    def fit_seconds(self, images: int, gpus: int = 1) -> float:
        """Two products an evaluation, or two readings, whichever takes longer."""
        products = 4 * images * self.dim * self.classes / self.flops_per_second
        return self.evaluations * max(products, 2 * self.held(images) / self.feature_rate) / gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Images in shards; what is measured is in results/scaling.json and results/shards_speed.json."""

    file_bytes: float
    padded_bytes: float
    """In a tar: image and label, each with a header and filled up to 512."""
    decode: float
    """Core seconds an image (measured)."""
    shard_bytes: float = 256.0 * MIB
    index_file: float = 20.0
    """Bytes an image beside the shards: start, length, label (measured 20.3)."""
    index: float = 24.0
    """Bytes an image in memory: shard, start, length, label (measured 24)."""
    order: float = 8.0
    """torch.randperm's int64 (measured 8)."""
    plan: float = 600.0
    """Bytes a batch of the rest of the epoch, in a list (measured 599)."""
    split: float = 75.0
    """Bytes an image while a fifth is held out of a set without test images (measured 75, the index included)."""
    walk: float = 4e-5
    """Seconds an image to walk through headers (measured)."""
    open: float = 1e-3
    """Seconds a shard that has an index (measured)."""

    def shards(self, images: int) -> int:
        """How many tars."""
        return math.ceil(images * self.padded_bytes / self.shard_bytes)

    def open_seconds(self, images: int) -> float:
        """Seconds to read all indexes, a GB/s."""
        return self.shards(images) * self.open + images * self.index_file / 1e9

    def held(self, images: int, batch: int = 256) -> float:
        """Bytes of memory in each process: index, order, plan of an epoch."""
        return images * (self.index + self.order + self.plan / batch)


SMALL = Pictures(file_bytes=1_100, padded_bytes=3_073, decode=1.2e-4)
"""32 pixels, as `shards_speed.py` makes them."""
PHOTO = Pictures(file_bytes=98_500, padded_bytes=100_400, decode=3.0e-3)
"""500 x 375, brought to 224 pixels."""
