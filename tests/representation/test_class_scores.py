import numpy as np
import pytest

from nndl_suite.report.confusion import worst_confusions
from nndl_suite.representation.class_scores import class_accuracies, group_accuracies
from nndl_suite.training.predictions import Predictions


def _run(labels, predicted):
    return Predictions(predicted=np.array(predicted), labels=np.array(labels))


def test_accuracies_against_a_loop():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 300)
    runs = [_run(labels, np.where(rng.random(300) < 0.6, labels, rng.integers(0, 6, 300))) for _ in range(3)]
    for label, found in enumerate(class_accuracies(runs, 6)):
        rights = [[p == t for t, p in zip(run.labels, run.predicted, strict=True) if t == label] for run in runs]
        assert found == pytest.approx(np.mean([np.mean(right) for right in rights]))
    (pair,) = group_accuracies(runs, {"both": (1, 4)})
    rights = [[p == t for t, p in zip(run.labels, run.predicted, strict=True) if t in (1, 4)] for run in runs]
    assert pair == pytest.approx(np.mean([np.mean(right) for right in rights]))


def test_a_class_without_images_has_no_accuracy():
    found = class_accuracies([_run([0, 0, 2], [0, 2, 2])], 3)
    np.testing.assert_array_equal(found, [0.5, np.nan, 1.0])


def test_a_group_counts_the_class_not_the_group():
    assert group_accuracies([_run([0, 1], [1, 0])], {"both": (0, 1)}).tolist() == [0]


def test_confusions_the_commonest_first():
    labels = [0] * 10 + [1] * 4 + [2] * 2
    first = _run(labels, [0] * 6 + [1] * 3 + [2] + [1] * 2 + [0] * 2 + [2, 2])
    second = _run(labels, [0] * 8 + [1] * 2 + [1] * 2 + [0] * 2 + [2, 2])
    found = worst_confusions([first, second], ["ant", "bee", "cow"], most=5)
    assert [(pair.true, pair.predicted, pair.count) for pair in found] == [
        ("ant", "bee", 2.5),
        ("bee", "ant", 2.0),
        ("ant", "cow", 0.5),
    ]
    assert [pair.share for pair in found] == [0.25, 0.5, 0.05]
    assert len(worst_confusions([first], ["ant", "bee", "cow"], most=1)) == 1
    assert worst_confusions([_run([0, 1], [0, 1])], ["ant", "bee"], most=3) == ()
