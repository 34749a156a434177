"""Shards hold what the folder held, are read in place, and say what is wrong with them in one sentence."""

import gc
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data import shards as shards_module
from nndl_suite.data.batches import Batches
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import ResidentImages
from nndl_suite.data.shard_index import write_index
from nndl_suite.data.shards import ShardImages, find_shards
from nndl_suite.data.write_shards import write_shards
from nndl_suite.errors import ConfigError, DataError, RunError
from nndl_suite.training.watch import ignore

KILLED = """
import os, signal, sys
from pathlib import Path
from nndl_suite.data.write_shards import write_shards
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "1":
    replace = Path.replace
    Path.replace = lambda file, to: die(replace(file, to)) if file.suffix == ".tar" else replace(file, to)
    write_shards(sys.argv[1], sys.argv[2])
write_shards(sys.argv[1], sys.argv[2], watch=die)
"""


def picture(level, size=(12, 10), kind="png"):
    content = io.BytesIO()
    Image.new("RGB", size, (level, 255 - level, 7)).save(content, kind)
    return content.getvalue()


def write_folder(root, classes=("ant", "bee"), each=6):
    """Noise, so that no two images are alike."""
    rng = np.random.default_rng(len(classes) * 100 + each)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.x.{('png', 'jpg', 'webp', 'bmp')[i % 4]}")


def write_tar(path, files, **header):
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in header.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))


def samples(labels, suffix="cls"):
    """Files of one image each, its level ten times its number."""
    for i, label in enumerate(labels):
        yield f"{i:04d}.png", picture(10 * i)
        if label is not None:
            yield f"{i:04d}.{suffix}", label if isinstance(label, bytes) else str(label).encode()


def read(place, size=None):
    """All of a set: its own split would hold out a fifth of what is labelled."""
    return shards_module.read_tars(
        f"wds:{place}", (tars := find_shards(Path(place))), tars[0].parent / "classes.txt", size, ignore
    )


def streamed(place, monkeypatch):
    monkeypatch.setattr(shards_module, "RESIDENT_BYTES", 0)
    return read(place)


class TestRoundTrip:
    @pytest.mark.parametrize("split", ["train", "test", "unlabelled"])
    def test_shards_of_a_folder_are_the_folder(self, tmp_path, split):
        write_folder(tmp_path / "in")
        written = write_shards(tmp_path / "in", tmp_path / "out")
        assert (written.images, written.classes, len(written.shards)) == (12, 2, 1)
        for size in (None, 8):
            folder = load_image_set(f"folder:{tmp_path}/in", split, image_size=size)
            shards = load_image_set(f"wds:{tmp_path}/out", split, image_size=size)
            assert torch.equal(shards.store.pixels, folder.store.pixels)
            assert shards.class_names == folder.class_names
            assert shards.labels is folder.labels is None or torch.equal(shards.labels, folder.labels)

    def test_splits_stay_splits_and_have_one_list_of_classes(self, tmp_path):
        write_folder(tmp_path / "in" / "train", ("ant", "bee", "cow"))
        write_folder(tmp_path / "in" / "val", ("ant", "cow"), each=2)
        write_shards(tmp_path / "in", tmp_path / "out")
        assert {file.name for file in (tmp_path / "out").iterdir()} == {
            "classes.txt",
            "train-000000.tar",
            "train-000000.tar.index.npz",
            "test-000000.tar",
            "test-000000.tar.index.npz",
        }
        train, test = (load_image_set(f"wds:{tmp_path}/out", split) for split in ("train", "test"))
        assert (len(train), len(test)) == (18, 4)
        assert train.class_names == test.class_names == ("ant", "bee", "cow")
        assert test.labels.tolist() == [0, 0, 2, 2]

    def test_a_flat_folder_has_no_labels(self, tmp_path):
        (tmp_path / "in").mkdir()
        for i in range(3):
            (tmp_path / "in" / f"{i}.jpeg").write_bytes(picture(i, kind="jpeg"))
        assert write_shards(tmp_path / "in", tmp_path / "out").classes == 0
        assert not (tmp_path / "out" / "classes.txt").exists()
        assert len(load_image_set(f"wds:{tmp_path}/out", "unlabelled")) == 3
        with pytest.raises(DataError, match="pretraining only"):
            load_image_set(f"wds:{tmp_path}/out", "train")

    def test_shards_keep_to_their_size_and_their_order(self, tmp_path):
        (tmp_path / "in").mkdir()
        rng = np.random.default_rng(0)
        for i in range(9):
            pixels = rng.integers(0, 256, (380, 380, 3), dtype=np.uint8)  # noise: a PNG of more than 0.25 MiB
            pixels[100:-100, 100:-100] = 20 * i
            Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.png")
        written = write_shards(tmp_path / "in", tmp_path / "out", shard_mib=1)
        assert len(written.shards) == 3
        assert all(shard.stat().st_size <= 2**20 for shard in written.shards)
        levels = load_image_set(f"wds:{tmp_path}/out", "unlabelled").store.pixels[:, 0, 48, 48]
        assert levels.tolist() == [20 * i for i in range(9)]

    def test_image_bytes_are_not_touched_and_names_split_at_the_first_dot(self, tmp_path):
        write_folder(tmp_path / "in", ("ant",), each=3)
        written = write_shards(tmp_path / "in", tmp_path / "out")
        with tarfile.open(written.shards[0]) as tar:
            files = {name: tar.extractfile(name).read() for name in tar.getnames()}
        assert sorted(files) == sorted(
            f"0000000{i}-{i}_x.{end}" for i, kind in enumerate(("png", "jpg", "webp")) for end in (kind, "cls")
        )
        assert files["00000001-1_x.jpg"] == (tmp_path / "in" / "ant" / "1.x.jpg").read_bytes()
        assert files["00000001-1_x.cls"] == b"0"


