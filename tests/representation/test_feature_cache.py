"""Features that were kept are those that would be extracted, and nothing else is ever taken for them."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data.image_set import FileImages, file_set, resident_set
from nndl_suite.data.mirror import mirrored
from nndl_suite.models.normalisation import IMAGENET
from nndl_suite.representation import feature_cache
from nndl_suite.representation.feature_cache import FeatureReader, cache_folder, feature_key, find_features
from nndl_suite.representation.features import extract_features, load_feature_source
from nndl_suite.training.fabric import make_fabric


@pytest.fixture(scope="module")
def fabric():
    return make_fabric("cpu", "32-true")


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return resident_set("noise", pixels, torch.arange(9) % 3, ("a", "b", "c"))


@pytest.fixture
def source(images):
    return load_feature_source("random", images, backbone="resnet18-slim")


def _forbidden(*_args, **_kwargs):
    raise AssertionError("features were extracted again")


def test_a_second_time_they_are_read_to_the_last_bit(source, images, fabric, tmp_path, monkeypatch):
    fresh = extract_features(source, images, fabric)
    first = find_features(source, images, fabric, cache=tmp_path)
    assert torch.equal(first.features, fresh)
    assert not first.cached
    monkeypatch.setattr(feature_cache, "extract_features", _forbidden)
    second = find_features(source, images, fabric, cache=tmp_path)
    assert torch.equal(second.features, fresh)
    assert second.cached
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("resnet18-slim-16px-")
    second.features.zero_()  # what is done to them stays in memory
    assert torch.equal(find_features(source, images, fabric, cache=tmp_path).features, fresh)


def test_without_a_cache_nothing_is_kept(source, images, fabric, tmp_path):
    found = find_features(source, images, fabric, cache=None)
    assert (found.cached, found.note) == (False, "")
    assert not list(tmp_path.iterdir())


def test_the_backbones_bytes_are_compared_when_it_is_read(source, images, fabric, tmp_path, monkeypatch):
    forward = source.backbone.forward

    def meddling(pixels):
        source.backbone.trunk.bn1.running_mean += 1e-3
        return forward(pixels)

    monkeypatch.setattr(source.backbone, "forward", meddling)
    with pytest.raises(RuntimeError, match="bn1.running_mean"):
        find_features(source, images, fabric, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_key_follows_all_that_decides_features(source, images, fabric):
    key = feature_key(source, images, fabric)
    assert feature_key(source, images, fabric) == key
    pixels = images.store.pixels
    nudged = pixels.clone()
    nudged[4, 1, 2, 3] ^= 1
    others = [
        feature_key(replace(source, resolution=24), images, fabric),
        feature_key(replace(source, normalisation=IMAGENET), images, fabric),
        feature_key(source, images, make_fabric("cpu", "bf16-mixed")),
        feature_key(source, resident_set("noise", nudged, images.labels, images.class_names), fabric),
        feature_key(source, images.subset(torch.arange(9).flip(0)), fabric),
        feature_key(source, mirrored(images), fabric),
        feature_key(load_feature_source("random", images, backbone="resnet18-slim", seed=1), images, fabric),
        feature_key(load_feature_source("random", images, backbone="resnet18-slim", stem="imagenet"), images, fabric),
    ]
    with torch.no_grad():
        source.backbone.trunk.bn1.running_var[0] += 1e-6
    others.append(feature_key(source, images, fabric))
    assert len({key, *others}) == 1 + len(others)


def test_labels_and_names_are_no_part_of_the_key(source, images, fabric):
    renamed = resident_set("other", images.store.pixels, None, ())
    assert feature_key(source, renamed, fabric) == feature_key(source, images, fabric)


def test_a_file_that_was_overwritten_by_one_of_its_size_is_another(source, fabric, tmp_path):
    """Bitmaps of one name and size: the set's fingerprint cannot tell them apart, the key must."""
    file = tmp_path / "a.bmp"

    def keyed(shade):
        Image.new("RGB", (16, 16), (shade, 0, 0)).save(file)
        os.utime(file, ns=(0, shade))
        images = file_set("files", FileImages((file,), 16), None, ())
        return images.fingerprint, feature_key(source, images, fabric), feature_key(source, mirrored(images), fabric)

    (old_print, *old), (new_print, *new) = keyed(1), keyed(2)
    assert old_print == new_print
    assert len({*old, *new}) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"something else altogether"),
        lambda file: np.save(file, np.zeros((9, 128))),
        lambda file: np.save(file, np.zeros((8, 128), np.float32)),
        lambda file: np.save(file, np.zeros((9, 127), np.float32)),
        lambda file: np.save(file, np.asfortranarray(np.zeros((9, 128), np.float32))),
        lambda file: np.save(file, np.array([{}], dtype=object), allow_pickle=True),
    ],
    ids=["truncated", "empty", "foreign", "float64", "rows", "columns", "order", "objects"],
)
def test_a_damaged_or_foreign_file_is_made_anew(source, images, fabric, tmp_path, spoil):
    fresh = find_features(source, images, fabric, cache=tmp_path).features.clone()
    (file,) = tmp_path.iterdir()
    spoil(file)
    again = find_features(source, images, fabric, cache=tmp_path)
    assert not again.cached
    assert torch.equal(again.features, fresh)
    assert find_features(source, images, fabric, cache=tmp_path).cached


