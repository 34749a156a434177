"""What a classifier takes for what, against loops and by the page that says it."""

import numpy as np
import pytest
from made_runs import comparison, predictions, probe
from reading import page_of

from nndl_suite.errors import RunError
from nndl_suite.report.confusion import confusion_table, read_confusion
from nndl_suite.training.intervals import wilson_interval
from nndl_suite.training.predictions import Predictions, read_predictions


def test_the_table_against_a_loop():
    rng = np.random.default_rng(0)
    runs = [Predictions(predicted=rng.integers(0, 4, 90), labels=np.arange(90) % 4) for _ in range(3)]
    expected = np.zeros((4, 4))
    for run in runs:
        for label, said in zip(run.labels, run.predicted, strict=True):
            expected[label, said] += 1 / 3
    np.testing.assert_allclose(confusion_table(runs, 4), expected)


def test_each_class_with_its_interval_from_the_least_accurate(tmp_path):
    predictions(tmp_path)
    view = read_confusion("a probe", [tmp_path], ["cat", "dog", "eel"])
    said = read_predictions(tmp_path)
    assert [row.accuracy for row in view.classes] == sorted(row.accuracy for row in view.classes)
    for row in view.classes:
        inside = said.labels == ["cat", "dog", "eel"].index(row.name)
        assert row.images == inside.sum() == 20
        assert row.accuracy == pytest.approx(said.correct[inside].mean())
        assert row.ci95 == pytest.approx(wilson_interval(row.accuracy, 20))
    np.testing.assert_allclose(np.sum(view.shares, axis=1), 1)


def test_seeds_are_averaged_and_lose_the_interval_of_one(tmp_path):
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        predictions(tmp_path / str(seed), seed=seed)
    view = read_confusion("an arm", [tmp_path / "0", tmp_path / "1"], ["cat", "dog", "eel"])
    both = [read_predictions(tmp_path / str(seed)).correct.mean() for seed in (0, 1)]
    assert np.mean([row.accuracy for row in view.classes]) == pytest.approx(np.mean(both))
    assert view.seeds == 2
    assert {row.ci95 for row in view.classes} == {None}


def test_many_classes_show_the_commonest_mistakes(tmp_path):
    predictions(tmp_path, classes=30, images=300)
    view = read_confusion("a probe", [tmp_path], [f"class {i}" for i in range(30)])
    assert view.shares == ()
    assert 0 < len(view.pairs) <= 12
    assert len(view.classes) == 30


def test_runs_without_answers_or_names_have_none(tmp_path):
    assert read_confusion("x", [tmp_path], ["cat"]) is None
    predictions(tmp_path)
    assert read_confusion("x", [tmp_path], []) is None


def test_answers_of_other_classes_are_told(tmp_path):
    predictions(tmp_path, classes=5)
    with pytest.raises(RunError, match=r"labels must lie in \[0, 3\), got 0 to 4"):
        read_confusion("x", [tmp_path], ["cat", "dog", "eel"])


def test_the_page_shows_probes_and_arms(tmp_path):
    _, page = page_of([probe(tmp_path), comparison(tmp_path)], tmp_path)
    for name in ("probe", "resnet18", "vit"):
        assert f"What {name} takes for what" in page.text
    assert "Mean over 2 seeds" in page.text
    shares = [float(one["style"].removeprefix("--share: ")) for one in page.named("td") if "--share" in str(one)]
    assert len(shares) == 3 * 9
    assert sum(shares) == pytest.approx(3 * 3, abs=0.02)