class TestWriting:
    def test_a_folder_that_is_not_empty_is_refused_and_left_alone(self, tmp_path):
        write_folder(tmp_path / "in")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        with pytest.raises(RunError, match="out is not empty"):
            write_shards(tmp_path / "in", tmp_path / "out")
        with pytest.raises(RunError, match="is a file"):
            write_shards(tmp_path / "in", tmp_path / "out" / "mine.txt")
        assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]

    def test_interrupted_it_leaves_nothing_and_can_begin_again(self, tmp_path):
        write_folder(tmp_path / "in", each=40)
        steps = []

        def interrupting(step):
            steps.append(step)
            assert list((tmp_path / "out").glob(".unfinished.*/*.tar"))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_shards(tmp_path / "in", tmp_path / "out", watch=interrupting)
        assert (steps[0].done, steps[0].total) == (64, 80)
        assert not list((tmp_path / "out").iterdir())
        assert write_shards(tmp_path / "in", tmp_path / "out").images == 80
        assert {file.name for file in (tmp_path / "out").iterdir()} == {
            "classes.txt",
            "images-000000.tar",
            "images-000000.tar.index.npz",
        }

    def test_a_full_disk_is_told_and_leaves_nothing(self, tmp_path, monkeypatch):
        write_folder(tmp_path / "in")

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(RunError, match="No space left on device; free some space"):
            write_shards(tmp_path / "in", tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    @pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
    @pytest.mark.parametrize("moved", [0, 1])
    def test_a_kill_leaves_nothing_that_is_taken_for_all_of_it(self, tmp_path, moved):
        """Killed while it writes, or when a tar has its name already and its index has not."""
        write_folder(tmp_path / "in", each=40)
        out = tmp_path / "out"
        words = [str(tmp_path / "in"), str(out), str(moved)]
        assert subprocess.run([sys.executable, "-c", KILLED, *words]).returncode == -signal.SIGKILL
        with pytest.raises(DataError, match="cut off|no shards"):
            find_shards(out)
        if moved:
            with pytest.raises(RunError, match="writing was cut off; delete the folder"):
                write_shards(tmp_path / "in", out)
            shutil.rmtree(out)
        write_shards(tmp_path / "in", out)
        assert not list(out.glob(".*"))
        assert len(find_shards(out)) == 1

    def test_what_is_no_image_or_too_small_a_shard_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="is not a folder"):
            write_shards(tmp_path / "in", tmp_path / "out")
        write_folder(tmp_path / "in")
        with pytest.raises(ConfigError, match="shard_mib must be >= 1"):
            write_shards(tmp_path / "in", tmp_path / "out", shard_mib=0)
        (tmp_path / "in" / "ant" / "z.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"z.png is not a readable image \(of no known format\)"):
            write_shards(tmp_path / "in", tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())


class TestLabels:
    @pytest.mark.parametrize(
        "labels", [[2, 0, 1, 2], [b'{"label": 2}', b'{"cls": 0}', b'{"label": "1"}', b'{"cls":2}']]
    )
    def test_numbers(self, tmp_path, labels):
        write_tar(tmp_path / "a.tar", samples(labels, "cls" if isinstance(labels[0], int) else "json"))
        images = read(tmp_path / "a.tar")
        assert images.labels.tolist() == [2, 0, 1, 2]
        assert images.class_names == ("0", "1", "2")

    def test_names_and_a_list_of_them(self, tmp_path):
        write_tar(tmp_path / "a.tar", samples(["bee", "ant", "bee", "ant", "cow", "cow"]))
        assert read(tmp_path / "a.tar").class_names == ("ant", "bee", "cow")
        (tmp_path / "classes.txt").write_text("cow\nbee\nant\n")
        images = read(tmp_path / "a.tar")
        assert images.class_names == ("cow", "bee", "ant")
        assert images.labels.tolist() == [1, 2, 1, 2, 0, 0]

    def test_json_without_a_label_is_no_label(self, tmp_path):
        write_tar(tmp_path / "a.tar", samples([b'{"caption": "a cat"}'] * 5, "json"))
        assert read(tmp_path / "a.tar").labels is None

    @pytest.mark.parametrize(
        ("labels", "suffix", "told"),
        [
            ([0, None, 1, 0, 1], "cls", "1 of 5 images have no label"),
            ([0, -1, 1, 0, 1], "cls", "labels must be >= 0, found -1 to 1; the first is -1, of image 1 "),
            (["x", b"", "x", "x", "x"], "cls", r"a.tar: 0001.cls: a label must be .* found ''"),
            (["{", "{", "{"], "json", "0000.json is not readable"),
            ([b'{"label": 1.5}'], "json", "found 1.5"),
            ([b'{"label": true}'], "json", "found True"),
            ([b'{"label": 1000000000000000000}'], "json", "at most 18 digits"),
            ([b"\xff\xfe"], "cls", "0000.cls is not readable"),
            ([b"1" * 2**21], "cls", "too many for a label"),
        ],
    )
    def test_wrong_labels_are_named(self, tmp_path, labels, suffix, told):
        write_tar(tmp_path / "a.tar", samples(labels, suffix))
        with pytest.raises(DataError, match=told):
            read(tmp_path / "a.tar")

    def test_a_list_of_classes_must_have_them_all(self, tmp_path):
        (tmp_path / "classes.txt").write_text("ant\n")
        write_tar(tmp_path / "a.tar", samples([0, 1, 0, 1, 1]))
        with pytest.raises(DataError, match=r"labels must be in \[0, 1\).*found 0 to 1"):
            read(tmp_path / "a.tar")
        write_tar(tmp_path / "a.tar", samples(["bee"] * 5))
        with pytest.raises(DataError, match="'bee' is not among the 1 classes"):
            read(tmp_path / "a.tar")


class TestPlaces:
    def test_braces_globs_lists_and_folders(self, tmp_path):
        for i in range(12):
            write_tar(tmp_path / f"x-{i:03d}.tar", [(f"{i}.png", picture(20 * i))])
        write_index(tmp_path / "x-003.tar")
        for place, wanted in (
            ("x-{000..011}.tar", range(12)),
            ("x-{003..005}.tar", range(3, 6)),
            ("x-0{0,1}{0..1}.tar", [0, 1, 10, 11]),
            ("x-00?.tar", range(10)),
            ("x-00*", range(10)),
            ("x-{001,00[34]}.tar", [1, 3, 4]),
            ("", range(12)),
        ):
            levels = read(tmp_path / place).store.pixels[:, 0, 0, 0]
            assert levels.tolist() == [20 * i for i in wanted], place

    def test_what_is_missing_is_named(self, tmp_path):
        write_tar(tmp_path / "x-0.tar", [("0.png", picture(0))])
        with pytest.raises(DataError, match=r"2 of 3 shards are missing, the first is .*x-1.tar"):
            find_shards(tmp_path / "x-{0..2}.tar")
        for place in ("y-*.tar", "y.tar", "none/x-{0..2}.tar"):
            with pytest.raises(DataError, match="there are no shards"):
                find_shards(tmp_path / place)
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match=r"there are no shards .*\*.tar"):
            find_shards(tmp_path / "empty")


