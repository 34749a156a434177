"""Shards from servers and object stores: fetched whole into the data root, then read in place like any others.

Single images could be asked for where they lie, but each would cost the time of an answer. A shard of 256 MiB costs it
once. A set that does not fit on the disk is read in windows (`windowed_shards.py`), by the indexes beside its shards.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from nndl_suite.data.fetch import NotThere, RemoteFile, Unreachable, check_url, fetch, file_system, look_up, shown
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.shard_classes import CLASS_NAMES
from nndl_suite.data.shard_index import INDEX_SUFFIX, ShardIndex, index_file, read_index, write_index
from nndl_suite.data.shards import ShardImages, expanded, of_split, read_tars, set_of
from nndl_suite.data.splits import Split, own_split
from nndl_suite.data.windowed_shards import FETCHED_AT_ONCE, WINDOW, WindowedImages, state_of
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.training.watch import Step, Watcher

_ASKED_AT_ONCE = 16
LIMIT = "NNDL_SUITE_SHARDS_GIB"
"""The environment's word on how much of the disk fetched shards may take; else what is free."""
_SPARE = 0.05
"""Of the free disk, which is left free."""
_GIB = 2**30
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+]+://")


@dataclass(frozen=True, slots=True)
class _Wanted:
    url: str
    remote: RemoteFile | None
    """None where the source cannot be reached."""
    file: Path


def is_url(place: str) -> bool:
    """Whether shards lie elsewhere: `https://…`, `s3://…`."""
    return _URL.match(place) is not None


def read_remote_shards(place: str, root: Path, split: Split, image_size: int | None, watch: Watcher) -> ImageSet:
    """One split of shards from elsewhere, as `read_shards` of those on this machine.

    `place` is the URL of a tar, or of many: numbers in braces, a star, or a folder (star and folder only where the
    server lists its files). What is not in `root/shards` as it is at its source is fetched; where the source cannot be
    reached, what was fetched before serves.

    Raises:
        ConfigError: the URL holds a secret.
        DataError: a shard is missing, does not come, or is not as it must be; or they do not fit on the disk
            and have no indexes beside them.
    """
    check_url(place)
    cache = root / "shards"
    urls, has_splits = _urls(place), False
    if _is_folder(place):
        urls, has_splits = of_split(urls, [url.rpartition("/")[2] for url in urls], split)
    first = _wanted(urls[0], cache)
    online = first.remote is not None  # one answer is waited for in vain, not one for each shard
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        wanted = [first, *pool.map(lambda url: _wanted(url, cache, online=online), urls[1:])]
    name, classes = f"wds:{shown(place)}", _class_names(urls[0], cache, online=online)
    room = _room(wanted, cache)
    if sum(one.remote.size for one in wanted if one.remote is not None) > room:
        images = _in_windows(name, wanted, cache, classes, image_size, room, watch)
    else:
        _fetch_missing([one for one in wanted if not one.file.exists()], watch)
        images = read_tars(name, [one.file for one in wanted], classes, image_size, watch)
    return images if has_splits else own_split(images, split)


def _room(wanted: Sequence[_Wanted], cache: Path) -> int:
    """Bytes that these shards may take on the disk, those included that are there already."""
    cache.mkdir(parents=True, exist_ok=True)
    kept = sum(state.st_size for one in wanted if (state := state_of(one.file)) is not None)
    room = int((shutil.disk_usage(cache).free + kept) * (1 - _SPARE))
    limit = os.environ.get(LIMIT)
    try:
        return room if limit is None else min(room, int(float(limit) * _GIB))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{LIMIT} must be a number of GiB, got {limit!r}") from error


def _in_windows(
    name: str,
    wanted: Sequence[_Wanted],
    cache: Path,
    classes: Path,
    image_size: int | None,
    room: int,
    watch: Watcher,
) -> ImageSet:
    """The set of shards that do not fit on the disk."""
    remotes = [one.remote for one in wanted if one.remote is not None]
    if len(remotes) < len(wanted):
        raise Unreachable(f"{name} does not fit on the disk, and its server cannot be reached")
    indexes: list[ShardIndex] = []
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        for index in pool.map(lambda remote: _index(remote, cache, room), remotes):
            indexes.append(index)
            watch(Step(stage="fetching indexes", done=len(indexes), total=len(remotes)))
    first = next((i for i, index in enumerate(indexes) if len(index.starts)), 0)
    fetch(remotes[first], wanted[first].file, lambda _: None)  # one image tells the size of all
    images = set_of(name, [one.file for one in wanted], indexes, classes, image_size)
    assert isinstance(images.store, ShardImages)
    store = WindowedImages(
        images=images.store, remotes=tuple(remotes), digests=tuple(index.digest for index in indexes), limit=room
    )
    return replace(images, store=store, fingerprint=f"{images.fingerprint}/window-{WINDOW}")  # it has another order


