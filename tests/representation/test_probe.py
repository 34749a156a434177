"""The probe: an estimator on arrays, an experiment on images, chance where there is nothing to find."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18, resnet34

from nndl_suite.errors import ConfigError, DataError, Interrupted, RunError
from nndl_suite.representation import probe as probe_module
from nndl_suite.representation.finetune import FinetuneTraining
from nndl_suite.representation.knn import fit_knn
from nndl_suite.representation.linear import PENALTIES, fit_linear
from nndl_suite.representation.logistic import fit_path
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.representation.probe_result import ProbeResult
from nndl_suite.training.predictions import read_predictions


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


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_random_labels_give_chance(protocol):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 50)), rng.integers(0, 5, 2000)
    xt, yt = rng.normal(size=(2000, 50)), rng.integers(0, 5, 2000)
    assert LinearProbe(protocol=protocol, device="cpu").fit(x, y).score(xt, yt) == pytest.approx(0.2, abs=0.035)


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


PROTOCOLS = ("linear", "knn")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_or_torch_of_any_kind_gives_the_same(protocol):
    x, y = _planted(300, 0, noise=1.0)
    expected = LinearProbe(protocol=protocol, device="cpu").fit(x, y).predict(x)
    sealed = x.copy()
    sealed.flags.writeable = False
    for features, labels in (
        (torch.from_numpy(x), torch.from_numpy(y)),
        (sealed, y.astype(np.uint8)),
        (x[::-1][::-1], y.astype(np.uint16)),
        (np.asfortranarray(x), y.astype(np.int32)),
        (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y).to(torch.int16)),
        (x.astype(np.float64), y),
    ):
        found = LinearProbe(protocol=protocol, device="cpu").fit(features, labels).predict(features)
        assert found.dtype == np.int64
        assert (found == expected).mean() > 0.99
    half = LinearProbe(protocol=protocol, device="cpu").fit(torch.from_numpy(x).bfloat16(), y)
    assert half.score(torch.from_numpy(x).bfloat16(), y) > 0.7
    fitted = LinearProbe(protocol=protocol, device="cpu").fit(x, y)
    assert (fitted.predict(x.astype(np.float64)) == expected).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_misuse_is_told_kindly(protocol):
    x, y = _planted(100, 0)
    probe = LinearProbe(protocol=protocol, device="cpu")
    with pytest.raises(ConfigError, match="not fitted"):
        probe.predict(x)
    broken = x.copy()
    broken[3, 4] = np.nan
    broken[5] = np.inf
    for bad_x, bad_y, told in (
        (x, y[:-1], "labels must be"),
        (x, y[:, None], r"shape \[100\]"),
        (x, y.astype(float), "whole numbers"),
        (x, y.astype(complex), "whole numbers"),
        (x, np.array(["a", "b"] * 50), "whole numbers .*<U1"),
        (x.astype(int), y, "floating point"),
        (x.astype(str), y, "floating point"),
        (x[0], y, r"\[n, d\]"),
        (x[:, :0], y, r"\[n, d\]"),
        (broken, y, "finite, got NaN or infinity in 2 of 100 rows"),
        (x, np.zeros_like(y), "2 classes"),
        (x[:9], y[:9], "10 rows"),
    ):
        with pytest.raises(DataError, match=told):
            probe.fit(bad_x, bad_y)
    probe.fit(x, y)
    with pytest.raises(DataError, match="20 columns"):
        probe.predict(x[:, :5])
    with pytest.raises(DataError, match="labels must be"):
        probe.score(x, y[:1])


def test_settings_that_do_not_fit_are_told_kindly():
    for settings, told in (
        ({"protocol": "lineal"}, "linear"),
        ({"flip_features": "maybe"}, "flip_features"),
        ({"seed": -1}, "seed"),
        ({"epochs": 3}, "epochs is of the protocol 'finetune'"),
        ({"protocol": "knn", "learning_rate": 0.1}, "learning_rate is of the protocol"),
        ({"protocol": "finetune", "flip_features": "yes"}, "mirrors"),
        ({"protocol": "finetune", "epochs": 0}, "epochs must be >= 1"),
    ):
        with pytest.raises(ConfigError, match=told):
            LinearProbe(**settings)
    with pytest.raises(ConfigError, match="name the features"):
        LinearProbe().evaluate("demo", out="unused")
    with pytest.raises(ConfigError, match="needs images"):
        LinearProbe(protocol="finetune").fit(*_planted(100, 0))


def test_mirror_images_join_the_fit():
    """What only a mirror image shows is learned with it, and not without."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2
    plain = torch.randn(400, 6, generator=g)
    plain[:, 0] = 2.0 * y - 1
    turned = plain.clone()
    turned[:, 0], turned[:, 1] = 0.0, 2.0 * y - 1  # the same, told by another column
    for fit in (fit_linear, fit_knn):
        without, with_them = fit(plain, y, seed=0), fit(plain, y, mirrored=turned, seed=0)
        assert (with_them.predict(turned) == y).double().mean() > 0.99
        assert (without.predict(turned) == y).double().mean() < 0.8
        assert with_them.val_accuracy > 0.95