class TestTars:
    def test_samples_are_found_among_other_things(self, tmp_path):
        """Upper case, folders, several dots, masks, metadata, files of the Mac, links."""
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for name, content in (
                ("./a.b/0001.JPG", picture(10, kind="jpeg")),
                ("./a.b/._0001.JPG", b"resource fork"),
                ("./a.b/0001.seg.png", picture(99)),
                ("./a.b/0001.cls", b"0"),
                ("README", b"not a sample"),
                ("0002.json", b'{"label": 1}'),
                ("0002.webp", picture(200, kind="webp")),
                ("x" * 150 + "/0003.png", picture(100)),  # needs an extended header
                ("x" * 150 + "/0003.cls", b"2"),
                ("lonely.cls", b"7"),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
                member = tarfile.TarInfo(f"0004-{kind.decode()}.png")
                member.type, member.linkname = kind, "/etc/passwd"
                tar.addfile(member)
        images = read(tmp_path / "a.tar")
        assert images.labels.tolist() == [0, 1, 2]
        assert [round(level, -1) for level in images.store.pixels[:, 0, 0, 0].tolist()] == [10, 200, 100]

    def test_names_that_lead_out_write_nothing(self, tmp_path):
        (tmp_path / "inner").mkdir()
        before = sorted(tmp_path.rglob("*"))
        write_tar(tmp_path / "inner" / "a.tar", [("../../evil.png", picture(50)), (f"{tmp_path}/abs.png", picture(60))])
        assert read(tmp_path / "inner" / "a.tar").store.pixels[:, 0, 0, 0].tolist() == [50, 60]
        assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "inner" / "a.tar"])

    def test_wherever_a_tar_is_cut_off_that_is_told(self, tmp_path):
        write_tar(tmp_path / "a.tar", samples([0, 1, 0]))
        whole = (tmp_path / "a.tar").read_bytes()
        with tarfile.open(tmp_path / "a.tar") as tar:
            tar.getmembers()
            end = tar.offset
        for length in [*range(1, end, 100), *range(512, end + 1, 512), end + 511]:
            (tmp_path / "a.tar").write_bytes(whole[:length])
            with pytest.raises(DataError, match="a.tar (is not a whole uncompressed tar|breaks off at byte)"):
                read(tmp_path / "a.tar")
        (tmp_path / "a.tar").write_bytes(whole[: end + 512])
        assert len(read(tmp_path / "a.tar")) == 3

    def test_a_broken_header_compression_and_emptiness_are_told(self, tmp_path):
        write_tar(tmp_path / "a.tar", samples([None] * 3))
        whole = (tmp_path / "a.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(whole[:1024] + b"?" * 512 + whole[1536:])
        with pytest.raises(DataError, match="breaks off at byte 1024"):
            read(tmp_path / "a.tar")
        for content in (gzip.compress(whole), b"", b"\0" * 100):
            (tmp_path / "a.tar").write_bytes(content)
            with pytest.raises(DataError, match=r"not a whole uncompressed tar .*unpack a .tar.gz"):
                read(tmp_path / "a.tar")
        write_tar(tmp_path / "a.tar", [("a.txt", b"x")])
        with pytest.raises(DataError, match=r"no images in 1 shards .*jpg, jpeg, png, webp"):
            read(tmp_path / "a.tar")

    def test_two_images_in_one_sample_and_unreadable_ones_are_named(self, tmp_path):
        write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("1.jpg", picture(1, kind="jpeg"))])
        with pytest.raises(DataError, match="the sample 1 has 2 images"):
            read(tmp_path / "a.tar")
        write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("2.jpg", b"no image")])
        with pytest.raises(DataError, match=r"^2.jpg in .*a.tar: it is not a readable image \(of no known format\)"):
            read(tmp_path / "a.tar")
        write_tar(tmp_path / "a.tar", [("1.png", picture(1)[:50])])
        with pytest.raises(DataError, match=r"^1.png in .*a.tar: it is not a readable image"):
            read(tmp_path / "a.tar")


