import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.comparison.architectures import flops_by_stage, resolve_arms
from nndl_suite.comparison.crossing import Crossing, Curve, crossings, last_crossing, mean_curve, training_flops
from nndl_suite.comparison.recipe import Recipe


def _points(*pairs):
    return [x for x, _ in pairs], [y for _, y in pairs]


def test_one_overtakes_the_other():
    place = last_crossing(_points((0, 0.5), (10, 0.5)), _points((0, 0.0), (10, 1.0)))
    assert place == (1, pytest.approx(5.0), pytest.approx(0.5))


def test_only_the_last_crossing_counts():
    first = _points((0, 0.5), (4, 0.5))
    second = _points((0, 0.4), (1, 0.6), (2, 0.4), (3, 0.3), (4, 0.7))
    assert last_crossing(first, second) == (1, pytest.approx(3.5), pytest.approx(0.5))
    assert last_crossing(second, first) == (0, pytest.approx(3.5), pytest.approx(0.5))


def test_a_touch_is_no_crossing():
    assert last_crossing(_points((0, 0.5), (2, 0.5)), _points((0, 0.6), (1, 0.5), (2, 0.7))) is None
    assert last_crossing(_points((0, 0.5), (2, 0.5)), _points((0, 0.4), (1, 0.6), (2, 0.5))) is None  # no leader
    # equal for a while before one leads: it leads from the end of that
    second = _points((0, 0.4), (1, 0.5), (2, 0.5), (3, 0.6))
    assert last_crossing(_points((0, 0.5), (3, 0.5)), second) == (1, pytest.approx(2.0), pytest.approx(0.5))


def test_only_what_both_cover_counts():
    first = _points((0, 0.5), (2, 0.5))
    assert last_crossing(first, _points((0, 0.0), (10, 1.0))) is None  # would cross at 5, beyond the first
    assert last_crossing(first, _points((3, 0.0), (4, 1.0))) is None
    assert last_crossing(first, ([], [])) is None
    assert last_crossing(_points((1, 0.5)), _points((1, 0.4))) is None


@given(st.data())
def test_against_a_fine_comb(data):
    def curve():
        n = data.draw(st.integers(2, 6))
        steps = data.draw(st.lists(st.integers(1, 5), min_size=n, max_size=n))
        y = data.draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))
        return np.cumsum(steps).astype(float).tolist(), [value / 10 for value in y]

    first, second = curve(), curve()
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    found = last_crossing(first, second)
    if low >= high:
        assert found is None
        return
    x = np.linspace(low, high, 20_001)
    ahead = np.interp(x, *second) - np.interp(x, *first)
    ahead[np.abs(ahead) < 1e-12] = 0
    behind = np.flatnonzero(np.sign(ahead) == -np.sign(ahead[-1]))
    if ahead[-1] == 0 or not behind.size:
        assert found is None
        return
    assert found is not None
    leader, at, y = found
    assert leader == (1 if ahead[-1] > 0 else 0)
    later = np.flatnonzero((np.sign(ahead) == np.sign(ahead[-1])) & (np.arange(len(x)) > behind[-1]))[0]
    assert x[later - 1] - 1e-3 <= at <= x[later] + 1e-3
    assert y == pytest.approx(np.interp(at, *first))
    assert y == pytest.approx(np.interp(at, *second))


def _log(epochs, seconds, accuracies):
    lines = [{"step": 5, "seconds": 0.5, "loss": 1.0}]
    return lines + [
        {"step": 10 * epoch, "seconds": seconds * epoch, "loss": 1.0, "epoch": epoch, "val_accuracy": accuracy}
        for epoch, accuracy in zip(range(1, epochs + 1), accuracies, strict=True)
    ]


def test_mean_curve_of_seeds():
    logs = [_log(3, 1.0, [0.1, 0.2, 0.3]), _log(2, 3.0, [0.3, 0.2])]
    curve = mean_curve(logs, stages=[(0.0, 100)], batch_size=4)
    assert curve == Curve(
        epochs=(1, 2), flops=(3 * 100 * 40, 3 * 100 * 80), seconds=(2.0, 4.0), val_accuracy=(pytest.approx(0.2), 0.2)
    )
    assert training_flops([(0.0, 100)], steps=10, total_steps=30, batch_size=4) == curve.flops[0]


def test_the_same_curves_cross_elsewhere_at_other_budgets():
    """At equal epochs the second overtakes; it costs so much more that at equal FLOPs the first stays ahead."""
    cheap = mean_curve([_log(4, 1.0, [0.3, 0.4, 0.5, 0.5])], stages=[(0.0, 10)], batch_size=4)
    dear = mean_curve([_log(4, 1.5, [0.2, 0.3, 0.5, 0.6])], stages=[(0.0, 40)], batch_size=4)
    found = crossings(("cheap", "dear"), (cheap, dear))
    assert found["epochs"] == Crossing(leader="dear", at=pytest.approx(3.0), val_accuracy=pytest.approx(0.5))
    assert found["flops"] is None
    # at 4 seconds, the end of what both have: 0.5 against 0.3 + (4 - 3) / 1.5 * 0.2
    assert found["seconds"] is None


def test_flops_follow_the_sizes_step_by_step():
    recipe = Recipe(resolutions=((0.0, 20), (0.33, 24), (0.71, 32)))
    forward = {20: 7, 24: 11, 32: 19}
    stages = [(share, forward[size]) for share, size in recipe.resolutions]
    done = 0
    for step in range(37):
        assert training_flops(stages, steps=step, total_steps=37, batch_size=4) == 3 * 4 * done
        done += forward[recipe.size_at(step / 37)]


def test_flops_of_each_stage_are_counted_at_its_size():
    (arm, _) = resolve_arms("whitened-cnn", "vit", num_classes=10, image_size=32)
    assert flops_by_stage(arm, ()) == [(0.0, arm.flops)]
    small, whole = flops_by_stage(arm, ((0.0, 16), (0.5, 32)))
    assert whole == (0.5, arm.flops)
    assert 0.15 < small[1] / arm.flops < 0.25  # maps of 15, 7, 3 and 1 pixels in place of 31, 15, 7 and 3
    assert flops_by_stage(arm, ((0.5, 16),)) == [(0.0, arm.flops), (0.5, small[1])]
