"""The field's state, its settings, and its answers at points."""

import numpy as np
import pytest

from nndl_suite.errors import ConfigError, RunError
from nndl_suite.nerf.field import FieldSettings, field_from_state, load_field, new_field
from nndl_suite.training.checkpoints import Checkpoint, save_checkpoint
from nndl_suite.training.runs import RunFolder

SMALL = FieldSettings(log2_rows=8, finest=64)


def _directions(count: int) -> np.ndarray:
    toward = np.random.default_rng(1).normal(size=(count, 3))
    return (toward / np.linalg.norm(toward, axis=1, keepdims=True)).astype(np.float32)


def test_the_seed_alone_decides_a_new_field():
    np.random.seed(1)  # noqa: NPY002 - the caller's randomness, which must not matter
    one = new_field(SMALL, seed=3)
    np.random.seed(2)  # noqa: NPY002
    same, other = new_field(SMALL, seed=3), new_field(SMALL, seed=4)
    np.testing.assert_array_equal(one.table, same.table)
    np.testing.assert_array_equal(one.weights, same.weights)
    assert not np.array_equal(one.weights, other.weights)


def test_a_point_has_one_answer_whatever_it_is_asked_with():
    field = new_field(SMALL, seed=0)
    points = (np.random.default_rng(0).normal(size=(300, 3)) * 2).astype(np.float32)
    toward = _directions(300)
    density, rgb = field.query(points, toward)
    assert density.shape == (300,)
    assert density.min() > 0
    assert 0 <= rgb.min() <= rgb.max() <= 1
    few_density, few_rgb = field.query(points[37:40], toward[37:40])
    np.testing.assert_array_equal(few_density, density[37:40])
    np.testing.assert_array_equal(few_rgb, rgb[37:40])


def test_colour_depends_on_the_direction_and_density_does_not():
    field = new_field(SMALL, seed=0)
    points = np.zeros((2, 3), np.float32)
    density, rgb = field.query(points, np.array([[1, 0, 0], [0, 1, 0]], np.float32))
    assert density[0] == density[1]
    assert not np.array_equal(rgb[0], rgb[1])


@pytest.mark.parametrize("background", [None, (1.0, 0.5, 0.0)])
def test_a_field_comes_back_from_a_checkpoint(tmp_path, background):
    field = new_field(FieldSettings(log2_rows=8, finest=64, background=background), seed=0)
    save_checkpoint(tmp_path / "checkpoints", Checkpoint(step=1, seconds=0.0, state={"field": field.state()}))
    found = load_field(RunFolder(tmp_path))
    assert found.settings == field.settings
    for name in ("table", "weights", "grid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(field, name))


def test_a_field_from_a_state_has_memory_of_its_own():
    field = new_field(SMALL, seed=0)
    copy = field_from_state(field.state())
    copy.table[:] = 7
    assert not np.any(field.table == 7)


def test_a_run_without_checkpoint_is_told(tmp_path):
    with pytest.raises(RunError, match="no checkpoint"):
        load_field(RunFolder(tmp_path))


@pytest.mark.parametrize("wrong", [{"log2_rows": 3}, {"finest": 4}, {"near": 0.0}, {"near": 3.0}, {"far": 1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        FieldSettings(**wrong)
