import numpy as np
import pytest

from nndl_suite.errors import ConfigError
from nndl_suite.representation.scaling_curve import fit_scaling_curve

SIZES = np.array([2500, 5000, 12500, 25000, 50000] * 2)


def test_a_planted_power_law_is_found():
    error = 0.3 + 0.12 * (SIZES / 50000) ** -0.4
    curve = fit_scaling_curve(SIZES, 1 - error, seed=0)
    assert curve.form == "power law"
    assert (curve.a, curve.b, curve.c) == pytest.approx((0.3, 0.12, 0.4), abs=3e-3)
    assert curve.rmse < 1e-5
    assert curve.images[0] == pytest.approx(2500)
    assert curve.images[-1] == pytest.approx(50000)
    expected = 1 - 0.3 - 0.12 * (np.array(curve.images) / 50000) ** -0.4
    np.testing.assert_allclose(curve.accuracy, expected, atol=1e-4)
    np.testing.assert_allclose(curve.low, curve.high, atol=1e-4)  # nothing is uncertain


def test_the_band_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 1 - 0.3 - 0.12 * (SIZES / 50000) ** -0.4
    inside = []
    for repeat in range(20):
        curve = fit_scaling_curve(SIZES, truth + rng.normal(0, 0.01, len(SIZES)), seed=repeat)
        middle = len(curve.images) // 2
        at = 1 - 0.3 - 0.12 * (curve.images[middle] / 50000) ** -0.4
        inside.append(curve.low[middle] <= at <= curve.high[middle])
        assert all(low <= high for low, high in zip(curve.low, curve.high, strict=True))
    assert np.mean(inside) > 0.8


def test_few_sizes_give_the_straight_line_of_least_squares():
    sizes, accuracies = np.array([100, 200, 400] * 2), np.array([0.2, 0.3, 0.41, 0.21, 0.28, 0.4])
    curve = fit_scaling_curve(sizes, accuracies, seed=0)
    assert curve.form == "log-linear"
    assert curve.c is None
    design = np.stack([np.ones(6), -np.log(sizes / 400)], axis=1)
    np.testing.assert_allclose([curve.a, curve.b], np.linalg.lstsq(design, 1 - accuracies, rcond=None)[0])
    assert curve.accuracy[-1] == pytest.approx(1 - curve.a)


def test_flat_falling_and_perfect_scores_are_fitted_without_a_word():
    for accuracies in (np.full(10, 0.2), 0.5 - 0.05 * np.log(SIZES / 2500), np.ones(10)):
        curve = fit_scaling_curve(SIZES, accuracies, seed=0)
        assert np.isfinite(curve.accuracy + curve.low + curve.high).all()
        assert curve.rmse < 0.01


def test_the_seed_decides_the_band():
    accuracies = 0.5 + 0.05 * np.random.default_rng(0).normal(size=6)
    first, again, other = (fit_scaling_curve([100, 200, 400] * 2, accuracies, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low


@pytest.mark.parametrize("sizes", [[100, 100, 100], [100, 200]])
def test_too_few_points(sizes):
    with pytest.raises(ConfigError, match="2 different sizes and >= 3 points"):
        fit_scaling_curve(sizes, [0.5] * len(sizes), seed=0)
