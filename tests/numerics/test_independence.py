"""What must not matter does not: how rows are cut into batches, how many threads there are, how a disk lists files."""

import os
import random
from contextlib import contextmanager

import numba
import numpy as np
import pytest
import torch
from made import SIZE, arm, finetuning, image_set, photos, pretraining, reconstruction, source
from PIL import Image

from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.scores import accuracy_and_loss, score_network
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.demo_capture import make_demo_capture
from nndl_suite.data.write_shards import write_shards
from nndl_suite.nerf import rendering
from nndl_suite.nerf.capture import prepare_capture
from nndl_suite.nerf.gpu.field import place_field
from nndl_suite.nerf.photo_files import find_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.representation import features as features_module
from nndl_suite.representation import knn as knn_module
from nndl_suite.representation import logistic as logistic_module
from nndl_suite.representation import softmax_descent as descent_module
from nndl_suite.representation.features import extract_features
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.training.checkpoints import equal_states
from nndl_suite.training.fabric import make_fabric

FEATURES, LOSS, LOGITS, WEIGHTS = 1e-5, 1e-6, 1e-3, 1e-5
"""What another cut of the rows, or another number of threads, may change: relative, by the order of float32 sums."""


class TestBatches:
    def test_features(self, monkeypatch):
        images, found = image_set(37), []
        for rows in (1, 5, 37):
            monkeypatch.setitem(features_module._PIXELS_PER_BATCH, "cpu", rows * SIZE**2)
            found.append(extract_features(source(), images, make_fabric("cpu", "32-true")))
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=FEATURES, atol=FEATURES)

    def test_scores_of_an_arm(self):
        training, images = arm(), image_set(37)
        for index in range(3):
            training.step(index, 0.1)
        with training.scoring() as predict:
            found = [accuracy_and_loss(predict, images, batch_size=rows, device="cpu") for rows in (1, 5, 37)]
            scores = [
                score_network(predict, train=images, test=images, batch_size=rows, device="cpu") for rows in (5, 37)
            ]
        assert len({accuracy for accuracy, _ in found}) == 1
        assert [loss for _, loss in found] == pytest.approx([found[0][1]] * 3, rel=LOSS)
        assert scores[0].test_accuracy == scores[1].test_accuracy == found[0][0]
        assert scores[0].corruptions == scores[1].corruptions
        assert scores[0].nll == pytest.approx(scores[1].nll, rel=LOSS)
        assert scores[0].ece == pytest.approx(scores[1].ece, rel=1e-4, abs=1e-6)

    def test_predictions_of_a_finetuned_network(self):
        training, images = finetuning(), image_set(37)
        training.step(0, 0.1)
        found = []
        for rows in (1, 5, 37):
            training._batch_size = rows
            found.append(training.predict(images))
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])

    @pytest.mark.parametrize("protocol", ["linear", "knn"])
    def test_probes(self, monkeypatch, protocol):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(300) % 5
        rows = torch.randn(300, 12, generator=generator) + torch.nn.functional.one_hot(labels, 12)
        fitted = [LinearProbe(protocol=protocol, device="cpu").fit(rows, labels)]
        monkeypatch.setattr(logistic_module, "_ROWS", 17)
        monkeypatch.setattr(descent_module, "_ROWS", 17)
        monkeypatch.setattr(knn_module, "_SIMILARITIES", 300 * 7)
        fitted.append(LinearProbe(protocol=protocol, device="cpu").fit(rows, labels))
        assert fitted[0].fitted_.chosen == fitted[1].fitted_.chosen
        np.testing.assert_array_equal(fitted[0].predict(rows), fitted[1].predict(rows))
        if protocol == "linear":
            ours, theirs = (one.fitted_.classifier.logits(rows) for one in fitted)
            torch.testing.assert_close(ours, theirs, rtol=LOGITS, atol=LOGITS)

    @pytest.mark.parametrize("on_device", [False, True])
    def test_pictures_of_a_field_are_the_same_to_the_bit(self, monkeypatch, on_device):
        trainer, seen = reconstruction(), photos()
        for index in range(3):
            trainer.step(index, 0.1)
        field = place_field(trainer.field, torch.device("cpu")) if on_device else trainer.field
        directions = seen.directions.reshape(12, 12, 3)
        whole = rendering.render_view(field, directions, seen.field_from_camera[0])
        rows = [rendering.render_view(field, directions[i : i + 1], seen.field_from_camera[0]) for i in range(12)]
        monkeypatch.setattr(rendering, "_RAYS_AT_ONCE", 35)
        cut = rendering.render_view(field, directions, seen.field_from_camera[0])
        for name in ("rgb", "depth", "opacity"):
            by_rows = np.concatenate([getattr(row, name) for row in rows])
            if on_device:  # products of other sizes
                np.testing.assert_allclose(by_rows, getattr(whole, name), rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(by_rows, getattr(whole, name))
                np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


@contextmanager
def threads(count):
    before, compiled = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        numba.set_num_threads(compiled)


def learned(make, count):
    with threads(count):
        training = make()
        for index in range(2):
            training.step(index, 0.1)
    return training.state()


class TestThreads:
    @pytest.mark.parametrize("kind", ["method", "network"])
    def test_weights_of_networks_are_the_same_to_rounding(self, kind):
        # not AdamW, whose first steps are signs of gradients, and so of their rounding
        by_sgd = Recipe(batch_size=8, optimiser="sgd", rates=Rates(rate=1e-2, decay=0.01), warmup=0.0)
        make = (lambda: arm(by_sgd)) if kind == "network" else lambda: pretraining("simclr")
        one, two = (learned(make, count)[kind] for count in (1, 2))
        for name, value in one.items():
            torch.testing.assert_close(
                value, two[name], rtol=WEIGHTS, atol=WEIGHTS, msg=lambda told, name=name: f"{name}: {told}"
            )

    def test_a_field_is_the_same_to_the_bit(self):
        if numba.config.NUMBA_NUM_THREADS < 2:
            pytest.skip("one core")
        make = lambda: reconstruction(pose_rate=1e-3)  # noqa: E731 - as the others
        assert equal_states(learned(make, 1), learned(make, 2))

    def test_features_and_probes(self):
        rows, labels = [], torch.arange(40) % 4
        for count in (1, 2):
            with threads(count):
                found = extract_features(source(), image_set(40), make_fabric("cpu", "32-true"))
                rows.append((found, LinearProbe(protocol="linear", device="cpu").fit(found, labels).predict(found)))
        torch.testing.assert_close(rows[0][0], rows[1][0], rtol=FEATURES, atol=FEATURES)
        np.testing.assert_array_equal(rows[0][1], rows[1][1])


class _Listed:
    """What `os.scandir` gives, in another order."""

    def __init__(self, entries):
        self._entries = iter(entries)

    def __iter__(self):
        return self._entries

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass


@contextmanager
def listed_in_order(seed):
    """Disks that list their files in an order of their own, as disks do."""
    scan, names = os.scandir, os.listdir

    def shuffled(things, key):
        things = sorted(things, key=key)
        random.Random(seed).shuffle(things)
        return things

    def scandir(*place):
        with scan(*place) as entries:
            return _Listed(shuffled(entries, lambda entry: entry.name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        patch.setattr(os, "listdir", lambda *place: shuffled(names(*place), str))
        yield


def in_every_order(read):
    found = []
    for seed in range(3):
        with listed_in_order(seed):
            found.append(read())
    return found


def pictures(folder, names):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / name)


def same_sets(one, other):
    assert torch.equal(one.store.read(torch.arange(len(one))), other.store.read(torch.arange(len(other))))
    assert torch.equal(one.labels, other.labels)
    assert (one.class_names, one.fingerprint) == (other.class_names, other.fingerprint)


class TestFileOrder:
    def test_the_listing_is_another_one(self, tmp_path):
        pictures(tmp_path, [f"{i}.png" for i in range(8)])
        for listed in (lambda: tmp_path.iterdir(), lambda: tmp_path.glob("*")):
            orders = in_every_order(lambda listed=listed: tuple(file.name for file in listed()))
            assert len(set(orders)) > 1

    @pytest.mark.parametrize("splits", [("",), ("train", "test")])
    def test_class_folders(self, tmp_path, splits):
        names = [f"{split}/{name}/{i}.png" for split in splits for name in ("bee", "ant", "cat/deep") for i in range(6)]
        pictures(tmp_path, [name.lstrip("/") for name in names])
        for split in ("train", "test"):
            found = in_every_order(lambda split=split: load_image_set(f"folder:{tmp_path}", split))
            same_sets(found[0], found[1])
            same_sets(found[0], found[2])

    def test_shards(self, tmp_path):
        pictures(tmp_path / "in", [f"{name}/{i}.png" for name in ("bee", "ant") for i in range(8)])
        found = in_every_order(lambda: write_shards(tmp_path / "in", tmp_path / f"out{random.random()}", shard_mib=1))
        assert len(found) == 3
        places = sorted(tmp_path.glob("out*"))
        contents = [[tar.read_bytes() for tar in sorted(place.glob("*.tar"))] for place in places]
        assert contents[0] == contents[1] == contents[2]
        for i, tar in enumerate((places[0], places[1])):
            next(tar.glob("*.tar")).rename(tmp_path / f"part-{i}.tar")
        for place in (str(tmp_path / "part-*.tar"), str(tmp_path / "part-{0,1}.tar")):
            found = in_every_order(lambda place=place: load_image_set(f"wds:{place}", "train", data_root=tmp_path))
            same_sets(found[0], found[1])
            same_sets(found[0], found[2])

    def test_shards_named_in_another_order_have_the_same_images_under_the_same_labels(self, tmp_path):
        for shard, classes in enumerate((("bee", "ant"), ("cat", "ant"))):
            pictures(tmp_path / f"in{shard}", [f"{name}/{i}.png" for name in classes for i in range(5)])
            write_shards(tmp_path / f"in{shard}", tmp_path / f"out{shard}", shard_mib=1)
            next((tmp_path / f"out{shard}").glob("*.tar")).rename(tmp_path / f"part-{shard}.tar")
        one, other = (load_image_set(f"wds:{tmp_path}/part-{{{order}}}.tar", "train") for order in ("0,1", "1,0"))
        assert one.class_names == other.class_names
        assert len(one) == len(other)

    def test_photos_of_a_capture(self, tmp_path):
        pictures(tmp_path / "photos", ["10.png", "9.png", "1.png", "01.png", "a1.png", "A1.png", "b.png"])
        found = in_every_order(lambda: [file.name for file in find_photos(tmp_path / "photos")])
        assert found[0] == found[1] == found[2]
        assert found[0][-1] == "b.png"

        captures = in_every_order(
            lambda: prepare_capture(
                tmp_path / "photos", tmp_path / "out", masks=tmp_path / "masks", max_side=64, video_frames=5
            )
        )
        assert captures[0] == captures[1] == captures[2]

    def test_a_scene_with_poses(self, tmp_path):
        made = make_demo_capture(tmp_path / "capture", photos=8, size=(24, 18))
        found = in_every_order(lambda: [view.name for view in read_scene(made).views])
        assert found[0] == found[1] == found[2]
