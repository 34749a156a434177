"""Neighbours against loops, and the files that a probe and a pretraining leave for people."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data.image_set import resident_set
from nndl_suite.representation.neighbours import Described, nearest, write_neighbours


def _set(n, seed, *, labels=True, size=16):
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, 3, size, size), generator=g, dtype=torch.uint8)
    return resident_set("set", pixels, torch.arange(n) % 3 if labels else None, ("cat", "dog", "eel") if labels else ())


def _features(n, seed):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def test_nearest_against_a_loop():
    queries, bank = _features(4, 0), _features(30, 1)
    found, cosines = nearest(queries, bank, 5)
    for row, query in enumerate(queries.double().numpy()):
        each = [query @ other / np.linalg.norm(query) / np.linalg.norm(other) for other in bank.double().numpy()]
        assert found[row].tolist() == np.argsort(each)[::-1][:5].tolist()
        np.testing.assert_allclose(cosines[row].numpy(), np.sort(each)[::-1][:5], rtol=1e-5)


def test_the_file_shows_small_pictures_of_the_right_images(tmp_path):
    asked = Described(images=_set(40, 0), features=_features(40, 0))
    bank = Described(images=_set(50, 1), features=_features(50, 1))
    write_neighbours(tmp_path, asked, bank)
    content = json.loads((tmp_path / "neighbours.json").read_text())
    assert content["how"] == "cosine of features, among 50 training images"
    assert [query["label"] for query in content["queries"]] == ["cat", "dog", "eel"]  # no more classes than these
    found, _ = nearest(asked.features[:3], bank.features, 5)
    for query, row in zip(content["queries"], found.tolist(), strict=True):
        assert [one["label"] for one in query["neighbours"]] == [("cat", "dog", "eel")[i % 3] for i in row]
        head, _, body = query["neighbours"][0]["image"].partition(",")
        assert head == "data:image/jpeg;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))), dtype=int)
        expected = bank.images.store.read(torch.tensor(row[:1]))[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(shown - expected).mean() < 12  # JPEG of noise; another image differs by 85


def test_an_image_is_not_its_own_neighbour(tmp_path):
    images = _set(30, 0, labels=False, size=96)
    both = Described(images=images, features=_features(30, 0))
    write_neighbours(tmp_path, both, both)
    content = json.loads((tmp_path / "neighbours.json").read_text())
    assert "the other 29" in content["how"]
    assert len(content["queries"]) == 8
    for query in content["queries"]:
        assert query["label"] is None
        assert len(query["neighbours"]) == 5
        assert max(one["similarity"] for one in query["neighbours"]) < 0.9999
        assert query["image"] not in [one["image"] for one in query["neighbours"]]
    picture = Image.open(io.BytesIO(base64.b64decode(content["queries"][0]["image"].partition(",")[2])))
    assert picture.size == (64, 64)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_images_have_few_neighbours(tmp_path, n):
    both = Described(images=_set(n, 0), features=_features(n, 0))
    write_neighbours(tmp_path, both, both)
    queries = json.loads((tmp_path / "neighbours.json").read_text())["queries"]
    assert [len(query["neighbours"]) for query in queries] == [min(5, n - 1)] * min(3, n)
