import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.comparison import (
    compare_architectures,
    plan_comparison,
)
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import load_splits
from nndl_suite.errors import ConfigError, DataError, Interrupted, NndlError, RunError, TrainingError
from nndl_suite.report.page import write_report
from nndl_suite.training.checkpoints import equal_states, load_newest
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.intervals import student_interval, wilson_interval

RECIPE = Recipe(batch_size=10, rates=Rates(rate=2e-3, decay=0.05))


def _write_set(folder: Path, *, train=60, test=40, classes=4) -> str:
    """Images whose class is their tint, mild enough that random weights see little of it."""
    rng = np.random.default_rng(0)
    for split, n in (("train", train), ("test", test)):
        labels = np.arange(n) % classes
        images = rng.integers(0, 90, (n, 16, 16, 3), dtype=np.uint8)
        for channel in range(3):
            images[labels == channel, :, :, channel] += 60
        np.savez(folder / f"tints-{split}.npz", images=images, labels=labels, class_names=list("abcdefgh")[:classes])
    return f"arrays:{folder / 'tints.npz'}"


def _compare(dataset, out, **settings):
    arguments = {"epochs": 2, "seeds": (0,), "recipe": RECIPE, "device": "cpu", "precision": "32-true"} | settings
    return compare_architectures("resnet18-slim", "vit", dataset, out=out, **arguments)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return _write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def two_seeds(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "cmp"
    steps = []
    return _compare(dataset, out, seeds=(0, 1), watch=steps.append), steps


def test_result_and_folder(two_seeds):
    result, steps = two_seeds
    cnn, vit = result.arms
    assert (cnn.name, vit.name) == ("resnet18-slim", "vit")
    assert abs(vit.parameters / cnn.parameters - 1) <= 0.02
    assert result.interval == "student-t over seeds"
    written = json.loads((result.out / "result.json").read_text())
    assert written["kind"] == "comparison"
    assert written["seed"] == 0
    expected = {"name", "parameters", "flops", "seeds", "test_accuracy", "mean", "ci95", "best_epoch", "seconds"}
    assert set(written["arms"][0]) > expected | {"images_per_second", "chosen"}
    assert written["arms"][1]["best_epoch"] is None
    assert written["arms"][1]["chosen"] == {"rate": 2e-3, "decay": 0.05}
    assert written["recipe"]["cutmix_probability"] == 0.5
    assert written["tuning"] is None
    differences = [b - a for a, b in zip(cnn.test_accuracy, vit.test_accuracy, strict=True)]
    assert result.difference.mean == pytest.approx(np.mean(differences))
    assert written["difference"]["ci95"] == pytest.approx(list(student_interval(differences)))
    assert sum(arm.seconds * 2 for arm in result.arms) == pytest.approx(result.seconds)
    assert result.sentence.may.startswith("On arrays:")
    assert "2 paired seeds" in result.sentence.may
    assert "the rates were not tuned" in result.sentence.may_not
    assert {step.stage for step in steps} >= {"resnet18-slim, seed 0 (1 of 4)", "vit, seed 1 (4 of 4)"}


def test_measures_are_of_the_seeds_and_their_differences_of_the_pairs(two_seeds):
    result, _ = two_seeds
    arms = [
        [json.loads((result.out / "arms" / f"{arm.name}-seed{seed}" / "result.json").read_text()) for seed in (0, 1)]
        for arm in result.arms
    ]
    for name in ("ece", "nll", "gap", "train_accuracy"):
        by_seed = [[score[name] for score in of_arm] for of_arm in arms]
        for arm, values in zip(result.arms, by_seed, strict=True):
            found = getattr(arm.measures, name)
            assert found.by_seed == tuple(values)
            assert found.mean == pytest.approx(np.mean(values))
        differences = np.subtract(by_seed[1], by_seed[0])
        found = getattr(result.difference.measures, name)
        assert found.by_seed == pytest.approx(differences)
        assert found.ci95 == pytest.approx(student_interval(differences.tolist()))
    assert result.arms[0].measures.top5 is None  # four classes
    for arm, scores in zip(result.arms, arms, strict=True):
        assert arm.per_class == pytest.approx(np.mean([score["per_class"] for score in scores], axis=0))
        assert np.mean(arm.per_class) == pytest.approx(arm.mean)  # ten test images of each class
        assert arm.corruptions["blur"] == pytest.approx(np.mean([score["corruptions"]["blur"] for score in scores]))
    differences = [measure.mean for measure in result.difference.per_class]
    assert differences == pytest.approx(np.subtract(result.arms[1].per_class, result.arms[0].per_class))
    assert result.difference.per_superclass == {}


def test_the_curve_is_of_the_logs(two_seeds):
    result, _ = two_seeds
    folder = result.out / "arms"
    for arm in result.arms:
        logs = [
            [
                json.loads(line)
                for line in (folder / f"{arm.name}-seed{seed}" / "metrics.jsonl").read_text().splitlines()
            ]
            for seed in (0, 1)
        ]
        by_seed = [[line["val_accuracy"] for line in log if "epoch" in line] for log in logs]
        assert arm.curve.val_accuracy == pytest.approx(np.mean(by_seed, axis=0))
        assert arm.curve.epochs == (1, 2)
        assert arm.curve.flops == (3 * arm.flops * 50, 3 * arm.flops * 100)  # 54 images, batches of ten
    assert set(result.crossing) == {"epochs", "flops", "seconds"}


def test_the_log_of_an_arm(two_seeds):
    folder = two_seeds[0].out / "arms" / "vit-seed1"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all({"step", "seconds", "loss"} <= set(line) for line in lines)
    epochs = [line for line in lines if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all({"val_accuracy", "val_loss"} <= set(line) for line in epochs)
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert (settings["train_images"], settings["val_images"], settings["test_images"]) == (54, 6, 40)


_EASY = replace(RECIPE, rates=Rates(rate=1e-3), cutmix_probability=0.0, flip=False)


def test_it_learns(dataset, tmp_path):
    result = _compare(dataset, tmp_path / "run", epochs=12, recipe=_EASY)
    assert all(arm.mean > 0.6 for arm in result.arms), result.arms  # chance: 0.25
    assert result.difference.ci95 is None
    assert result.interval == "wilson over test images"
    assert result.arms[0].ci95 == pytest.approx(wilson_interval(result.arms[0].mean, 40))


def test_the_seed_alone_decides(dataset, tmp_path):
    weights = []
    for caller_seed in (1, 2):
        torch.manual_seed(caller_seed)
        out = tmp_path / str(caller_seed)
        _compare(dataset, out, epochs=1)
        weights.append([load_newest(out / "arms" / arm / "checkpoints").state for arm in _ARMS])
    assert equal_states(*weights)
    _compare(dataset, tmp_path / "other", epochs=1, seeds=(1,))
    other = load_newest(tmp_path / "other" / "arms" / "vit-seed1" / "checkpoints").state
    assert not equal_states(weights[0][1], other)


_ARMS = ("resnet18-slim-seed0", "vit-seed0")


def test_dropout_too_is_drawn_from_the_seed(dataset, tmp_path):
    states = []
    for caller_seed in (1, 2):
        torch.manual_seed(caller_seed)
        out = tmp_path / str(caller_seed)
        compare_architectures(
            "resnet18-slim", "course-vit", dataset, out=out, epochs=1, seeds=(0,), recipe=RECIPE, device="cpu"
        )
        states.append(load_newest(out / "arms" / "course-vit-seed0" / "checkpoints").state)
    assert equal_states(*states)


_CHILD = """
import sys
from nndl_suite.comparison import arm
from nndl_suite.comparison.comparison import compare_architectures
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import load_splits
from nndl_suite.training.loop import LoopSettings
def often(**settings):
    return LoopSettings(**settings, checkpoint_seconds=0.05, log_every=1)
arm.LoopSettings = often
compare_architectures("resnet18-slim", "vit", sys.argv[1], epochs=3, seeds=(0,), out=sys.argv[2], resume=True,
    recipe=Recipe(batch_size=10, rates=Rates(rate=2e-3, decay=0.05)), device="cpu", precision="32-true")
"""


def test_killed_and_resumed_is_the_same_to_the_bit(dataset, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _compare(dataset, undisturbed, epochs=3)
    logs = [killed / "arms" / arm / "metrics.jsonl" for arm in _ARMS]
    for log, lines in zip(logs, (5, 7), strict=True):  # once within each arm
        child = subprocess.Popen([sys.executable, "-c", _CHILD, dataset, str(killed)])
        try:
            deadline = time.monotonic() + 60
            while not (log.exists() and log.read_text().count("\n") >= lines):
                assert child.poll() is None, "the child ended before it was killed"
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert not (killed / "result.json").exists()
    resumed = _compare(dataset, killed, epochs=3, resume=True)
    for arm in _ARMS:
        states = [load_newest(root / "arms" / arm / "checkpoints").state for root in (undisturbed, killed)]
        assert equal_states(*states), arm
    written = json.loads((undisturbed / "result.json").read_text())["arms"]
    assert [list(arm.test_accuracy) for arm in resumed.arms] == [arm["test_accuracy"] for arm in written]


def test_a_finished_comparison_is_only_read(two_seeds, dataset):
    result, _ = two_seeds
    steps = []
    again = _compare(dataset, result.out, seeds=(0, 1), resume=True, watch=steps.append)
    assert [arm.test_accuracy for arm in again.arms] == [arm.test_accuracy for arm in result.arms]
    assert not [step for step in steps if "seed" in step.stage]
    with pytest.raises(RunError, match="already holds a run"):
        _compare(dataset, result.out, seeds=(0, 1))
    with pytest.raises(RunError, match="epochs=2 there, 3 now"):
        _compare(dataset, result.out, seeds=(0, 1), epochs=3, resume=True)


def test_a_diverging_arm_is_named(dataset, tmp_path):
    with pytest.raises(NndlError, match=r"resnet18-slim, seed 0 .*loss is (nan|inf) at step"):
        _compare(dataset, tmp_path / "run", epochs=4, recipe=replace(RECIPE, optimiser="sgd", rates=Rates(rate=1e30)))


_BROKEN = replace(_EASY, optimiser="sgd", cnn=Rates(rate=1e30), transformer=Rates(rate=1e-2))


def test_an_arm_that_breaks_leaves_the_other_its_result(dataset, tmp_path):
    out = tmp_path / "run"
    told = (
        r"resnet18-slim, seed 0 \(1 of 4\): \w+ is \w+ at step.*seed 1 \(3 of 4\).*kept \(vit [\d.]+ % over 2 seeds\)"
    )
    with pytest.raises(TrainingError, match=told):
        _compare(dataset, out, seeds=(0, 1), recipe=_BROKEN)
    written = json.loads((out / "result.json").read_text())
    cnn, vit = written["arms"]
    assert (cnn["name"], cnn["seeds"], cnn["test_accuracy"], cnn["mean"]) == ("resnet18-slim", [], [], None)
    assert (vit["seeds"], len(vit["test_accuracy"])) == ([0, 1], 2)
    assert written["difference"] is None
    assert written["sentence"]["may"].startswith("Nothing may be concluded")
    assert [(failure["arm"], failure["seed"]) for failure in written["failures"]] == [
        (cnn["name"], 0),
        (cnn["name"], 1),
    ]
    page = write_report([out], tmp_path / "report.html").read_text()
    assert "Nothing may be concluded" in page
    assert "resnet18-slim, seed 0, has no score:" in page
    with pytest.raises(TrainingError, match="over 2 seeds"):  # and to resume it is to be told so again
        _compare(dataset, out, seeds=(0, 1), recipe=_BROKEN, resume=True)


def test_both_arms_break(dataset, tmp_path):
    recipe = replace(_BROKEN, transformer=Rates(rate=1e30))
    with pytest.raises(TrainingError, match="nothing was trained to the end"):
        _compare(dataset, tmp_path / "run", recipe=recipe)
    assert write_report([tmp_path / "run"], tmp_path / "report.html").is_file()


def test_an_arm_of_an_earlier_version_is_scored_again(dataset, tmp_path):
    result = _compare(dataset, tmp_path / "run", epochs=1)
    file = result.out / "arms" / _ARMS[0] / "result.json"
    old = json.loads(file.read_text())
    file.write_text(json.dumps({key: old[key] for key in ("kind", "seconds", "seed", "test_accuracy")}))
    with pytest.raises(RunError, match=r"resnet18-slim-seed0/result.json lacks .*--resume"):
        _compare(dataset, tmp_path / "run", epochs=1, resume=True)
    file.unlink()
    steps = []
    again = _compare(dataset, tmp_path / "run", epochs=1, resume=True, watch=steps.append)
    assert again.arms[0].measures == result.arms[0].measures
    assert again.arms[0].per_class == result.arms[0].per_class


def test_the_learning_curve_is_the_comparison_with_parts_of_the_images(dataset, tmp_path):
    out = tmp_path / "run"
    result = _compare(dataset, out, epochs=1, seeds=(0, 1), fractions=(0.5, 0.25))
    assert [(point.fraction, point.images) for point in result.learning_curve] == [(0.25, 14), (0.5, 27), (1.0, 54)]
    whole = result.learning_curve[-1]
    assert whole.difference.mean == pytest.approx(result.difference.mean)
    assert [one.by_seed for one in whole.arms] == [arm.test_accuracy for arm in result.arms]
    for fraction, images in ((0.25, 14), (0.5, 27)):
        folder = out / "fractions" / str(fraction) / "arms" / "vit-seed1"
        assert json.loads((folder / "config.json").read_text())["settings"]["train_images"] == images
    small = json.loads((out / "fractions" / "0.25" / "arms" / "vit-seed1" / "result.json").read_text())
    assert result.learning_curve[0].arms[1].by_seed[1] == small["test_accuracy"]
    steps = []
    _compare(dataset, out, epochs=1, seeds=(0, 1), fractions=(0.25, 0.5), resume=True, watch=steps.append)
    assert not [step for step in steps if "seed" in step.stage]
    page = write_report([out], tmp_path / "report.html").read_text()
    assert "As many epochs with each part" in page


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (1.0,), (0.0,), (0.1,)])
def test_fractions_that_make_no_curve(dataset, tmp_path, fractions):
    with pytest.raises(ConfigError, match="fraction"):
        _compare(dataset, tmp_path / "run", fractions=fractions)
    assert not (tmp_path / "run").exists()


def test_rates_of_one_arm(dataset, tmp_path):
    recipe = replace(RECIPE, transformer=Rates(rate=5e-4, decay=0.1))
    result = _compare(dataset, tmp_path / "run", epochs=1, recipe=recipe)
    assert [arm.chosen.rate for arm in result.arms] == [2e-3, 5e-4]
    for arm, decay in zip(_ARMS, (0.05, 0.1), strict=True):
        groups = load_newest(result.out / "arms" / arm / "checkpoints").state["optimiser"]["param_groups"]
        assert {group["weight_decay"] for group in groups} == {0.0, decay}


def test_scoring_changes_nothing_and_does_not_depend_on_the_batch(dataset):
    recipe = replace(RECIPE, batch_size=7)
    splits = load_splits(dataset, recipe, None, lambda _: None)
    fabric = make_fabric("cpu", "32-true")
    cnn, vit = resolve_arms("resnet18-slim", "course-vit", num_classes=4, image_size=16)
    for arm in (cnn, vit):
        training = ArmTraining(arm, recipe.rates, recipe, splits, seed=0, fabric=fabric)
        training.step(0, 0.5)
        before = {name: value.clone() for name, value in training.network.state_dict().items()}
        accuracy, loss = training.score(splits.test)
        assert equal_states(before, dict(training.network.state_dict()))
        assert training.network.training
        alone = [training.score(splits.test.subset(torch.tensor([i]))) for i in range(len(splits.test))]
        assert accuracy == pytest.approx(np.mean([one[0] for one in alone]))
        assert loss == pytest.approx(np.mean([one[1] for one in alone]), rel=1e-4)


def test_plan(dataset):
    plan = plan_comparison("resnet18-slim", "vit", dataset)
    assert plan.num_classes == 4
    assert 0.98 <= plan.parameter_ratio <= 1.02


def test_wrong_settings(dataset, tmp_path):
    with pytest.raises(ConfigError, match="epochs"):
        _compare(dataset, tmp_path, epochs=0)
    with pytest.raises(ConfigError, match="seeds"):
        _compare(dataset, tmp_path, seeds=(1, 1))
    with pytest.raises(ConfigError, match="batch_size"):
        _compare(dataset, tmp_path / "a", recipe=replace(RECIPE, batch_size=55))
    assert not (tmp_path / "a").exists()


def test_splits_must_fit(tmp_path):
    dataset = _write_set(tmp_path)
    four = (tmp_path / "tints-test.npz").read_bytes()
    _write_set(tmp_path, classes=5)
    (tmp_path / "tints-test.npz").write_bytes(four)
    with pytest.raises(DataError, match=r"training split alone \('e', first in row 4\)"):
        _compare(dataset, tmp_path / "run")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="one class"):
        _compare(_write_set(tmp_path, classes=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("accuracy", "n"), [(0.7, 10_000), (0.0, 50), (1.0, 50), (0.25, 40)])
def test_wilson(accuracy, n):
    expected = stats.binomtest(round(accuracy * n), n).proportion_ci(method="wilson")
    assert wilson_interval(accuracy, n) == pytest.approx((expected.low, expected.high))


def test_student():
    values = [0.71, 0.74, 0.72]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert student_interval(values) == pytest.approx(expected)


def test_interrupted_before_it_ends(dataset, tmp_path):
    def stop(step):
        if step.stage.startswith("vit"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="--resume"):
        _compare(dataset, tmp_path / "run", epochs=8, watch=stop)
    assert not (tmp_path / "run" / "result.json").exists()
