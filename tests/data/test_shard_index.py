"""An index says what a walk through the tar says, and is not believed where it cannot be of this tar."""

import io
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data import shard_index as module
from nndl_suite.data import shards as shards_module
from nndl_suite.data.shard_index import UNLABELLED, index_file, shard_index, walk, write_index
from nndl_suite.data.shards import find_shards, index_shards
from nndl_suite.errors import DataError
from nndl_suite.training.watch import ignore


def write_tar(path, labels):
    content = io.BytesIO()
    Image.new("RGB", (9, 9), (len(labels), 7, 9)).save(content, "png")
    with tarfile.open(path, "w") as tar:
        for i, label in enumerate(labels):
            for suffix, data in (("png", content.getvalue()), ("cls", str(label).encode())):
                if suffix == "png" or label is not None:
                    member = tarfile.TarInfo(f"{i:03d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def by_tarfile(path):
    """Starts and lengths of the images as the standard library tells them."""
    with tarfile.open(path) as tar:
        members = [member for member in tar.getmembers() if member.name.endswith(".png")]
        return [member.offset_data for member in members], [member.size for member in members]


def columns(index):
    return [getattr(index, name).tolist() for name in ("starts", "lengths", "labels")] + [index.words, index.digest]


@pytest.fixture
def no_walk(monkeypatch):
    def walked(shard):
        raise AssertionError(f"{shard} was walked through")

    monkeypatch.setattr(module, "walk", walked)


@pytest.mark.parametrize(
    ("told", "labels", "words"),
    [
        ([2, 0, -1], [2, 0, -1], ()),
        (["bee", 7, "ant"], [2, 0, 1], ("7", "ant", "bee")),
        ([None, 3], [UNLABELLED, 3], ()),
        ([None, "x"], [UNLABELLED, 0], ("x",)),
    ],
)
def test_the_kept_index_is_the_walked_one(tmp_path, told, labels, words, request):
    shard = tmp_path / "a.tar"
    write_tar(shard, told)
    walked = walk(shard)
    assert (walked.starts.tolist(), walked.lengths.tolist()) == by_tarfile(shard)
    assert (walked.labels.tolist(), walked.words) == (labels, words)
    write_index(shard)
    request.getfixturevalue("no_walk")
    kept = shard_index(shard)
    assert columns(kept) == columns(walked)
    assert [kept.starts.dtype, kept.lengths.dtype, kept.labels.dtype] == [torch.int64, torch.int32, torch.int64]


def test_a_tar_of_another_size_or_time_is_walked_again(tmp_path):
    shard = tmp_path / "a.tar"
    write_tar(shard, [0, 1, 2])
    write_index(shard)
    kept = shard.stat()
    write_tar(shard, [5, 6, 7])  # as many bytes
    assert shard.stat().st_size == kept.st_size
    os.utime(shard, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
    assert shard_index(shard).labels.tolist() == [5, 6, 7]
    write_tar(shard, range(40))  # past the 10 KiB to which a tar is filled up
    os.utime(shard, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert len(shard_index(shard).labels) == 40


def test_a_damaged_or_foreign_index_is_passed_over(tmp_path, monkeypatch):
    shard = tmp_path / "a.tar"
    write_tar(shard, [4, 5, 6])
    write_index(shard)
    whole = index_file(shard).read_bytes()
    place = whole.index(np.array([4, 5, 6]).tobytes())
    flipped = bytearray(whole)
    flipped[place] ^= 1
    for content in (bytes(flipped), whole[:-30], whole[:200], b"", b"no zip"):
        index_file(shard).write_bytes(content)
        assert shard_index(shard).labels.tolist() == [4, 5, 6]
    for about in ("{}", "[]", "no json", '{"version": 2, "tar": [], "words": [], "digest": ""}'):
        np.savez(index_file(shard), about=np.array(about))
        assert shard_index(shard).labels.tolist() == [4, 5, 6]
    monkeypatch.setattr(module, "_VERSION", 2)  # one of a later release, columns and all
    index_file(shard).write_bytes(whole)
    monkeypatch.setattr(module, "walk", lambda _: "walked")
    assert shard_index(shard) == "walked"


def test_no_changed_bit_and_no_cut_of_an_index_is_taken_for_a_place(tmp_path):
    shard = tmp_path / "a.tar"
    write_tar(shard, ["ant", None, 7])
    whole = columns(write_index(shard))
    content = index_file(shard).read_bytes()
    flipped = (content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :] for i in range(0, len(content), 7))
    for damaged in [*flipped, *(content[:keep] for keep in range(0, len(content), 101))]:
        index_file(shard).write_bytes(damaged)
        assert columns(shard_index(shard)) == whole  # as kept, or walked again


def test_the_flipped_bit_would_be_seen_without_the_checksum(tmp_path, no_walk):
    """That the test above reaches the labels: the whole file is taken, with no walk."""
    shard = tmp_path / "a.tar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "walk", lambda _: WALKED)
        write_tar(shard, [4, 5, 6])
        write_index(shard)
    assert shard_index(shard).labels.tolist() == [8]


WALKED = module.ShardIndex(
    starts=torch.tensor([1]),
    lengths=torch.tensor([2], dtype=torch.int32),
    labels=torch.tensor([8]),
    words=(),
    digest="",
)


def test_a_set_with_and_without_indexes_is_the_same(tmp_path, request):
    for i, labels in enumerate((["ant", "bee"], [7, 12], ["cow", "ant", "bee"])):
        write_tar(tmp_path / f"x-{i}.tar", labels)

    def read():
        return shards_module.read_tars("wds:x", find_shards(tmp_path), tmp_path / "classes.txt", 8, ignore)

    walked = read()
    assert walked.class_names == ("12", "7", "ant", "bee", "cow")
    assert walked.labels.tolist() == [2, 3, 1, 0, 4, 2, 3]
    assert index_shards(tmp_path) == 7
    request.getfixturevalue("no_walk")
    kept = read()
    assert (kept.fingerprint, kept.class_names) == (walked.fingerprint, walked.class_names)
    assert torch.equal(kept.labels, walked.labels)
    assert torch.equal(kept.store.pixels, walked.store.pixels)


def test_a_shard_that_is_gone_is_told_though_its_index_is_there(tmp_path):
    write_tar(tmp_path / "a.tar", [0])
    write_index(tmp_path / "a.tar")
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match=r"cannot read .*a.tar: No such file"):
        shard_index(tmp_path / "a.tar")