def test_no_changed_bit_is_taken_for_a_feature(source, images, fabric, tmp_path, monkeypatch):
    fresh = find_features(source, images, fabric, cache=tmp_path).features.clone()
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    monkeypatch.setattr(feature_cache, "extract_features", lambda *_, **__: fresh)
    monkeypatch.setattr(feature_cache, "_keep", lambda *_: "")
    found = []
    for place in [*range(128), *range(128, len(content), 97), *range(len(content) - 16, len(content))]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        found.append(find_features(source, images, fabric, cache=tmp_path))
        assert torch.equal(found[-1].features, fresh), place
    for keep in range(0, len(content), 97):
        file.write_bytes(content[:keep])
        assert not find_features(source, images, fabric, cache=tmp_path).cached
    assert not any(one.cached for one in found[128:])  # in the first bytes blanks may change


def test_a_full_disk_costs_the_cache_only_and_is_told(source, images, fabric, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    told = []
    found = find_features(source, images, fabric, cache=tmp_path, watch=lambda step: told.append(step.stage))
    assert torch.equal(found.features, extract_features(source, images, fabric))
    assert "No space left on device" in found.note
    assert found.note == told[-1]
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_made_is_told(source, images, fabric, tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = find_features(source, images, fabric, cache=tmp_path / "file" / "cache")
    assert "cannot be made" in found.note
    assert len(found.features) == 9


def test_the_least_used_files_make_room(source, images, fabric, tmp_path, monkeypatch):
    (tmp_path / "mine.npy").write_bytes(b"x" * 100_000)
    sources = [load_feature_source("random", images, backbone="resnet18-slim", seed=seed) for seed in range(3)]
    for age, one in enumerate(sources[:2]):
        find_features(one, images, fabric, cache=tmp_path)
        newest = max(tmp_path.glob("resnet*.npy"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(newest, (1000 + age, 1000 + age))
    assert find_features(sources[0], images, fabric, cache=tmp_path).cached  # used now: the other one is older
    monkeypatch.setattr(feature_cache, "LARGEST_BYTES", 11_000)  # two of them
    find_features(sources[2], images, fabric, cache=tmp_path)
    assert [find_features(one, images, fabric, cache=tmp_path).cached for one in (sources[0], sources[2])] == [True] * 2
    assert len(list(tmp_path.glob("resnet*.npy"))) == 2
    assert (tmp_path / "mine.npy").exists()


def test_a_reader_adds_up(source, images, fabric, tmp_path):
    reader = FeatureReader(source, fabric, tmp_path, lambda step: None)
    assert not reader.cached
    reader(images)
    reader(mirrored(images))
    assert not reader.cached
    assert reader.seconds > 0
    again = FeatureReader(source, fabric, tmp_path, lambda step: None)
    torch.testing.assert_close(again(mirrored(images)), extract_features(source, mirrored(images), fabric))
    assert again.cached


def test_where_a_setting_points(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("auto") == tmp_path / "nndl-suite" / "features"
    assert cache_folder("off") is None
    assert cache_folder(tmp_path / "x") == tmp_path / "x"
