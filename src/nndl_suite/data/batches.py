"""Batches of an image set: shuffled by seed, addressable by step, the same from memory and from disk."""

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nndl_suite.data.image_set import ImageSet, ImageStore, ResidentImages
from nndl_suite.data.windowed_shards import WindowedImages
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.training.processes import Part, everywhere, own_part, rank, whole, world_size
from nndl_suite.training.seeds import generator_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A few images on the device."""

    images: UInt8[Tensor, "b 3 h w"]
    labels: Int64[Tensor, "b"] | None
    indices: Int64[Tensor, "b"]
    """Positions in the image set, on the CPU."""


def check_batch_size(batch_size: int, name: str, num_images: int) -> None:
    """Refuse a batch that a set's images cannot fill or the processes not share.

    Asked before a run has a folder, the next try finds none.

    Raises:
        ConfigError: there are fewer images, or it does not divide by the processes.
    """
    if not 1 <= batch_size <= num_images:
        raise everywhere(
            ConfigError(
                f"batch_size must be in [1, {num_images}] for {name}, which has so many images to train on, "
                f"got {batch_size}; try {max(1, num_images // 4)}"
            )
        )
    own_part(batch_size)


class Batches:
    """The batches of every epoch, by global step.

    `at(step)` is a pure function of the seed and the step, so a resumed run sees what an undisturbed one would have.
    Images in memory move to the device once; images on disk are decoded ahead by DataLoader workers.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        workers: int = 2,
        part: Part | None = None,
    ) -> None:
        """Prepare batches of `batch_size` images; what is left over at an epoch's end is dropped.

        Args:
            images: The set.
            batch_size: Images a batch, in [1, n].
            seed: Decides the order of every epoch.
            device: Where the batches go.
            workers: Processes that decode images kept on disk.
            part: The rows of every batch that are given, where several processes share it; None gives all.
        """
        check_batch_size(batch_size, images.name, len(images))
        self._store = images.store
        self._total, self._batch_size, self._seed = len(images), batch_size, seed
        self._device = torch.device(device)
        self._labels = None if images.labels is None else images.labels.to(self._device)
        self._pixels = images.store.pixels.to(self._device) if isinstance(images.store, ResidentImages) else None
        self._stream = _Stream(images.store, workers)
        self._part = whole(batch_size) if part is None else part
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Steps per epoch."""
        return self._total // self._batch_size

    def at(self, step: int) -> Batch:
        """The batch of one step, counted over all epochs."""
        indices = self._indices(step)
        there = indices.to(self._device, non_blocking=True)  # a blocking copy would wait for the step before
        if self._pixels is not None:
            images = self._pixels[there]
        else:
            images = self._stream.at(step, self._rest_of_epoch).to(self._device, non_blocking=True)
        return Batch(images=images, labels=None if self._labels is None else self._labels[there], indices=indices)

    def _indices(self, step: int) -> Int64[Tensor, "b"]:
        epoch, position = divmod(step, len(self))
        if epoch != self._epoch:
            self._order = _shuffled(self._store, generator_for(self._seed, "order", epoch))
            self._epoch = epoch
        return self._order[position * self._batch_size :][self._part.rows]

    def _rest_of_epoch(self, step: int) -> list[Int64[Tensor, "b"]]:
        end = (step // len(self) + 1) * len(self)
        return [self._indices(later) for later in range(step, end)]


def _shuffled(store: ImageStore, generator: torch.Generator) -> Int64[Tensor, "n"]:
    """The order of an epoch: any at all, unless the store has to read some images before others."""
    return (
        store.order(generator) if isinstance(store, WindowedImages) else torch.randperm(len(store), generator=generator)
    )


class _Stream:
    """Batches from disk in the order asked for, read ahead while the order is the epoch's own."""

    def __init__(self, store: ImageStore, workers: int) -> None:
        self._store, self._workers = store, workers
        self._ahead: Iterator[Tensor] = iter(())
        self._next = -1

    def at(self, step: int, rest_of_epoch: Callable[[int], list[Tensor]]) -> UInt8[Tensor, "b 3 h w"]:
        with _workers_alive():
            batch = next(self._ahead, None) if step == self._next else None
            if batch is None:
                self._ahead = iter(_loader(self._store, rest_of_epoch(step), self._workers))
                batch = next(self._ahead)
        self._next = step + 1
        return batch


class _Reads(Dataset[Tensor]):
    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._store.read(indices)


def _loader(store: ImageStore, batches: list[Tensor], workers: int) -> DataLoader[Tensor]:
    # its own generator: a DataLoader otherwise draws from the caller's global one
    return DataLoader(
        _Reads(store),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=_quiet_at_the_end,
    )


def _quiet_at_the_end(_: int) -> None:
    """In a worker: where the command ends while a batch is handed over, multiprocessing's thread prints a traceback."""
    say = sys.excepthook

    def unless_broken_off(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ConnectionError | EOFError):
            say(kind, error, trace)

    sys.excepthook = unless_broken_off


def _from_workers(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    with _workers_alive():
        yield from loader


@contextmanager
def _workers_alive() -> Generator[None, None, None]:
    """Say in one sentence that a process that reads images is gone.

    Raises:
        DataError: it is.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        said = str(error)
        # torch says it in a RuntimeError; in the middle of handing a tensor over, the connection breaks before it can
        if said.startswith("Caught ") or (isinstance(error, RuntimeError) and "DataLoader worker" not in said):
            raise
        raise DataError(
            "a process that reads images was killed; the system does this when memory runs out: free some, then go on "
            f"with --resume ({said.partition('.')[0]})"
        ) from error


def in_order(
    images: ImageSet, *, batch_size: int, device: torch.device | str = "cpu", workers: int = 2
) -> Iterator[Batch]:
    """Every image once, in the set's own order; the last batch may be smaller."""
    return _in_turn(images, batch_size, device, workers, first=0, every=1)


def own_in_order(
    images: ImageSet, *, batch_size: int, device: torch.device | str = "cpu", workers: int = 2
) -> Iterator[Batch]:
    """Of several processes, each gets its own of those batches in turn: all together they see every image once."""
    return _in_turn(images, batch_size, device, workers, first=rank(), every=world_size())


def _in_turn(
    images: ImageSet, batch_size: int, device: torch.device | str, workers: int, *, first: int, every: int
) -> Iterator[Batch]:
    order = torch.arange(len(images)).split(batch_size)[first::every]
    if isinstance(images.store, ResidentImages):
        pixels = images.store.pixels.split(batch_size)[first::every]
    else:
        pixels = _from_workers(_loader(images.store, list(order), workers))
    for indices, chunk in zip(order, pixels, strict=True):
        labels = None if images.labels is None else images.labels[indices].to(device, non_blocking=True)
        yield Batch(images=chunk.to(device, non_blocking=True), labels=labels, indices=indices)