class TestStreaming:
    @pytest.fixture
    def shards(self, tmp_path, monkeypatch):
        write_folder(tmp_path / "in", ("ant", "bee", "cow"), each=10)
        write_shards(tmp_path / "in", tmp_path / "out")
        first = (tmp_path / "out" / "images-000000.tar").rename(tmp_path / "out" / "images-000001.tar")
        write_tar(tmp_path / "out" / "images-000000.tar", [("0.png", picture(9)), ("0.cls", b"1")])
        assert first.exists()
        return streamed(tmp_path / "out", monkeypatch)

    def test_any_order_is_the_resident_one(self, shards):
        resident = shards.store.resident()
        assert isinstance(shards.store, ShardImages)
        order = torch.randperm(len(shards), generator=torch.Generator().manual_seed(0))
        assert torch.equal(shards.store.read(order), resident.pixels[order])
        chosen = order[:7]
        assert torch.equal(shards.store.select(chosen).read(torch.tensor([6, 0])), resident.pixels[chosen[[6, 0]]])

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_from_shards_are_those_from_memory(self, shards, workers):
        resident = replace(shards, store=ResidentImages(shards.store.resident().pixels))
        streaming = Batches(shards, batch_size=8, seed=3, workers=workers)
        memory = Batches(resident, batch_size=8, seed=3)
        for step in (0, 1, 2, 7, 4):
            assert torch.equal(streaming.at(step).images, memory.at(step).images)
            assert torch.equal(streaming.at(step).labels, memory.at(step).labels)

    def test_the_fingerprint_follows_order_labels_and_size(self, tmp_path):
        prints = set()
        for i, (labels, size) in enumerate([([0, 1, 0], None), ([0, 1, 1], None), ([0, 1, 0], 9), ([0, 1], None)]):
            (tmp_path / str(i)).mkdir()
            write_tar(tmp_path / str(i) / "a.tar", samples([*labels, 0, 1, 0]))
            prints.add(read(tmp_path / str(i) / "a.tar", size=size).fingerprint)
        assert len(prints) == 4
        (tmp_path / "again").mkdir()
        write_tar(tmp_path / "again" / "a.tar", samples([0, 1, 0, 0, 1, 0]), mtime=1e9)
        assert read(tmp_path / "again" / "a.tar").fingerprint in prints

    def test_a_shard_that_shrinks_or_goes_while_it_is_used_is_told(self, shards):
        last = shards.store.shards[-1]
        os.truncate(last, int(shards.store.starts[-1]) + 5)
        with pytest.raises(DataError, match="ends before an image that began in it"):
            shards.store.read(torch.tensor([len(shards) - 1]))
        last.unlink()
        with pytest.raises(DataError, match="cannot read .*images-000001.tar: No such file"):
            shards.store.read(torch.tensor([len(shards) - 1]))

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
    @pytest.mark.parametrize("workers", [0, 1])
    def test_memory_objects_and_files_stay_flat_over_epochs(self, shards, workers):
        batches = Batches(shards, batch_size=8, seed=0, workers=workers)
        steps = len(batches)

        def after_epochs(first, count):
            for step in range(first * steps, (first + count) * steps):
                batches.at(step)
            gc.collect()
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return len(gc.get_objects()), len(list(Path("/proc/self/fd").iterdir())), resident

        objects, files, resident = after_epochs(0, 3)
        later_objects, later_files, later_resident = after_epochs(3, 12 if workers else 60)
        assert later_objects - objects < (300 if workers else 50)  # torch remembers its last 128 shared storages
        assert later_files <= files
        assert later_resident - resident < 8 * 2**20


def test_a_set_smaller_than_a_batch_is_one_sentence(tmp_path):
    write_tar(tmp_path / "a.tar", samples([None] * 3))
    with pytest.raises(ConfigError, match=r"batch_size must be in \[1, 3\] for wds:"):
        Batches(read(tmp_path / "a.tar"), batch_size=8, seed=0)


def test_one_channel_becomes_three(tmp_path):
    content = io.BytesIO()
    Image.new("L", (9, 9), 77).save(content, "png")
    write_tar(tmp_path / "a.tar", [("a.png", content.getvalue())])
    assert read(tmp_path / "a.tar").store.pixels.unique().tolist() == [77]


def test_json_and_cls_may_stand_together(tmp_path):
    write_tar(
        tmp_path / "a.tar",
        [(f"{i}.{end}", c) for i in range(2) for end, c in (
            ("json", json.dumps({"label": 5}).encode()), ("png", picture(i)), ("cls", b"1"))],
    )  # fmt: skip
    assert read(tmp_path / "a.tar").labels.tolist() == [1, 1]
