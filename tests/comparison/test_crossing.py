import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.comparison.architectures import flops_by_stage, resolve_arms
from nndl_suite.comparison.crossing import Curve, crossings, last_crossing, mean_curve, training_flops
from nndl_suite.comparison.recipe import Recipe


def test_two_lines_cross_where_algebra_says():
    # y = x and y = 2 - x
    assert last_crossing(([0, 2], [0, 2]), ([0, 2], [2, 0])) == (0, pytest.approx(1), pytest.approx(1))
    assert last_crossing(([0, 2], [2, 0]), ([0, 2], [0, 2])) == (1, pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (([0, 1], [0, 1]), ([0, 1], [1, 2])),  # one is always ahead
        (([0, 1, 2], [0, 1, 2]), ([0, 1, 2], [1, 1, 3])),  # they touch
        (([0, 1], [0, 1]), ([2, 3], [1, 0])),  # nothing in common
        (([0, 1], [0, 1]), ([0, 1], [1, 1])),  # equal at the end: nobody leads
        (([], []), ([0, 1], [0, 1])),
    ],
)
def test_no_crossing(first, second):
    assert last_crossing(first, second) is None


def test_the_last_of_several_counts():
    x = [0, 1, 2, 3]
    found = last_crossing((x, [0, 2, 0, 2]), (x, [1, 1, 1, 1]))
    assert found == (0, pytest.approx(2.5), pytest.approx(1))


_Y = st.lists(st.integers(0, 5), min_size=5, max_size=5)


@given(_Y, _Y)
def test_after_it_the_leader_is_never_behind(a, b):
    x = list(range(5))
    found = last_crossing((x, a), (x, b))
    fine = np.linspace(0, 4, 401)
    ahead = np.interp(fine, x, b) - np.interp(fine, x, a)
    if found is None:
        assert ahead[-1] == 0 or (np.sign(ahead[-1]) * ahead >= 0).all()
        return
    leader, at, y = found
    sign = 1 if leader else -1
    assert (sign * ahead[fine > at] >= -1e-9).all()
    assert (sign * ahead[fine < at] < 0).any()
    assert np.interp(at, x, a) == pytest.approx(np.interp(at, x, b), abs=1e-9)
    assert y == pytest.approx(np.interp(at, x, a))


def _log(accuracies, seconds):
    lines = [{"step": 5, "loss": 2.0, "seconds": 1.0}]
    for epoch, accuracy in enumerate(accuracies, start=1):
        lines.append({"step": 10 * epoch, "epoch": epoch, "seconds": seconds * epoch, "val_accuracy": accuracy})
    return lines


def test_the_mean_curve_of_what_all_seeds_have():
    curve = mean_curve([_log([0.1, 0.3, 0.5], 2.0), _log([0.3, 0.5], 4.0)], stages=[(0.0, 100)], batch_size=8)
    assert curve.epochs == (1, 2)
    assert curve.val_accuracy == pytest.approx((0.2, 0.4))
    assert curve.seconds == pytest.approx((3.0, 6.0))
    assert curve.flops == (3 * 100 * 80, 3 * 100 * 160)


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


def test_crossings_by_each_budget():
    def curve(seconds, accuracy):
        return Curve(epochs=(1, 2, 3), flops=(1e9, 2e9, 3e9), seconds=seconds, val_accuracy=accuracy)

    found = crossings(("cnn", "vit"), (curve((1, 2, 3), (0.3, 0.4, 0.45)), curve((10, 20, 30), (0.1, 0.4, 0.6))))
    assert found["epochs"] is not None
    assert (found["epochs"].leader, found["epochs"].at, found["epochs"].val_accuracy) == ("vit", 2, pytest.approx(0.4))
    assert found["flops"].at == pytest.approx(2e9)
    assert found["seconds"] is None  # they have no second in common
