"""A set larger than the disk: complete, in one order, each shard fetched once an epoch, no more kept than may be."""

import contextlib
import io
import itertools
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from shard_server import serving

from nndl_suite.data import fetch as fetch_module
from nndl_suite.data import remote_shards, windowed_shards
from nndl_suite.data import shards as shards_module
from nndl_suite.data.batches import Batches, in_order
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.fetch import RemoteFile
from nndl_suite.data.shards import ShardImages
from nndl_suite.data.windowed_shards import WindowedImages
from nndl_suite.data.write_shards import write_shards
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.training.seeds import generator_for

MIB = 2**20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A hundred images of noise without labels, in six shards of at most a MiB."""
    root = tmp_path_factory.mktemp("windows")
    (root / "in").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (100, 130, 135, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(root / "in" / f"{i:03d}.png")
    written = write_shards(root / "in", root / "out", shard_mib=1)
    assert len(written.shards) == 6
    return root / "out"


@pytest.fixture
def server(made, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "PAUSES", (0.0, 0.0))
    for module in (windowed_shards, remote_shards):
        monkeypatch.setattr(module, "WINDOW", 1)
    monkeypatch.setenv(remote_shards.LIMIT, str(4 / 1024))
    shutil.copytree(made, tmp_path / "served")
    with serving(tmp_path / "served") as server:
        yield server


def load(server, root, **more):
    return load_image_set(f"wds:{server.url}/images-{{000000..000005}}.tar", "unlabelled", data_root=root, **more)


def kept(root):
    """Bytes; workers may drop a shard while it is counted."""
    found = 0
    for file in root.rglob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            found += file.stat().st_size
    return found


def tars_asked(server):
    return [path for path, _ in server.asked if path.endswith(".tar")]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_complete_fetches_each_shard_once_and_keeps_to_the_limit(server, made, tmp_path, workers):
    whole = load_image_set(f"wds:{made}", "unlabelled", image_size=16)
    images = load(server, tmp_path / "root", image_size=16)
    assert isinstance(images.store, WindowedImages)
    assert len(tars_asked(server)) == 1  # for the size of an image
    batches = Batches(images, batch_size=10, seed=0, workers=workers)
    seen, most = [], 0
    for step in range(len(batches)):
        batch = batches.at(step)
        assert torch.equal(batch.images, whole.store.pixels[batch.indices])
        seen.append(batch.indices)
        most = max(most, kept(tmp_path / "root"))
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(100))
    assert most <= (4 + max(0, workers - 1)) * MIB
    times = {path: tars_asked(server).count(path) for path in set(tars_asked(server))}
    assert len(times) == 6
    assert sum(times.values()) <= 7 + workers  # the first once more: it was fetched for its size, and may be dropped


def test_the_order_is_that_of_the_seed_whatever_is_kept_and_resumes_in_the_middle(server, tmp_path):
    first = Batches(load(server, tmp_path / "one"), batch_size=10, seed=3, workers=0)
    told = [first.at(step) for step in range(20)]
    later = Batches(load(server, tmp_path / "two"), batch_size=10, seed=3, workers=1)
    for step in (5, 6, 12):
        assert torch.equal(later.at(step).images, told[step].images)
        assert torch.equal(later.at(step).indices, told[step].indices)
    assert not torch.equal(told[0].indices, told[10].indices)


def test_every_image_in_turn_and_a_part_of_them(server, made, tmp_path):
    whole = load_image_set(f"wds:{made}", "unlabelled", image_size=16)
    images = load(server, tmp_path / "root", image_size=16)
    assert torch.equal(
        torch.cat([batch.images for batch in in_order(images, batch_size=7, workers=0)]), whole.store.pixels
    )
    part = images.subset(torch.arange(90, 10, -3))
    batches = Batches(part, batch_size=9, seed=0, workers=0)
    for step in range(3):
        batch = batches.at(step)
        assert torch.equal(batch.images, whole.subset(torch.arange(90, 10, -3)).store.pixels[batch.indices])


def test_the_order_mixes_within_a_window_and_no_further(tmp_path):
    """Of 200 shards with 50 images each; by plain counting."""
    numbers = torch.arange(200, dtype=torch.int32).repeat_interleave(50)
    places = torch.zeros(len(numbers), dtype=torch.int64)
    images = ShardImages(tuple(tmp_path / f"{i}.tar" for i in range(200)), numbers, places, places.int(), 8)
    remotes = tuple(RemoteFile(f"http://host/{i}.tar", 100, "") for i in range(200))
    store = WindowedImages(images=images, remotes=remotes, digests=("",) * 200, limit=2 * 16 * 100)
    order = store.order(torch.Generator().manual_seed(0))
    assert torch.equal(order.sort().values, torch.arange(10_000))
    shard = numbers[order].tolist()
    first = {n: shard.index(n) for n in range(200)}
    last = {n: len(shard) - 1 - shard[::-1].index(n) for n in range(200)}
    needed = [sum(first[n] <= at <= last[n] for n in range(200)) for at in range(0, 10_000, 25)]
    assert max(needed) <= windowed_shards.WINDOW + 1
    assert np.mean(needed) > 12
    runs = [len(list(run)) for _, run in itertools.groupby(shard)]
    assert np.mean(runs) < 1.3  # images of one shard rarely stand together
    by_place = sorted(first, key=first.__getitem__)
    assert min(by_place[150:]) < 50  # the shards themselves are shuffled
    assert max(by_place[:50]) > 150
    with pytest.raises(DataError, match=r"windows of 16 shards, which need .* make the shards smaller or name another"):
        replace(store, limit=2 * 16 * 100 - 1)


def test_without_indexes_what_does_not_fit_is_refused_before_it_is_fetched(server, tmp_path):
    for file in server.folder.glob("*.index.npz"):
        file.unlink()
    with pytest.raises(DataError, match=r"do not fit into the 0.0 GiB .* no index beside each .* name another disk"):
        load(server, tmp_path / "root")
    assert not tars_asked(server)


def test_an_index_of_another_shard_is_not_believed(server, tmp_path):
    shutil.copy(server.folder / "images-000005.tar.index.npz", server.folder / "images-000001.tar.index.npz")
    with pytest.raises(DataError, match=r"images-000001.tar.index.npz is not of this shard; write it again"):
        load(server, tmp_path / "root")


def test_a_shard_that_its_index_is_not_of_is_dropped_though_it_has_the_size(server, tmp_path):
    images = load(server, tmp_path / "root")
    shard = server.folder / "images-000004.tar"
    size = shard.stat().st_size
    with tarfile.open(shard) as tar:
        files = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]
    with tarfile.open(shard, "w") as tar:
        for member, content in files:
            member.name = f"9{member.name[1:]}"
            tar.addfile(member, io.BytesIO(content))
    assert shard.stat().st_size == size
    of_it = int((images.store.images.numbers == 4).nonzero()[0])
    for _ in range(2):
        with pytest.raises(DataError, match=r"images-000004.tar is not the shard that the index beside it is of"):
            images.store.read(torch.tensor([of_it]))
    assert not list((tmp_path / "root").rglob("images-000004*.tar"))


def test_with_room_the_same_set_is_fetched_whole_and_has_another_order_and_fingerprint(server, tmp_path, monkeypatch):
    window = load(server, tmp_path / "root")
    monkeypatch.delenv(remote_shards.LIMIT)
    whole = load(server, tmp_path / "root")
    assert not isinstance(whole.store, WindowedImages)
    assert window.fingerprint == f"{whole.fingerprint}/window-1"
    monkeypatch.setenv(remote_shards.LIMIT, "much")
    with pytest.raises(ConfigError, match="NNDL_SUITE_SHARDS_GIB must be a number of GiB, got 'much'"):
        load(server, tmp_path / "root")


def test_streaming_stays_what_it_was_for_shards_on_the_disk(made, monkeypatch):
    monkeypatch.setattr(shards_module, "RESIDENT_BYTES", 0)
    images = load_image_set(f"wds:{made}", "unlabelled", image_size=16)
    batches = Batches(images, batch_size=100, seed=4, workers=0)
    assert torch.equal(batches.at(0).indices, torch.randperm(100, generator=generator_for(4, "order", 0)))
