"""The table from made predictions, against scipy and plain arithmetic."""

import numpy as np
import pytest
from scipy import stats

from nndl_suite.representation.study_rows import Row
from nndl_suite.representation.study_scores import SeedScore, best_row, score_rows
from nndl_suite.training.predictions import Predictions

LABELS = np.arange(200) % 4
GROUPS = {"low": (0, 1), "high": (2, 3)}
SSL = Row(kind="ssl", name="simclr on x", folder="simclr-x", method="simclr", dataset="x")
IMAGENET = Row(kind="imagenet", name="imagenet", folder="imagenet")
RANDOM = Row(kind="random", name="random", folder="random")
SCRATCH = Row(kind="scratch", name="scratch", folder="scratch", method="supervised", dataset="x")


def _scores(share, seeds, val=0.5, warning=None):
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, round(100 * share)])
        predicted = np.where(rng.random(200) < share, LABELS, (LABELS + 1) % 4)
        predictions = Predictions(predicted=predicted, labels=LABELS)
        found.append(
            SeedScore(
                seed=seed,
                test_accuracy=float(predictions.correct.mean()),
                val_accuracy=val,
                predictions=predictions,
                resolution=32,
                feature_dim=128,
                seconds=1.0,
                warning=warning,
            )
        )
    return found


def _table(*rows):
    return score_rows(rows, num_classes=4, superclasses=GROUPS)


def test_over_seeds_students_interval_and_gains_paired_by_seed():
    seeds = (0, 1, 2)
    ssl, random, scratch = _scores(0.6, seeds), _scores(0.2, seeds), _scores(0.8, seeds[::-1])
    table = _table((SSL, "linear", ssl), (RANDOM, "linear", random), (SCRATCH, "linear", scratch))
    values = [score.test_accuracy for score in ssl]
    first = table[0]
    assert first.test_accuracy == tuple(values)
    assert first.mean == pytest.approx(np.mean(values))
    assert first.ci95 == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), stats.sem(values)))
    assert first.interval == "student-t over seeds"
    paired = [a.test_accuracy - b.test_accuracy for a, b in zip(ssl, scratch[::-1], strict=True)]
    gain = first.gain_over_scratch
    assert gain is not None
    assert gain.mean == pytest.approx(np.mean(paired))
    assert gain.ci95 == pytest.approx(stats.t.interval(0.95, 2, np.mean(paired), stats.sem(paired)))
    assert gain.interval == "student-t over seeds"
    assert table[1].gain_over_random is None
    assert table[2].gain_over_scratch is None
    assert table[2].gain_over_random is not None


def test_one_seed_wilson_and_gains_paired_by_image():
    ssl, random = _scores(0.6, (0,)), _scores(0.2, (0,))
    first, _ = _table((SSL, "linear", ssl), (RANDOM, "linear", random))
    right = int(ssl[0].predictions.correct.sum())
    wilson = stats.binomtest(right, 200).proportion_ci(0.95, method="wilson")
    assert first.interval == "wilson over test images"
    assert first.ci95 == pytest.approx((wilson.low, wilson.high))
    differences = ssl[0].predictions.correct * 1.0 - random[0].predictions.correct
    gain = first.gain_over_random
    assert gain is not None
    assert gain.mean == pytest.approx(differences.mean())
    assert gain.ci95 == pytest.approx(stats.t.interval(0.95, 199, differences.mean(), stats.sem(differences)))
    assert gain.interval == "student-t over paired test images"
    assert first.gain_over_scratch is None  # there is no such row


def test_imagenet_is_one_network_whatever_the_seed_of_its_probe():
    (row,) = _table((IMAGENET, "linear", _scores(0.6, (0, 1, 2))))
    assert row.interval == "wilson over test images"
    assert row.ci95[1] - row.ci95[0] > 0.1


def test_protocols_are_kept_apart():
    table = _table(
        (SSL, "linear", _scores(0.6, (0,))),
        (SSL, "knn", _scores(0.5, (0,))),
        (RANDOM, "linear", _scores(0.2, (0,))),
        (RANDOM, "knn", _scores(0.3, (0,))),
    )
    for linear, random in ((table[0], table[2]), (table[1], table[3])):
        assert linear.gain_over_random is not None
        assert linear.gain_over_random.mean == pytest.approx(linear.mean - random.mean)


def test_gains_by_class_and_superclass_are_differences_of_accuracies():
    first, second = _table((SSL, "linear", _scores(0.6, (0, 1))), (RANDOM, "linear", _scores(0.2, (0, 1))))
    gain = first.gain_over_random
    assert gain is not None
    np.testing.assert_allclose(gain.per_class, np.subtract(first.per_class, second.per_class), atol=2e-6)
    for name, labels in GROUPS.items():
        assert first.per_superclass[name] == pytest.approx(
            np.mean([first.per_class[label] for label in labels]), abs=2e-6
        )
        assert gain.per_superclass[name] == pytest.approx(
            first.per_superclass[name] - second.per_superclass[name], abs=2e-6
        )
    assert np.mean(first.per_class) == pytest.approx(first.mean, abs=2e-6)


def test_a_warning_of_any_seed_is_the_rows():
    calm, worried = _scores(0.5, (0,)), _scores(0.5, (1,), warning="collapsed")
    first, second = _table((SSL, "linear", calm + worried), (RANDOM, "linear", _scores(0.1, (0, 1))))
    assert (first.warning, second.warning) == ("collapsed", None)


def test_the_best_row_is_chosen_on_validation_images():
    table = _table(
        (SSL, "linear", _scores(0.3, (0,), val=0.6)),
        (IMAGENET, "linear", _scores(0.9, (0,), val=0.5)),
        (SSL, "knn", _scores(0.9, (0,), val=0.99)),
        (SCRATCH, "linear", _scores(0.9, (0,), val=1.0)),
    )
    assert best_row(table, "linear", ("ssl", "imagenet", "random")) is table[0]
    assert best_row(table, "linear", ("imagenet",)) is table[1]
