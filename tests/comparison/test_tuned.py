"""Rates from tuning runs: taken where both arms were tuned alike, refused with the reason where not."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.comparison.comparison import compare_architectures
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import training_splits
from nndl_suite.comparison.tuned import read_tuned
from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.training.runs import open_run

RECIPE = Recipe(batch_size=10, rates=Rates(rate=2e-3, decay=0.05))
SPACE = {"rate": {"low": 1e-4, "high": 1e-2, "log": True}, "decay": {"values": [0, 0.1]}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 20)):
        images = rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
        np.savez(folder / f"noise-{split}.npz", images=images, labels=np.arange(n) % 4)
    return f"arrays:{folder / 'noise.npz'}"


@pytest.fixture(scope="module")
def splits(dataset):
    return training_splits(load_image_set(dataset, "train", data_root=None), RECIPE)


@pytest.fixture(scope="module")
def arms():
    return resolve_arms("resnet18-slim", "vit", num_classes=4, image_size=16)


def _run(folder, arm, splits, *, settings, finished=True, **change):
    run = open_run(folder, kind="tuning", settings={}, resume=False)
    fields = {
        "arm": arm.name,
        "shape": arm.shape,
        "dataset": "noise",
        "best": {"number": 3, "settings": settings, "val_accuracy": 0.5},
        "budget": {"trials": 20, "epochs": 10},
        "space": SPACE,
        "recipe": asdict(RECIPE),
        "fingerprints": [splits.train.fingerprint, splits.val.fingerprint],
        "at_edge": ["rate"],
    }
    if finished:
        run.finish("tuning", seconds=1, seed=0, fields=fields | change)
    return run.path


@pytest.fixture
def first(tmp_path, arms, splits):
    return _run(tmp_path / "tune-cnn", arms[0], splits, settings={"rate": 3e-3, "decay": 0})


def _second(tmp_path, arms, splits, **change):
    settings = change.pop("settings", {"rate": 5e-4, "decay": 0.1})
    return _run(tmp_path / "tune-vit", arms[1], splits, settings=settings, **change)


def test_the_best_rates_of_both_arms_in_either_order(tmp_path, arms, splits, first):
    runs = [first, _second(tmp_path, arms, splits)]
    tuned = read_tuned(runs, arms, splits, RECIPE)
    assert [arm.rates for arm in tuned.arms] == [Rates(rate=3e-3, decay=0), Rates(rate=5e-4, decay=0.1)]
    assert (tuned.trials, tuned.epochs) == (20, 10)
    assert read_tuned(runs[::-1], arms, splits, RECIPE) == tuned
    within = tuned.within(replace(RECIPE, cnn=Rates(rate=9.0)))
    assert (within.cnn, within.transformer, within.rates) == (*(arm.rates for arm in tuned.arms), RECIPE.rates)


def test_what_was_not_tuned_is_the_recipes(tmp_path, arms, splits):
    space = {"rate": SPACE["rate"]}
    runs = [_run(tmp_path / arm.name, arm, splits, settings={"rate": 1e-3}, space=space) for arm in arms]
    assert all(arm.rates == Rates(rate=1e-3, decay=0.05) for arm in read_tuned(runs, arms, splits, RECIPE).arms)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": {"trials": 40, "epochs": 10}}, "not tuned equally: resnet18-slim with 20 trials, vit with 40"),
        ({"budget": {"trials": 20, "epochs": 5}}, "not tuned equally: resnet18-slim with 10 epochs, vit with 5"),
        ({"space": {"rate": SPACE["rate"]}}, "not tuned equally: rate, decay of resnet18-slim, rate of vit"),
        ({"space": SPACE | {"warmup": {"low": 0, "high": 0.2}}}, "chose warmup too, and both arms share a recipe"),
        ({"fingerprints": ["a", "b"]}, "vit was tuned on other images"),
        ({"shape": "width 8"}, "the tuned vit has width 8, that of this comparison width"),
        ({"recipe": asdict(replace(RECIPE, batch_size=20))}, "another recipe .batch_size 20 there, 10 here"),
        ({"recipe": asdict(RECIPE) | {"lookahead": 5}}, "another recipe .lookahead 5 there, None here"),
        ({"finished": False}, "is unfinished"),
    ],
)
def test_what_is_not_alike_is_refused_with_the_reason(tmp_path, arms, splits, first, change, said):
    second = _second(tmp_path, arms, splits, **change)
    with pytest.raises(RunError, match=said):
        read_tuned([first, second], arms, splits, RECIPE)


def test_runs_of_other_arms_or_kinds(tmp_path, arms, splits, first):
    with pytest.raises(ConfigError, match="two tuning runs, one of each arm, got 1"):
        read_tuned([first], arms, splits, RECIPE)
    with pytest.raises(ConfigError, match="runs of resnet18-slim and resnet18-slim; this comparison wants .* and vit"):
        read_tuned([first, first], arms, splits, RECIPE)
    probe = open_run(tmp_path / "probe", kind="probe", settings={}, resume=False).path
    with pytest.raises(RunError, match="is a probe run, expected a tuning run"):
        read_tuned([first, probe], arms, splits, RECIPE)
    old = open_run(tmp_path / "old", kind="tuning", settings={}, resume=False)
    old.finish("tuning", seconds=1, seed=0, fields={"arm": "vit"})
    with pytest.raises(RunError, match="lacks at_edge, best"):
        read_tuned([first, old.path], arms, splits, RECIPE)


def test_a_comparison_trains_with_them_and_says_so(tmp_path, dataset, arms, splits, first):
    runs = [first, _second(tmp_path, arms, splits)]
    told = {"epochs": 1, "seeds": (0,), "recipe": RECIPE, "device": "cpu", "precision": "32-true"}
    result = compare_architectures("resnet18-slim", "vit", dataset, out=tmp_path / "cmp", tuned=runs, **told)
    assert [arm.chosen for arm in result.arms] == [Rates(rate=3e-3, decay=0), Rates(rate=5e-4, decay=0.1)]
    written = json.loads((tmp_path / "cmp" / "result.json").read_text())
    assert (written["tuning"]["trials"], written["tuning"]["epochs"]) == (20, 10)
    assert [arm["rates"]["rate"] for arm in written["tuning"]["arms"]] == [3e-3, 5e-4]
    assert written["tuning"]["arms"][1]["space"] == SPACE
    again = compare_architectures(
        "resnet18-slim", "vit", dataset, out=tmp_path / "cmp", tuned=runs, resume=True, **told
    )
    assert (again.tuning, again.arms[1].test_accuracy) == (result.tuning, result.arms[1].test_accuracy)
    refused = tmp_path / "refused"
    with pytest.raises(RunError, match="another recipe"):
        compare_architectures(
            "resnet18-slim", "vit", dataset, out=refused, tuned=runs, **told | {"recipe": replace(RECIPE, warmup=0.2)}
        )
    assert not refused.exists()