def test_the_last_solution_is_of_all_rows():
    x, y = (torch.from_numpy(array) for array in _planted(400, 0, noise=1.0))
    fitted = fit_linear(x, y, seed=0)
    (alone,) = fit_path(x, y, num_classes=4, penalties=[fitted.penalty], tolerance=1e-9)
    torch.testing.assert_close(fitted.classifier.weight, alone.classifier.weight, atol=1e-3, rtol=0)
    assert fitted.chosen == {"l2": fitted.penalty}
    assert fitted.penalty in PENALTIES


def test_evaluate_leaves_what_the_contract_says(small_set, tmp_path):
    probe = LinearProbe(features="random", backbone="resnet18-slim", device="cpu")
    result = probe.evaluate(small_set, out=tmp_path / "run")
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["kind"] == "probe"
    keys = "protocol features dataset test_accuracy test_accuracy_ci95 val_accuracy chosen feature_dim resolution"
    assert set(keys.split()) <= set(written)
    assert written["class_names"]
    left = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"predictions.npz", "embedding.json", "neighbours.json"} <= left
    assert (result.feature_dim, result.resolution, result.features) == (128, 16, "random")
    low, high = result.test_accuracy_ci95
    assert low <= result.test_accuracy <= high
    assert result.test_accuracy > 0.6  # a tint shows even through random features
    assert probe.evaluate(small_set, out=tmp_path / "run", resume=True) == result
    with pytest.raises(RunError, match="already holds"):
        probe.evaluate(small_set, out=tmp_path / "run")


def test_missing_weights_leave_no_folder_behind(small_set, tmp_path):
    probe = LinearProbe(features=tmp_path / "absent.pth", backbone="resnet18-slim", device="cpu")
    with pytest.raises(DataError, match=r"absent\.pth"):
        probe.evaluate(small_set, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_interval_is_wilsons(small_set, tmp_path):
    result = LinearProbe(features="random", backbone="resnet18-slim", device="cpu").evaluate(
        small_set, out=tmp_path / "r"
    )
    p, n, z = result.test_accuracy, 60, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert result.test_accuracy_ci95 == pytest.approx((centre - reach, centre + reach), abs=1e-9)


@pytest.mark.parametrize("protocol", ["linear", "knn", "finetune"])
def test_the_test_split_is_read_once_and_last(small_set, tmp_path, monkeypatch, protocol):
    order = []

    def noted(function, what):
        return lambda *given, **how: (order.append(what(given)), function(*given, **how))[1]

    monkeypatch.setattr(probe_module, "load_image_set", noted(probe_module.load_image_set, lambda given: given[1]))
    monkeypatch.setattr(probe_module, "finetune", noted(probe_module.finetune, lambda _: "fit"))
    for name, fit in probe_module._FIT.items():
        monkeypatch.setitem(probe_module._FIT, name, noted(fit, lambda _: "fit"))
    LinearProbe(
        features="random",
        backbone="resnet18-slim",
        protocol=protocol,
        epochs=1 if protocol == "finetune" else None,
        batch_size=54 if protocol == "finetune" else None,
        device="cpu",
    ).evaluate(small_set, out=tmp_path / "r")
    assert order == ["train", "fit", "test"]


def test_what_each_protocol_says_it_chose(small_set, tmp_path):
    for protocol, settings, chosen in (
        ("linear", {}, {"l2"}),
        ("knn", {}, {"k", "temperature"}),
        ("finetune", {"epochs": 1, "batch_size": 54}, {"learning_rate", "epochs"}),
    ):
        probe = LinearProbe(features="random", backbone="resnet18-slim", protocol=protocol, device="cpu", **settings)
        result = probe.evaluate(small_set, out=tmp_path / protocol)
        written = json.loads((tmp_path / protocol / "result.json").read_text())
        assert set(result.chosen) == set(written["chosen"]) == chosen
        assert written["protocol"] == result.protocol == protocol
        predictions = read_predictions(tmp_path / protocol)
        assert predictions.correct.mean() == result.test_accuracy
        assert probe.evaluate(small_set, out=tmp_path / protocol, resume=True) == result
    assert result.chosen == {"learning_rate": 1e-3, "epochs": 1}
    assert (result.seconds_features, result.features_cached) == (0, False)
    assert (tmp_path / "finetune" / "checkpoints").exists()


def test_fine_tuning_goes_on_after_a_stop(small_set, tmp_path, monkeypatch):
    settings = {"features": "random", "backbone": "resnet18-slim", "protocol": "finetune", "device": "cpu"}
    probe = LinearProbe(epochs=2, batch_size=54, **settings)
    whole = probe.evaluate(small_set, out=tmp_path / "whole")
    step = FinetuneTraining.step

    def stopped(self, index, fraction):
        if index == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, index, fraction)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTraining, "step", stopped)
        with pytest.raises(Interrupted):
            probe.evaluate(small_set, out=tmp_path / "cut")
    with pytest.raises(RunError, match="epochs=2 there, 3 now"):
        LinearProbe(epochs=3, batch_size=54, **settings).evaluate(small_set, out=tmp_path / "cut", resume=True)
    resumed = probe.evaluate(small_set, out=tmp_path / "cut", resume=True)
    assert (resumed.test_accuracy, resumed.val_accuracy) == (whole.test_accuracy, whole.val_accuracy)
    both = [read_predictions(tmp_path / name).predicted for name in ("whole", "cut")]
    np.testing.assert_array_equal(*both)


