"""Maps, neighbours and the turn as the page takes them from files."""

import json
import re

import numpy as np
import pytest
from made_runs import embedding, neighbours, turn
from PIL import Image

from nndl_suite.errors import RunError
from nndl_suite.report.embedding import map_pictures, read_neighbours
from nndl_suite.report.turning import read_turn


def _points(svg):
    return re.findall(r"M(\d+) (\d+)", svg)


def test_a_map_has_every_image_once_and_up_is_up(tmp_path):
    embedding(tmp_path, "imagenet", labels=True)
    xy = np.array(json.loads((tmp_path / "embedding.json").read_text())["maps"][0]["xy"])
    (picture,) = map_pictures(tmp_path, ("cat", "dog", "eel"), {})
    drawn = np.array(_points(picture.svg), dtype=float)
    order = np.argsort(np.arange(200) % 3, kind="stable")  # class by class
    assert len(drawn) == 200
    scale = np.ptp(drawn[:, 0]) / np.ptp(xy[:, 0])
    np.testing.assert_allclose(np.ptp(drawn[:, 1]) / np.ptp(xy[:, 1]), scale, rtol=0.02)  # one scale for both
    np.testing.assert_allclose(drawn[:, 0] - drawn[0, 0], scale * (xy[order, 0] - xy[order[0], 0]), atol=1.01)
    np.testing.assert_allclose(drawn[:, 1] - drawn[0, 1], -scale * (xy[order, 1] - xy[order[0], 1]), atol=1.01)
    assert [key.label for key in picture.key] == ["cat", "dog", "eel"]
    assert "37.50 %" in picture.caption


def test_without_labels_one_colour_and_no_key(tmp_path):
    embedding(tmp_path, "simclr", labels=False)
    (picture,) = map_pictures(tmp_path, (), {})
    assert picture.key == ()
    assert picture.svg.count("<path") == 1
    assert "training images" in picture.alt


def test_past_ten_groups_crosses_take_the_colours_again(tmp_path):
    embedding(tmp_path, "x", labels=True, classes=12)
    (picture,) = map_pictures(tmp_path, [str(i) for i in range(12)], {})
    looks = {(key.colour, key.cross) for key in picture.key}
    assert len(looks) == 12
    assert sum(key.cross for key in picture.key) == 2
    (one,) = map_pictures(tmp_path, [str(i) for i in range(60)], {})
    assert one.key == ()
    (grouped,) = map_pictures(tmp_path, [str(i) for i in range(60)], {"a": range(6), "b": range(6, 60)})
    assert [key.label for key in grouped.key] == ["a", "b"]


def test_images_that_all_lie_at_one_place(tmp_path):
    embedding(tmp_path, "x", labels=False)
    content = json.loads((tmp_path / "embedding.json").read_text())
    content["maps"][0]["xy"] = [[0.5, 0.5]] * 3
    (tmp_path / "embedding.json").write_text(json.dumps(content))
    (picture,) = map_pictures(tmp_path, (), {})
    assert set(_points(picture.svg)) == {("8", "8")}


def test_neighbours_agree_or_do_not(tmp_path):
    neighbours(tmp_path, labels=True)
    found = read_neighbours(tmp_path)
    assert len(found.queries) == 8
    assert found.agreement == pytest.approx(0.6)
    assert [one.agrees for one in found.queries[0].neighbours] == [True, True, True, False, False]
    neighbours(tmp_path, labels=False)
    assert read_neighbours(tmp_path).agreement is None


def test_a_picture_from_elsewhere_is_refused(tmp_path):
    neighbours(tmp_path, labels=True)
    file = tmp_path / "neighbours.json"
    file.write_text(file.read_text().replace("data:image/jpeg", "https://example.org/x"))
    with pytest.raises(ValueError, match="data:image"):
        read_neighbours(tmp_path)


def test_runs_without_these_files(tmp_path):
    assert list(map_pictures(tmp_path, (), {})) == []
    assert read_neighbours(tmp_path) is None
    assert read_turn(tmp_path) is None


def test_the_turn_knows_its_frames(tmp_path):
    turn(tmp_path)
    found = read_turn(tmp_path)
    assert (found.width, found.height, found.rows) == (40, 30, 6)
    (tmp_path / "turn.jpg").write_bytes(b"no picture")
    with pytest.raises(RunError, match="evaluate the run again"):
        read_turn(tmp_path)
    Image.new("RGB", (6, 6)).save(tmp_path / "turn.jpg")
    assert read_turn(tmp_path).width == 1
