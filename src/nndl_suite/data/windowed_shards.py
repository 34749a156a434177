"""Shards that are fetched as they are read and dropped behind, for sets that do not fit on the disk.

The order of an epoch goes through the shards in a shuffled order, and through their images within a window of some
shards, so that each shard is fetched once an epoch and is not needed for long. It is a function of the epoch's
generator alone, whatever the disk holds: a run that is resumed in the middle goes on with the same images.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from nndl_suite.data.fetch import RemoteFile, fetch, shown
from nndl_suite.data.shard_index import walk
from nndl_suite.data.shards import ShardImages
from nndl_suite.errors import DataError

WINDOW = 16
"""Shards whose images are mixed: in 16 of 256 MiB there are some 40,000 photos."""
FETCHED_AT_ONCE = 4
_TRIES = 3


@dataclass(frozen=True, slots=True)
class WindowedImages:
    """Images in shards of which the disk holds a few at a time."""

    images: ShardImages
    """Its files need not be there."""
    remotes: tuple[RemoteFile, ...]
    """Where each comes from."""
    digests: tuple[str, ...]
    """What each must hold, by the index from which its images' places are known."""
    limit: int
    """Bytes of shards on the disk; processes that fetch at the same moment may pass it by what each of them fetches."""

    def __post_init__(self) -> None:
        least = 2 * WINDOW * max(remote.size for remote in self.remotes)
        if self.limit < least:
            raise DataError(
                f"a set that does not fit on the disk is read in windows of {WINDOW} shards, which need "
                f"{least / 2**30:.1f} GiB of it, and {self.limit / 2**30:.1f} GiB may be used; make the shards smaller "
                "or name another disk with --data-root or NNDL_SUITE_DATA"
            )

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.images.image_size

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Int64[Tensor, "b"]) -> UInt8[Tensor, "b 3 h w"]:
        """The images at `indices`, in that order; what is missing of their shards is fetched.

        Raises:
            DataError: a shard does not come, or is not the one that its index is of.
        """
        numbers = self.images.numbers[indices].unique().tolist()
        for _ in range(_TRIES):
            self._make_present(numbers)
            try:
                return self.images.read(indices)
            except DataError:
                if all(self.images.shards[number].exists() for number in numbers):
                    raise  # otherwise another process needed the room
        raise DataError(f"{self.limit / 2**30:.1f} GiB do not suffice for all the processes that read these shards")

    def select(self, indices: Int64[Tensor, "b"]) -> "WindowedImages":
        """A store of only these images."""
        return replace(self, images=self.images.select(indices))

    def order(self, generator: torch.Generator) -> Int64[Tensor, "n"]:
        """All images, shuffled within a window that slides over the shuffled shards."""
        place = torch.empty(len(self.remotes), dtype=torch.float64)
        place[torch.randperm(len(self.remotes), generator=generator)] = torch.arange(len(place), dtype=torch.float64)
        later = torch.rand(len(self), generator=generator, dtype=torch.float64).mul_(WINDOW)
        return later.add_(place[self.images.numbers]).argsort()

    def _make_present(self, numbers: Sequence[int]) -> None:
        missing = [number for number in numbers if not _used_now(self.images.shards[number])]
        if missing:
            coming = sum(self.remotes[number].size for number in missing)
            self._make_room(coming, {self.images.shards[number] for number in numbers})
            with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
                list(pool.map(self._fetch, missing))

    def _fetch(self, number: int) -> None:
        file, remote = self.images.shards[number], self.remotes[number]
        fetch(remote, file, lambda _: None)
        if walk(file).digest != self.digests[number]:
            file.unlink(missing_ok=True)
            raise DataError(
                f"{shown(remote.url)} is not the shard that the index beside it is of; write the index again with "
                "nndl-suite data index"
            )

    def _make_room(self, coming: int, needed: set[Path]) -> None:
        """Drop what was used longest ago, until the limit holds with so many bytes more."""
        own = set(self.images.shards)
        there: list[tuple[int, int, Path]] = []
        for folder in {shard.parent for shard in own}:
            for file in folder.glob("*.tar"):
                if file in own and (state := state_of(file)) is not None:
                    there.append((state.st_atime_ns, state.st_size, file))
        held = coming + sum(size for _, size, _ in there)
        for _, size, file in sorted(there):
            if held <= self.limit:
                break
            if file not in needed:
                file.unlink(missing_ok=True)
                held -= size


def _used_now(file: Path) -> bool:
    """Whether a file is there; if so, it was used just now (disks do not note each reading by themselves)."""
    state = state_of(file)
    if state is None:
        return False
    try:
        os.utime(file, ns=(time.time_ns(), state.st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def state_of(file: Path) -> os.stat_result | None:
    """What the disk knows of a file; None where another process has just dropped it."""
    try:
        return file.stat()
    except FileNotFoundError:
        return None
