import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.recipes import RECIPES
from nndl_suite.comparison.train import train_architecture
from nndl_suite.comparison.whitened_cnn import WhitenedCNN
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.training.intervals import wilson_interval

_RECIPE = replace(RECIPES["speed"], batch_size=9, resolutions=((0.0, 16), (0.5, 20)), ema_decay=0.9)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for split, n in (("train", 60), ("test", 40)):
        images = rng.integers(0, 256, (n, 20, 20, 3), dtype=np.uint8)
        np.savez(folder / f"made-{split}.npz", images=images, labels=np.arange(n) % 3, class_names=list("abc"))
    return f"arrays:{folder / 'made.npz'}"


def _train(dataset, out, **settings):
    arguments = {"epochs": 2, "recipe": _RECIPE, "device": "cpu", "precision": "32-true"} | settings
    return train_architecture("whitened-cnn", dataset, out=out, **arguments)


def test_one_network_its_log_its_weights_and_its_result(dataset, tmp_path):
    result = _train(dataset, tmp_path / "run")
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["kind"], written["arm"], written["epochs"], written["seed"]) == ("training", "whitened-cnn", 2, 0)
    assert written["test_accuracy"] == result.score.network.test_accuracy
    assert written["test_accuracy_ci95"] == pytest.approx(list(wilson_interval(written["test_accuracy"], 40)))
    assert written["chosen"] == {"rate": 0.01, "decay": 1.0}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all({"val_accuracy", "seconds"} <= set(line) for line in epochs)
    network = WhitenedCNN(3)
    network.load_state_dict(load_file(result.weights))
    images = np.load(dataset.removeprefix("arrays:").replace("made.npz", "made-test.npz"))
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    pixels = torch.tensor(images["images"]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("mean", "std"))
    normal = (pixels - mean) / std
    network.eval()
    predicted = (network(normal) + network(normal.flip(-1))).argmax(1)  # as the recipe tests
    assert (predicted == torch.tensor(images["labels"])).double().mean() == pytest.approx(written["test_accuracy"])


def test_a_finished_run_is_only_read(dataset, tmp_path):
    first = _train(dataset, tmp_path / "run")
    steps = []
    again = _train(dataset, tmp_path / "run", resume=True, watch=steps.append)
    assert again.score.network == first.score.network
    assert (again.ci95, again.weights) == (first.ci95, first.weights)
    assert not [step for step in steps if step.stage == "whitened-cnn"]
    with pytest.raises(RunError, match="already holds a run"):
        _train(dataset, tmp_path / "run")
    with pytest.raises(RunError, match="epochs=2 there, 3 now"):
        _train(dataset, tmp_path / "run", epochs=3, resume=True)


def test_rates_by_the_kind_of_network(dataset, tmp_path):
    recipe = Recipe(
        batch_size=30, cnn=Rates(rate=1e-3, decay=0.1), transformer=Rates(rate=2e-3, decay=0.2), cutmix_probability=0
    )
    for arm, rate in (("resnet18-slim", 1e-3), ("course-vit", 2e-3)):
        out = tmp_path / arm
        train_architecture(arm, dataset, epochs=1, out=out, recipe=recipe, device="cpu", precision="32-true")
        assert json.loads((out / "result.json").read_text())["chosen"]["rate"] == rate


def test_wrong_settings(dataset, tmp_path):
    with pytest.raises(ConfigError, match="epochs"):
        _train(dataset, tmp_path / "run", epochs=0)
    with pytest.raises(ConfigError, match="whitened-cnn"):
        train_architecture("whitened-cn", dataset, epochs=1, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"batch_size must be in \[1, 54\]"):
        _train(dataset, tmp_path / "run", recipe=replace(_RECIPE, batch_size=55))
    assert not (tmp_path / "run").exists()
