"""Shards from a server or an object store are those of the disk; whatever goes wrong there is one sentence."""

import shutil
import threading

import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from shard_server import serving

from nndl_suite.data import fetch as fetch_module
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.fetch import check_url, shown
from nndl_suite.data.write_shards import write_shards
from nndl_suite.errors import ConfigError, DataError

CHUNK = 16_384


@pytest.fixture
def shards(tmp_path):
    """Thirty images in two classes, in two shards of some chunks each."""
    rng = np.random.default_rng(0)
    for i in range(30):
        folder = tmp_path / "in" / ("ant", "bee")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (130, 150, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    write_shards(tmp_path / "in", tmp_path / "out", shard_mib=1)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(fetch_module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(fetch_module, "PAUSES", (0.0, 0.0))


@pytest.fixture
def server(shards):
    with serving(shards) as server:
        yield server


def load(place, root, split="train", **more):
    return load_image_set(f"wds:{place}", split, data_root=root, **more)


def same(one, other):
    assert torch.equal(one.store.pixels, other.store.pixels)
    assert torch.equal(one.labels, other.labels)
    assert (one.class_names, one.fingerprint) == (other.class_names, other.fingerprint)


def left(root):
    return {file.suffix for file in root.rglob("*") if file.is_file()} - {".lock", ".txt"}


class TestHttp:
    @pytest.mark.parametrize("ranges", [True, False])
    def test_shards_are_those_of_the_disk_and_are_fetched_once(self, server, shards, tmp_path, ranges):
        server.ranges, steps = ranges, []
        place = f"{server.url}/images-{{000000..000001}}.tar"
        same(load(place, tmp_path / "root", watch=steps.append), load(shards, tmp_path))
        fetching = [step for step in steps if step.stage == "fetching shards"]
        assert fetching[-1].done == fetching[-1].total == sum(tar.stat().st_size for tar in shards.glob("*.tar"))
        assert len(fetching) > 10 or not ranges
        asked = len(server.asked)
        same(load(place, tmp_path / "root", "test"), load(shards, tmp_path, "test"))
        assert len(server.asked) == asked  # it was looked at, not fetched
        assert load(place, tmp_path / "root").name == f"wds:{place}"

    def test_a_dropped_connection_is_taken_up_where_it_broke(self, server, shards, tmp_path):
        place = f"{server.url}/images-000000.tar"
        server.trouble = lambda _path, start, _n: "drop" if start >= 2 * CHUNK else None
        with pytest.raises(DataError, match=r"images-000000.tar does not come \(.*what has come is kept"):
            load(place, tmp_path / "root")
        assert left(tmp_path / "root") == {".part"}
        server.trouble, server.asked = lambda *_: None, []
        same(load(place, tmp_path / "root"), load(shards / "images-000000.tar", tmp_path))
        assert server.asked[0][1] == 2 * CHUNK

    def test_what_passes_by_is_asked_for_again(self, server, shards, tmp_path):
        times = {}

        def trouble(path, start, _n):
            times[path, start] = times.get((path, start), 0) + 1
            return ("drop", 503, None)[min(times[path, start], 3) - 1]

        server.trouble = trouble
        same(load(f"{server.url}/images-000001.tar", tmp_path / "root"), load(shards / "images-000001.tar", tmp_path))

    @pytest.mark.parametrize(
        ("trouble", "told"),
        [
            ("short", r"does not come \(16284 of 16384 bytes came\)"),
            (500, "the server of .* answers 500; try again later"),
            (403, r"may not be read \(403\)"),
            (404, r"is not there \(404 or its like\)"),
            (416, r"has become shorter while it was fetched \(416\)"),
        ],
    )
    def test_each_trouble_is_one_sentence_and_leaves_nothing_to_trust(self, server, tmp_path, trouble, told):
        server.trouble = lambda _path, start, _n: trouble if start == CHUNK else None
        with pytest.raises(DataError, match=told) as caught:
            load(f"{server.url}/images-{{000000..000001}}.tar", tmp_path / "root")
        assert "\n" not in str(caught.value)
        assert ".tar" not in left(tmp_path / "root")

    def test_a_missing_shard_is_named(self, server, tmp_path):
        with pytest.raises(DataError, match=r"images-000002.tar is not there"):
            load(f"{server.url}/images-{{000000..000002}}.tar", tmp_path / "root")
        assert not server.asked or all(path != "/images-000000.tar" for path, _ in server.asked)

    def test_a_file_that_changes_meanwhile_is_dropped(self, server, tmp_path):
        def trouble(_path, start, _n):
            if start >= CHUNK:
                server.etag = "v2"

        server.trouble = trouble
        with pytest.raises(DataError, match="images-000000.tar was changed while it was fetched"):
            load(f"{server.url}/images-000000.tar", tmp_path / "root")
        assert left(tmp_path / "root") == set()

    def test_a_new_version_is_fetched_and_parts_of_the_old_are_not_its_beginning(self, server, shards, tmp_path):
        place = f"{server.url}/images-000000.tar"
        server.trouble = lambda _path, start, _n: "drop" if start >= 2 * CHUNK else None
        with pytest.raises(DataError, match="does not come"):
            load(place, tmp_path / "root")
        shutil.copy(shards / "images-000001.tar", shards / "images-000000.tar")
        server.trouble, server.etag = lambda *_: None, "v2"
        same(load(place, tmp_path / "root"), load(shards / "images-000001.tar", tmp_path))

    def test_what_is_no_tar_is_not_kept(self, server, shards, tmp_path):
        (shards / "page.tar").write_text("<html>Please log in</html>" * 30)
        with pytest.raises(DataError, match="is not a whole uncompressed tar"):
            load(f"{server.url}/page.tar", tmp_path / "root")
        assert left(tmp_path / "root") == set()

    def test_offline_what_was_fetched_serves(self, server, shards, tmp_path):
        place = f"{server.url}/images-{{000000..000001}}.tar"
        load(place, tmp_path / "root")
        server.offline = True
        same(load(place, tmp_path / "root"), load(shards, tmp_path))
        with pytest.raises(DataError, match="does not come .*check the connection"):
            load(place.replace("images", "others"), tmp_path / "root")
        (next((tmp_path / "root").rglob("images-000001.*.tar"))).unlink()
        with pytest.raises(DataError, match="images-000001.tar was not fetched before"):
            load(place, tmp_path / "root")

    def test_two_at_a_time_fetch_once(self, server, shards, tmp_path):
        place, found = f"{server.url}/images-000000.tar", []
        threads = [threading.Thread(target=lambda: found.append(load(place, tmp_path / "root"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same(*found)
        starts = [start for path, start in server.asked if path.endswith(".tar")]
        assert len(starts) == len(set(starts))


class TestObjectStores:
    @pytest.fixture
    def bucket(self, shards):
        store = MemoryFileSystem()
        for file in shards.iterdir():
            store.pipe(f"/bucket/set/{file.name}", file.read_bytes())
        yield "memory://bucket/set"
        store.store.clear()

    @pytest.mark.parametrize("names", ["", "/", "/*.tar", "/images-*", "/images-{000000..000001}.tar"])
    def test_folders_stars_and_numbers(self, bucket, shards, tmp_path, names):
        same(load(bucket + names, tmp_path / "root"), load(shards, tmp_path))

    def test_splits_of_a_folder(self, bucket, shards, tmp_path):
        store = MemoryFileSystem()
        for name, split in (("images-000000.tar", "train-0.tar"), ("images-000001.tar", "val-0.tar")):
            store.mv(f"/bucket/set/{name}", f"/bucket/set/{split}")
        test = load(bucket, tmp_path / "root", "test")
        assert len(list((tmp_path / "root").rglob("*.tar"))) == 1  # the others are not fetched
        assert len(test) + len(load(bucket, tmp_path / "root")) == 30

    def test_nothing_there(self, bucket, tmp_path):
        for place in (f"{bucket}/none-*.tar", "memory://bucket/other"):
            with pytest.raises(DataError, match="there are no shards .* name them by numbers in braces"):
                load(place, tmp_path / "root")
        with pytest.raises(DataError, match="x.tar is not there"):
            load(f"{bucket}/x.tar", tmp_path / "root")

    def test_a_package_that_is_missing_and_a_kind_that_nobody_knows(self, tmp_path, monkeypatch):
        def missing(*_, **__):
            raise ImportError("Install s3fs to access S3")

        with pytest.raises(DataError, match="nosuch:// is no kind of place"):
            load("nosuch://bucket/x.tar", tmp_path / "root")
        monkeypatch.setattr(fetch_module, "url_to_fs", missing)
        with pytest.raises(DataError, match=r"s3:// needs .*Install s3fs to access S3\); pip install 'nndl-suite\[rem"):
            load("s3://bucket/x.tar", tmp_path / "root")


class TestSecrets:
    @pytest.mark.parametrize(
        "url", ["https://me:hush@host/x.tar", "https://host/x-{0..1}.tar?X-Signature=hush", "s3://hush@bucket/x.tar"]
    )
    def test_urls_with_secrets_are_refused_without_saying_them(self, url, tmp_path):
        with pytest.raises(ConfigError, match="must hold no user, password or") as caught:
            load(url, tmp_path)
        assert "hush" not in str(caught.value)

    def test_public_ones_are_shown(self):
        check_url("https://host:81/x-{0..1}.tar")
        assert shown("https://me:hush@host:81/a/x-{0..1}.tar?k=hush#hush") == "https://host:81/a/x-{0..1}.tar"
