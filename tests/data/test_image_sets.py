import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data.batches import Batches, in_order
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import FileImages, decode, file_set, fit_square, resident_set
from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import ConfigError, DataError, NndlError


def numbered(count, size=8):
    """Image i is grey level i."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, size, size).contiguous()


def write_archive(path, count=20, size=8, **other):
    arrays = {"images": numbered(count, size).permute(0, 2, 3, 1).numpy(), "labels": np.arange(count) % 4, **other}
    np.savez(path, **arrays)


def write_folder(root, classes=("ant", "bee"), each=6, size=(12, 10)):
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", size, (c * 100, i * 20, 7)).save(root / name / f"{i}.png")


class TestArrays:
    def test_one_archive_is_cut_in_two(self, tmp_path):
        write_archive(tmp_path / "set.npz")
        train = load_image_set(f"arrays:{tmp_path}/set.npz", "train")
        test = load_image_set(f"arrays:{tmp_path}/set.npz", "test")
        assert (len(train), len(test)) == (16, 4)
        assert test.labels.bincount().tolist() == [1, 1, 1, 1]
        levels = torch.cat([train.store.pixels, test.store.pixels])[:, 0, 0, 0]
        assert sorted(levels.tolist()) == list(range(20))

    def test_a_pair_is_its_own_splits_and_test_is_never_unlabelled(self, tmp_path):
        write_archive(tmp_path / "set-train.npz", 12)
        write_archive(tmp_path / "set-test.npz", 8)
        name = f"arrays:{tmp_path}/set.npz"
        assert [len(load_image_set(name, split)) for split in ("train", "test", "unlabelled")] == [12, 8, 12]
        assert load_image_set(name, "unlabelled").labels is None

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"images": np.zeros((4, 8, 8, 3), np.float32)}, "images must be uint8"),
            ({"images": np.zeros((4, 8, 8), np.uint8)}, "images must be uint8"),
            ({"labels": np.zeros(3, int)}, "labels must be integers"),
            ({"labels": np.full(20, 0.5)}, "labels must be integers"),
            ({"labels": np.array([0] * 13 + [-2] * 7)}, "labels must be >= 0, found -2 in row 13"),
            ({"class_names": np.array(["a"])}, r"labels must be in \[0, 1\).*found 1 in row 1;.*name all 4 classes"),
            ({"class_names": np.array([["a"] * 4])}, "class_names must name all 4 classes in one row"),
            ({"images": np.array([{}] * 20, dtype=object)}, "not a readable .npz"),
        ],
    )
    def test_wrong_arrays_are_named(self, tmp_path, other, message):
        write_archive(tmp_path / "set.npz", **other)
        with pytest.raises(DataError, match=message):
            load_image_set(f"arrays:{tmp_path}/set.npz", "train")

    def test_missing_and_damaged_files_are_named(self, tmp_path):
        with pytest.raises(DataError, match="nor the pair set-train.npz"):
            load_image_set(f"arrays:{tmp_path}/set.npz", "train")
        (tmp_path / "set.npz").write_bytes(b"PK\x03\x04 not a zip")
        with pytest.raises(DataError, match="set.npz is not a readable"):
            load_image_set(f"arrays:{tmp_path}/set.npz", "train")


class TestFolders:
    def test_class_folders(self, tmp_path):
        write_folder(tmp_path)
        train = load_image_set(f"folder:{tmp_path}", "train")
        assert train.class_names == ("ant", "bee")
        assert train.image_size == 10
        for pixels, label in zip(train.store.pixels, train.labels, strict=True):
            assert pixels[0].unique().tolist() == [100 * label]

    def test_own_splits(self, tmp_path):
        write_folder(tmp_path / "train")
        write_folder(tmp_path / "val", each=2)
        assert len(load_image_set(f"folder:{tmp_path}", "test")) == 4

    def test_flat_folders_are_for_pretraining(self, tmp_path):
        for i in range(3):
            Image.new("L", (20, 30), i).save(tmp_path / f"{i}.jpg")
        assert len(load_image_set(f"folder:{tmp_path}", "unlabelled", image_size=16)) == 3
        with pytest.raises(DataError, match="pretraining only"):
            load_image_set(f"folder:{tmp_path}", "train")

    def test_empty_missing_and_broken(self, tmp_path):
        with pytest.raises(DataError, match="is not a folder"):
            load_image_set(f"folder:{tmp_path}/none", "train")
        with pytest.raises(DataError, match="no images in"):
            load_image_set(f"folder:{tmp_path}", "train")
        (tmp_path / "x.png").write_bytes(b"not a png")
        with pytest.raises(DataError, match="x.png is not a readable image"):
            load_image_set(f"folder:{tmp_path}", "unlabelled")


def test_unknown_names_get_near_matches():
    with pytest.raises(ConfigError, match="did you mean 'cifar10"):
        load_image_set("cifar1000", "train")
    with pytest.raises(ConfigError, match="known: .*folder:PATH"):
        load_image_set("xyz", "train")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "tiny-imagenet"])
def test_offline_the_error_names_the_folder_and_the_files(tmp_path, monkeypatch, name):
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DataError, match=rf"{name} is not in {tmp_path} \(looked for .*no network.*--data-root"):
        load_image_set(name, "train", data_root=tmp_path)


def test_the_demo_set_is_there_without_anything(tmp_path, monkeypatch):
    monkeypatch.setenv("NNDL_SUITE_DATA", str(tmp_path))
    train, test = load_image_set("demo", "train"), load_image_set("demo", "test", image_size=24)
    assert train.num_classes == test.num_classes > 1
    assert (train.image_size, test.image_size) == (32, 24)


@pytest.mark.realdata
def test_real_cifar100(real_data):
    train = load_image_set("cifar100", "train", data_root=real_data)
    assert (train.image_size, train.num_classes) == (32, 100)
    assert train.name == "cifar100"
    kept, held_out = stratified_split(train.labels, held_out=5000, seed=0)
    assert len(kept) + len(held_out) == len(train)
    counts = train.labels[held_out].bincount(minlength=100)
    assert counts.min() >= 49
    assert counts.max() <= 51


class TestSplits:
    @pytest.mark.parametrize("held_out", [1, 7, 20, 33])
    def test_every_class_in_proportion(self, held_out):
        labels = torch.tensor([0] * 30 + [1] * 12 + [2] * 3 + [3] * 55)
        kept, held = stratified_split(labels, held_out=held_out, seed=3)
        assert sorted([*kept.tolist(), *held.tolist()]) == list(range(100))
        expected = labels.bincount() * held_out / 100
        assert ((labels[held].bincount(minlength=4) - expected).abs() < 1).all()

    def test_the_seed_decides(self):
        labels = torch.arange(100) % 10
        a, b, c = (stratified_split(labels, held_out=10, seed=s)[1] for s in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    @pytest.mark.parametrize("held_out", [0, 10])
    def test_nothing_or_everything_is_refused(self, held_out):
        with pytest.raises(NndlError, match="cannot hold out"):
            stratified_split(torch.arange(10), held_out=held_out, seed=0)


class TestBatches:
    def images(self, count=10):
        return resident_set("numbers", numbered(count), torch.arange(count), [str(i) for i in range(count)])

    def test_an_epoch_sees_every_image_once_in_another_order_each_time(self):
        batches = Batches(self.images(), batch_size=5, seed=0)
        epochs = [torch.cat([batches.at(s).labels for s in (e, e + 1)]).tolist() for e in (0, 2, 4)]
        assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
        assert len({tuple(epoch) for epoch in epochs}) == 3

    def test_images_labels_and_indices_belong_together(self):
        batch = Batches(self.images(), batch_size=4, seed=1).at(17)
        assert batch.images[:, 0, 0, 0].tolist() == batch.labels.tolist() == batch.indices.tolist()

    @pytest.mark.parametrize("workers", [0, 1])
    def test_from_disk_is_the_same_as_from_memory_also_after_a_jump(self, tmp_path, workers):
        write_folder(tmp_path, size=(8, 8))
        files = tuple(sorted(tmp_path.glob("*/*.png")))
        store, labels = FileImages(files, 8), torch.arange(12)
        disk = Batches(file_set("d", store, labels, list("abcdefghijkl")), batch_size=5, seed=2, workers=workers)
        memory = Batches(resident_set("m", store.resident().pixels, labels, list("abcdefghijkl")), batch_size=5, seed=2)
        for step in (0, 1, 2, 3, 9, 4):
            assert torch.equal(disk.at(step).images, memory.at(step).images)

    def test_in_order_leaves_nothing_out(self):
        assert torch.cat([batch.labels for batch in in_order(self.images(), batch_size=4)]).tolist() == list(range(10))

    def test_a_batch_larger_than_the_set_is_refused(self):
        with pytest.raises(ConfigError, match=r"batch_size must be in \[1, 10\] for numbers"):
            Batches(self.images(), batch_size=11, seed=0)


class TestPixels:
    def test_fitting_is_pillows_bilinear_reduction(self):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
        ours = fit_square(torch.from_numpy(image).permute(2, 0, 1)[None], 10)[0]
        theirs = Image.fromarray(image).resize((10, 15), Image.Resampling.BILINEAR).crop((0, 2, 10, 12))
        difference = ours.permute(1, 2, 0).numpy().astype(int) - np.asarray(theirs).astype(int)
        assert abs(difference).max() <= 1

    def test_decoding_keeps_the_middle(self, tmp_path):
        image = np.zeros((10, 30, 3), np.uint8)
        image[:, 10:20] = 200
        Image.fromarray(image).save(tmp_path / "a.png")
        assert decode(tmp_path / "a.png", 10).unique().tolist() == [200]

    def test_the_fingerprint_follows_pixels_labels_and_order(self):
        base = resident_set("a", numbered(4), torch.arange(4), "abcd")
        others = [
            resident_set("a", numbered(4) + 1, torch.arange(4), "abcd"),
            resident_set("a", numbered(4), torch.arange(4).flip(0), "abcd"),
            base.subset(torch.tensor([1, 0, 2, 3])),
        ]
        prints = {base.fingerprint, *(other.fingerprint for other in others)}
        assert len(prints) == 4
        assert resident_set("b", numbered(4), torch.arange(4), "abcd").fingerprint == base.fingerprint


def test_a_place_is_no_name_and_what_it_may_be_is_said(tmp_path):
    (tmp_path / "shard.tar").touch()
    (tmp_path / "set.npz").touch()
    for place, name in ((tmp_path, "folder:"), (tmp_path / "shard.tar", "wds:"), (tmp_path / "set.npz", "arrays:")):
        with pytest.raises(ConfigError, match=rf"is a file or folder; say what it holds: {name}{place}"):
            load_image_set(str(place), "train")