def _index(remote: RemoteFile, cache: Path, room: int) -> ShardIndex:
    """The index that lies beside a shard elsewhere."""
    try:
        one = _wanted(f"{remote.url}{INDEX_SUFFIX}", cache)
    except NotThere as error:
        raise DataError(
            f"the shards do not fit into the {room / _GIB:.1f} GiB that they may take of {cache.resolve()}, and cannot "
            f"be read in windows, as there is no index beside each ({error}); name another disk with --data-root or "
            "NNDL_SUITE_DATA, or lay indexes beside them with nndl-suite data index"
        ) from error
    if one.remote is not None:
        fetch(one.remote, one.file, lambda _: None)
    index = read_index(one.file, [remote.size])
    if index is None:
        raise DataError(
            f"{shown(remote.url)}{INDEX_SUFFIX} is not of this shard; write it again: nndl-suite data index"
        )
    return index


def _is_folder(place: str) -> bool:
    return not place.endswith(".tar") and "*" not in place


def _urls(place: str) -> list[str]:
    """The tars that a URL with braces or stars, or of a folder, stands for."""
    named: list[str] = []
    for one in expanded(f"{place.rstrip('/')}/*.tar" if _is_folder(place) else place):
        named += _listed(one) if "*" in one else [one]
    if not named:
        raise DataError(
            f"there are no shards {shown(place)}, or its server lists no files; name them by numbers in braces"
        )
    return named


def _listed(pattern: str) -> list[str]:
    system, path = file_system(pattern)
    try:
        found: list[str] = sorted(system.unstrip_protocol(each) for each in system.glob(path))
    except (OSError, ValueError):
        return []
    return [each for each in found if not each.endswith(INDEX_SUFFIX)]


def _wanted(url: str, cache: Path, *, online: bool = True) -> _Wanted:
    """Where a file is or will be in the cache, by its URL and version.

    Raises:
        Unreachable: it cannot be asked for, and was never fetched before.
    """
    parts = urlsplit(url)
    above, _, name = url.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    folder = cache / f"{parts.netloc.replace(':', '-')}-{hashlib.blake2b(above.encode(), digest_size=6).hexdigest()}"
    try:
        if not online:
            raise Unreachable(f"{shown(url)} was not fetched before, and its server cannot be reached")
        remote = look_up(url)
    except Unreachable:
        kept = sorted(folder.glob(f"{stem}.????????????{dot}{suffix}"), key=lambda file: file.stat().st_mtime)
        if not kept:
            raise
        return _Wanted(url, None, kept[-1])
    return _Wanted(url, remote, folder / f"{stem}.{remote.stamp}{dot}{suffix}")


def _fetch_missing(wanted: Sequence[_Wanted], watch: Watcher) -> None:
    total = sum(one.remote.size for one in wanted if one.remote is not None)
    if not total:
        return
    came = _Tally(total, watch)
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        try:
            list(pool.map(lambda one: _fetch_shard(one, came), wanted))
        except BaseException:
            came.stop = True
            pool.shutdown(cancel_futures=True)
            raise


class _Tally:
    """How much of everything has come; called by several threads."""

    def __init__(self, total: int, watch: Watcher) -> None:
        self._total, self._watch, self._done, self._lock = total, watch, 0, Lock()
        self.stop = False

    def __call__(self, size: int) -> None:
        with self._lock:
            if self.stop:
                raise DataError("another shard did not come")  # nobody sees it: the first error is raised
            self._done += size
            self._watch(Step(stage="fetching shards", done=self._done, total=self._total))


def _fetch_shard(one: _Wanted, came: Callable[[int], None]) -> None:
    assert one.remote is not None
    fetch(one.remote, one.file, came)
    if index_file(one.file).exists():
        return
    try:
        write_index(one.file)
    except DataError:
        one.file.unlink(missing_ok=True)  # what is no whole tar shall not be taken for one next time
        raise


def _class_names(url: str, cache: Path, *, online: bool) -> Path:
    """The list of classes beside the shards, fetched where there is one; else a file that is not there."""
    try:
        one = _wanted(f"{url.rpartition('/')[0]}/{CLASS_NAMES}", cache, online=online)
        if one.remote is not None:
            fetch(one.remote, one.file, lambda _: None)
    except NotThere:
        return cache / CLASS_NAMES
    except Unreachable:
        if online:
            raise
        return cache / CLASS_NAMES
    return one.file
