import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nndl_suite.errors import ConfigError, RunError
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.scale import ScaleConfig, plan_scale, run_scale
from nndl_suite.training.runs import RunFolder

SMALL = SSLPretrainer(backbone="resnet18-slim", epochs=1, batch_size=12, device="cpu", precision="32-true")


@pytest.fixture(scope="module")
def config(small_set) -> ScaleConfig:
    return ScaleConfig(dataset=small_set, downstream=small_set, fractions=(0.1, 0.3, 1.0), pretraining=SMALL)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    return run_scale(config, out=tmp_path_factory.mktemp("runs") / "scale")


def test_a_plan_counts_images_and_steps(config):
    plan = plan_scale(config)
    assert plan.stratified
    assert [(p.fixed, p.images, p.steps, p.epochs) for p in plan.points if p.seed == 0] == [
        ("epochs", 12, 1, 1.0),
        ("epochs", 36, 3, 1.0),
        ("epochs", 120, 10, 1.0),
        ("steps", 12, 10, 10.0),
        ("steps", 36, 10, 3.33),
        ("steps", 120, 10, 1.0),
    ]
    assert plan.steps == 2 * (1 + 3 + 10 + 10 + 10)  # the whole set is trained once for both budgets
    asked = plan_scale(replace(config, pretraining=replace(SMALL, steps=7)))
    assert {p.steps for p in asked.points if p.fixed == "steps"} == {7}
    assert {p.steps for p in asked.points if p.fixed == "epochs"} == {1, 3, 10}


def test_every_point_is_a_run_and_both_budgets_share_the_whole_set(finished):
    runs = {folder.name: RunFolder(folder).result() for folder in (finished.path / "pretrain").iterdir()}
    assert len(runs) == 2 * 5
    assert runs["fraction0.1-10steps-seed1"]["images"] == 12
    assert runs["fraction0.1-10steps-seed1"]["steps"] == 10
    by_place = {(point.fixed, point.fraction, point.seed): point for point in finished.points}
    for seed in (0, 1):
        assert by_place["epochs", 1.0, seed].test_accuracy == by_place["steps", 1.0, seed].test_accuracy
    for point in finished.points:
        folder = finished.path / "probe" / f"fraction{point.fraction:g}-{point.steps}steps-seed{point.seed}"
        assert RunFolder(folder).result()["test_accuracy"] == point.test_accuracy


def test_labels_stratify_and_are_then_forgotten(finished):
    settings = RunFolder(finished.path / "pretrain" / "fraction0.1-1steps-seed0").config()["settings"]
    assert settings["fingerprint"] != RunFolder(finished.path).config()["settings"]["fingerprint"]
    assert RunFolder(finished.path).config()["settings"]["stratified"] is True
    assert settings["method"] == "simclr"


def test_means_and_intervals_over_subset_seeds(finished):
    assert len(finished.sizes) == 6
    for size in finished.sizes:
        values = [p.test_accuracy for p in finished.points if (p.fixed, p.fraction) == (size.fixed, size.fraction)]
        assert size.mean == pytest.approx(np.mean(values))
        if np.ptp(values):
            low, high = stats.t.interval(0.95, 1, np.mean(values), stats.sem(values))
            assert size.ci95 == pytest.approx((max(0, low), min(1, high)))


def test_curves_and_what_is_written(finished):
    assert set(finished.curves) == {"epochs", "steps"}
    assert finished.curves["steps"].form == "log-linear"  # three sizes
    written = json.loads((finished.path / "result.json").read_text())
    assert (written["kind"], written["stratified"], len(written["points"])) == ("scale", True, 12)
    assert written["curves"]["steps"]["images"][-1] == pytest.approx(120)


def test_it_goes_on_where_it_stopped(finished, config, tmp_path):
    def stop(step):
        if step.stage.startswith("row 3 of 12"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scale(config, out=tmp_path / "scale", watch=stop)
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "scale").rglob("*/result.json")}
    assert len(done) == 4
    again = run_scale(config, out=tmp_path / "scale", resume=True)
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert again.points == finished.points
    assert again.curves == finished.curves
    with pytest.raises(RunError, match="other settings"):
        run_scale(replace(config, fractions=(0.5, 1.0)), out=tmp_path / "scale", resume=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fractions": (0.0, 1.0)}, r"in \(0, 1\], got 0"),
        ({"fractions": (2.0,)}, "got 2"),
        ({"fractions": (0.5, 0.5)}, "different"),
        ({"fixed": ("epoch",)}, "'epochs'"),
        ({"seeds": ()}, "seeds"),
        ({"protocol": "lineal"}, "'linear'"),
        ({"pretraining": replace(SMALL, method="supervised")}, "needs labels"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(config, settings, told):
    with pytest.raises(ConfigError, match=told):
        replace(config, **settings)


@pytest.mark.parametrize(("fraction", "told"), [(0.001, "is 0, less than one batch of 12"), (0.05, "is 6, less than")])
def test_fractions_that_give_no_batch_are_refused_before_anything_runs(config, fraction, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        run_scale(replace(config, fractions=(fraction, 1.0)), out=tmp_path / "scale")
    assert not (tmp_path / "scale").exists()
