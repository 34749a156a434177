"""The probe: an estimator on arrays, an experiment on images, chance where there is nothing to find."""

import json

import numpy as np
import pytest
import torch

from nndl_suite.errors import ConfigError, DataError, RunError
from nndl_suite.representation import probe as probe_module
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.probe import LinearProbe


def _planted(n: int, seed: int, noise: float = 0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20)).astype(np.float32)
    y = (x @ np.random.default_rng(99).normal(size=(20, 4)) + noise * rng.normal(size=(n, 4))).argmax(1)
    return x, y


def test_a_planted_linear_problem_is_solved():
    probe = LinearProbe(device="cpu").fit(*_planted(3000, 0))
    assert probe.score(*_planted(1000, 1)) > 0.97
    assert probe.fitted_ is not None
    assert probe.fitted_.val_accuracy > 0.95


def test_random_labels_give_chance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 50)), rng.integers(0, 5, 2000)
    xt, yt = rng.normal(size=(2000, 50)), rng.integers(0, 5, 2000)
    assert LinearProbe(device="cpu").fit(x, y).score(xt, yt) == pytest.approx(0.2, abs=0.035)


def test_validation_prefers_a_strong_penalty_where_features_mislead():
    rng = np.random.default_rng(0)
    x, y = _planted(400, 0, noise=3.0)
    noisy = np.concatenate([x, rng.normal(size=(400, 300)).astype(np.float32)], axis=1)
    clean, misled = LinearProbe(device="cpu").fit(*_planted(4000, 0)), LinearProbe(device="cpu").fit(noisy, y)
    assert misled.fitted_.penalty > clean.fitted_.penalty


def test_numpy_and_torch_any_labels():
    x, y = _planted(600, 0)
    names = np.array([3, 70, -1, 12])
    probe = LinearProbe(device="cpu").fit(torch.from_numpy(x), torch.from_numpy(names[y]))
    predicted = probe.predict(x)
    assert isinstance(predicted, np.ndarray)
    assert set(predicted) <= set(names)
    assert probe.score(x, names[y]) == (predicted == names[y]).mean()


def test_the_seed_decides_the_split_and_the_callers_randomness_stays():
    x, y = _planted(500, 0, noise=2.0)
    scores = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        scores.append(LinearProbe(device="cpu", seed=5).fit(x, y).fitted_.val_accuracy)
        assert torch.equal(torch.get_rng_state(), before)
    assert scores[0] == scores[1]


def test_misuse_is_told_kindly():
    x, y = _planted(100, 0)
    with pytest.raises(ConfigError, match="not fitted"):
        LinearProbe().predict(x)
    with pytest.raises(ConfigError, match="linear"):
        LinearProbe(protocol="lineal")
    with pytest.raises(ConfigError, match="name the features"):
        LinearProbe().evaluate("demo", out="unused")
    probe = LinearProbe(device="cpu")
    for bad_x, bad_y, told in (
        (x, y[:-1], "labels must be"),
        (x, y.astype(float), "whole numbers"),
        (x.astype(int), y, "floating point"),
        (x[0], y, r"\[n, d\]"),
        (np.full_like(x, np.nan), y, "finite"),
        (x, np.zeros_like(y), "2 classes"),
    ):
        with pytest.raises(DataError, match=told):
            probe.fit(bad_x, bad_y)
    with pytest.raises(DataError, match="20 columns"):
        probe.fit(x, y).predict(x[:, :5])


def test_evaluate_leaves_what_the_contract_says(small_set, tmp_path):
    probe = LinearProbe(features="random", backbone="resnet18-slim", device="cpu")
    result = probe.evaluate(small_set, out=tmp_path / "run")
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["kind"] == "probe"
    keys = "protocol features dataset test_accuracy test_accuracy_ci95 val_accuracy chosen feature_dim resolution"
    assert set(keys.split()) <= set(written)
    assert (result.feature_dim, result.resolution, result.features) == (128, 16, "random")
    low, high = result.test_accuracy_ci95
    assert low <= result.test_accuracy <= high
    assert result.test_accuracy > 0.6  # a tint shows even through random features
    assert probe.evaluate(small_set, out=tmp_path / "run", resume=True) == result
    with pytest.raises(RunError, match="already holds"):
        probe.evaluate(small_set, out=tmp_path / "run")


def test_the_interval_is_wilsons(small_set, tmp_path):
    result = LinearProbe(features="random", backbone="resnet18-slim", device="cpu").evaluate(
        small_set, out=tmp_path / "r"
    )
    p, n, z = result.test_accuracy, 60, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert result.test_accuracy_ci95 == pytest.approx((centre - reach, centre + reach), abs=1e-9)


def test_the_test_split_is_read_once_and_last(small_set, tmp_path, monkeypatch):
    order = []
    load, fit = probe_module.load_image_set, probe_module.fit_probe
    monkeypatch.setattr(
        probe_module, "load_image_set", lambda name, split, **kw: (order.append(split), load(name, split, **kw))[1]
    )
    monkeypatch.setattr(probe_module, "fit_probe", lambda *a, **kw: (order.append("fit"), fit(*a, **kw))[1])
    LinearProbe(features="random", backbone="resnet18-slim", device="cpu").evaluate(small_set, out=tmp_path / "r")
    assert order == ["train", "fit", "test"]


def test_a_pretraining_run_is_a_source(small_set, tmp_path):
    run = SSLPretrainer(backbone="resnet18-slim", epochs=1, batch_size=60, device="cpu").fit(
        small_set, out=tmp_path / "p"
    )
    by_run = LinearProbe(features=run, device="cpu").evaluate(small_set, out=tmp_path / "a")
    by_path = LinearProbe(features=tmp_path / "p", device="cpu").evaluate(small_set, out=tmp_path / "b")
    assert by_run.features == str(tmp_path / "p")
    assert (by_run.test_accuracy, by_run.resolution) == (by_path.test_accuracy, 16)


@pytest.mark.realdata
@pytest.mark.slow
def test_imagenet_features_on_cifar100(real_data, tmp_path):
    file = real_data / "weights" / "resnet18_imagenet_bgd.pth"
    result = LinearProbe(features=file, resolution=32).evaluate("cifar100", out=tmp_path / "r", data_root=real_data)
    assert result.test_accuracy > 0.35
