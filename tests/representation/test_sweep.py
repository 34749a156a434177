import json
from dataclasses import replace

import pytest

from nndl_suite.errors import ConfigError, DataError, RunError, TrainingError
from nndl_suite.representation import probe as probe_module
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.sweep import SweepConfig, Vary, plan_sweep, run_sweep
from nndl_suite.training.runs import RunFolder

SMALL = SSLPretrainer(backbone="resnet18-slim", epochs=1, batch_size=30, device="cpu", precision="32-true")
VARY = (Vary(name="temperature", values=(0.1, 0.5)), Vary(name="batch_size", values=(30, 60)))


@pytest.fixture(scope="module")
def config(small_set) -> SweepConfig:
    return SweepConfig(dataset=small_set, downstream=small_set, vary=VARY, pretraining=SMALL)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A sweep, and the order in which it read the downstream splits."""
    order, load = [], probe_module.load_image_set
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            probe_module, "load_image_set", lambda name, split, **kw: (order.append(split), load(name, split, **kw))[1]
        )
        return run_sweep(config, out=tmp_path_factory.mktemp("runs") / "sweep"), order


def test_all_combinations_or_one_at_a_time(config):
    assert config.combinations == (
        {"temperature": 0.1, "batch_size": 30},
        {"temperature": 0.1, "batch_size": 60},
        {"temperature": 0.5, "batch_size": 30},
        {"temperature": 0.5, "batch_size": 60},
    )
    three = (*VARY, Vary(name="augmentation", values=(1.0, 0.5, 2.0)))
    assert replace(config, vary=three, design="one-at-a-time").combinations == (
        {"temperature": 0.1, "batch_size": 30, "augmentation": 1.0},
        {"temperature": 0.5, "batch_size": 30, "augmentation": 1.0},
        {"temperature": 0.1, "batch_size": 60, "augmentation": 1.0},
        {"temperature": 0.1, "batch_size": 30, "augmentation": 0.5},
        {"temperature": 0.1, "batch_size": 30, "augmentation": 2.0},
    )
    assert isinstance(config.combinations[0]["batch_size"], int)


def test_what_varies_reaches_the_pretrainer(config):
    given = {"temperature": 0.3, "projector_dim": 64, "batch_size": 40, "learning_rate": 0.01, "augmentation": 0.5}
    trained = config.pretrainer(given, seed=4)
    assert trained == replace(SMALL, seed=4, **given)
    assert config.pretrainer({}, seed=0) == SMALL


def test_a_plan_counts_and_trains_nothing(config):
    plan = plan_sweep(replace(config, seeds=(0, 1)))
    assert [row.steps for row in plan.rows] == [4, 2, 4, 2]
    assert plan.steps == 2 * 12


def test_test_images_are_read_for_the_chosen_row_alone(finished):
    sweep, order = finished
    assert order == ["train", "test"]
    probes = list((sweep.path / "probe").iterdir())
    assert len(probes) == 1
    tested = RunFolder(probes[0]).result()
    assert tested["test_accuracy"] == sweep.test_mean == sweep.test_accuracy[0]
    assert tested["val_accuracy"] == sweep.rows[sweep.chosen].mean  # the validation that chose is the probe's own
    assert len(list((sweep.path / "validation").iterdir())) == 4
    assert len(list((sweep.path / "pretrain").iterdir())) == 4


def test_the_best_on_validation_is_chosen_the_first_of_equals(finished):
    sweep, _ = finished
    means = [row.mean for row in sweep.rows]
    assert sweep.chosen == means.index(max(means))
    written = json.loads((sweep.path / "result.json").read_text())
    assert (written["kind"], written["chosen"], written["interval"]) == (
        "sweep",
        sweep.chosen,
        "wilson over test images",
    )
    assert [row["settings"] for row in written["rows"]] == [dict(row.settings) for row in sweep.rows]
    assert not any("test_accuracy" in row for row in written["rows"])


def test_it_goes_on_where_it_stopped(finished, config, tmp_path):
    sweep, _ = finished

    def stop(step):
        if step.stage.startswith("row 3 of 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(config, out=tmp_path / "sweep", watch=stop)
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "sweep").rglob("*/result.json")}
    assert len(done) == 4
    again = run_sweep(config, out=tmp_path / "sweep", resume=True)
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert [row.val_accuracy for row in again.rows] == [row.val_accuracy for row in sweep.rows]
    assert again.test_accuracy == sweep.test_accuracy
    with pytest.raises(RunError, match="other settings"):
        run_sweep(replace(config, design="one-at-a-time"), out=tmp_path / "sweep", resume=True)


def test_several_seeds_are_averaged_and_all_are_tested(config, tmp_path):
    sweep = run_sweep(replace(config, vary=VARY[:1], seeds=(0, 1)), out=tmp_path / "sweep")
    assert all(len(row.val_accuracy) == 2 and row.ci95 is not None for row in sweep.rows)
    assert len(sweep.test_accuracy) == 2
    low, high = sweep.test_ci95
    assert 0 <= low <= sweep.test_mean <= high <= 1


def test_a_combination_that_diverges_is_told_and_never_chosen(config, tmp_path):
    rates = Vary(name="learning_rate", values=(1e30, 0.1))
    sweep = run_sweep(replace(config, vary=(rates,)), out=tmp_path / "sweep")
    assert [dict(row.settings) for row in sweep.rows] == [{"learning_rate": 0.1}]
    assert sweep.chosen == 0
    assert [dict(one.settings) for one in sweep.diverged] == [{"learning_rate": 1e30}]
    assert "loss is nan at step" in sweep.diverged[0].why
    with pytest.raises(TrainingError, match="no combination can be trained; the first: .*nan"):
        run_sweep(replace(config, vary=(replace(rates, values=(1e30,)),)), out=tmp_path / "all")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda config: Vary(name="temprature", values=(0.1,)), "'temperature'"),
        (lambda config: Vary(name="temperature", values=()), "one or more different values"),
        (lambda config: Vary(name="temperature", values=(0.1, 0.1)), "one or more different values"),
        (lambda config: Vary(name="temperature", values=(float("nan"),)), "finite"),
        (lambda config: Vary(name="batch_size", values=(12.5,)), "whole"),
        (lambda config: replace(config, vary=()), "one or more different settings"),
        (lambda config: replace(config, vary=(VARY[0], VARY[0])), "one or more different settings"),
        (lambda config: replace(config, design="produkt"), "'product'"),
        (lambda config: replace(config, seeds=()), "seeds"),
        (lambda config: replace(config, vary=(Vary(name="temperature", values=(-1.0,)),)), "temperature must be"),
        (lambda config: replace(config, pretraining=replace(SMALL, method="barlow")), "barlow has no temperature"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(config, make, told):
    with pytest.raises(ConfigError, match=told):
        make(config)


def test_what_the_data_refuse_is_refused_before_anything_runs(config, tmp_path):
    for changed, told in (
        (replace(config, vary=(Vary(name="batch_size", values=(30, 500)),)), "less than one batch of 500"),
        (replace(config, downstream="folder:nowhere"), "not a folder"),
    ):
        with pytest.raises((ConfigError, DataError), match=told):
            run_sweep(changed, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()