def test_a_second_probe_reads_what_the_first_one_kept(small_set, tmp_path):
    settings = {"features": "random", "backbone": "resnet18-slim", "device": "cpu"}
    results = [
        LinearProbe(cache=cache, protocol=protocol, flip_features=flip, **settings).evaluate(
            small_set, out=tmp_path / str(i)
        )
        for i, (cache, protocol, flip) in enumerate(
            (
                ("off", "linear", "no"),
                (tmp_path / "cache", "linear", "no"),
                (tmp_path / "cache", "linear", "no"),
                (tmp_path / "cache", "knn", "no"),
                (tmp_path / "cache", "linear", "yes"),
                (tmp_path / "cache", "knn", "yes"),
            )
        )
    ]
    assert [result.features_cached for result in results] == [False, False, True, True, False, True]
    assert len({result.test_accuracy for result in results[:3]}) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 3  # training, test, training in the mirror
    assert all(result.notes == () for result in results)


def test_where_the_cache_is_full_the_score_comes_and_says_so(small_set, tmp_path):
    (tmp_path / "file").touch()
    probe = LinearProbe(features="random", backbone="resnet18-slim", device="cpu", cache=tmp_path / "file" / "cache")
    result = probe.evaluate(small_set, out=tmp_path / "r")
    (note,) = result.notes
    assert "not kept" in note
    assert probe.evaluate(small_set, out=tmp_path / "r", resume=True) == result


def test_the_cache_is_no_part_of_the_settings(small_set, tmp_path):
    settings = {"features": "random", "backbone": "resnet18-slim", "device": "cpu"}
    result = LinearProbe(cache="off", **settings).evaluate(small_set, out=tmp_path / "r")
    assert LinearProbe(cache=tmp_path / "c", **settings).evaluate(small_set, out=tmp_path / "r", resume=True) == result


def _archives(folder, train, test):
    for split, labels in (("train", train), ("test", test)):
        labels = np.asarray(labels)
        images = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
        np.savez(folder / f"set-{split}.npz", images=images, labels=labels)
    return f"arrays:{folder / 'set.npz'}"


def test_sets_that_cannot_be_probed_are_told_kindly(tmp_path):
    probe = LinearProbe(features="random", backbone="resnet18-slim", device="cpu")
    unseen = _archives(tmp_path, [0, 1] * 10, [0, 1, 2])
    with pytest.raises(DataError, match="1 test classes have no training images .2: '2'."):
        probe.evaluate(unseen, out=tmp_path / "unseen")
    assert not (tmp_path / "unseen" / "result.json").exists()
    one = _archives(tmp_path, [1] * 20, [1, 1])
    for protocol in ("linear", "knn", "finetune"):
        settings = LinearProbe(features="random", backbone="resnet18-slim", device="cpu", protocol=protocol)
        with pytest.raises(DataError, match="2 classes"):
            settings.evaluate(one, out=tmp_path / f"one-{protocol}")
    (tmp_path / "flat").mkdir()
    for i in range(12):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "flat" / f"{i}.png")
    with pytest.raises(DataError, match="no labels"):
        probe.evaluate(f"folder:{tmp_path / 'flat'}", out=tmp_path / "unlabelled")
    assert not (tmp_path / "unlabelled").exists()


def test_weights_of_another_architecture_name_the_first_tensor_that_does_not_fit(small_set, tmp_path):
    torch.save(resnet34().state_dict(), tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w.pth does not fit resnet18: unexpected layer1.2.conv1.weight"):
        LinearProbe(features=tmp_path / "w.pth", device="cpu").evaluate(small_set, out=tmp_path / "r")
    wide = resnet18(num_classes=10, norm_layer=lambda n: torch.nn.BatchNorm2d(n)).state_dict()
    wide["layer2.0.conv1.weight"] = torch.zeros(96, 64, 3, 3)
    torch.save(wide, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"layer2.0.conv1.weight is \[96, 64, 3, 3\], expected \[128, 64, 3, 3\]"):
        LinearProbe(features=tmp_path / "w.pth", device="cpu").evaluate(small_set, out=tmp_path / "s")


def test_weights_that_are_not_finite_are_told_kindly(small_set, tmp_path):
    state = resnet18().state_dict()
    state["layer4.1.bn2.bias"][:] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DataError, match="NaN or infinity for 120 of 120 images"):
        LinearProbe(features=tmp_path / "w.pth", device="cpu", resolution=16).evaluate(small_set, out=tmp_path / "r")


def test_a_result_that_is_none_is_told_kindly(tmp_path):
    with pytest.raises(RunError, match="not a probe's result"):
        ProbeResult.from_result(tmp_path, {"kind": "pretrain", "chosen": {}})


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
