"""A study from end to end on a small set: every row by the same protocols, stopped, gone on with, weights missing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import ConfigError, DataError, RunError, TrainingError
from nndl_suite.models.backbones import build_backbone
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.study import run_study
from nndl_suite.representation.study_plan import StudyConfig, plan_study
from nndl_suite.training.predictions import read_predictions
from nndl_suite.training.runs import RunFolder

SMALL = SSLPretrainer(backbone="resnet18-slim", epochs=1, batch_size=30, device="cpu", precision="32-true")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A state dict as torchvision's are, of a network that nobody trained."""
    file = tmp_path_factory.mktemp("weights") / "slim.pth"
    torch.manual_seed(3)
    torch.save(build_backbone("resnet18-slim", stem="imagenet", image_size=32).trunk.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def config(small_set, weights) -> StudyConfig:
    return StudyConfig(
        datasets=(small_set,),
        downstream=small_set,
        methods=("simclr",),
        pretraining=SMALL,
        resolutions=(16, 32),
        imagenet=weights,
        seeds=(0, 1),
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    out, steps = tmp_path_factory.mktemp("runs") / "study", []
    return run_study(config, out=out, watch=steps.append), steps


def test_every_row_has_every_protocol_and_a_folder_of_its_own(finished):
    study, _ = finished
    assert [(row.name, row.protocol) for row in study.rows] == [
        (name, protocol)
        for name in ("simclr on tints", "imagenet at 16 px", "imagenet at 32 px", "random", "scratch")
        for protocol in ("linear", "knn")
    ]
    assert sorted(folder.name for folder in (study.path / "pretrain").iterdir()) == [
        "scratch-seed0",
        "scratch-seed1",
        "simclr-tints-seed0",
        "simclr-tints-seed1",
    ]
    assert len(list((study.path / "probe").iterdir())) == 2 * 5 * 2
    assert study.absent == {}
    assert [row.resolution for row in study.rows[2:6:2]] == [16, 32]


def test_untrained_weights_see_what_those_trained_here_see(config, tmp_path):
    shallow = replace(config, pretraining=replace(SMALL, stem="imagenet"), protocols=("knn",), seeds=(0,))
    study = run_study(replace(shallow, resolutions=(16,)), out=tmp_path / "study")
    ssl, _, random, scratch = study.rows
    assert random.name == "random"
    assert (
        ssl.resolution
        == random.resolution
        == scratch.resolution
        == load_image_set(config.downstream, "train").image_size
    )


def test_the_table_says_what_the_probes_say(finished):
    study, _ = finished
    for row in study.rows:
        folder = row.name.replace(" on ", "-").replace(" at ", "-").replace(" px", "px")
        for seed, accuracy in zip(row.seeds, row.test_accuracy, strict=True):
            probe = study.path / "probe" / f"{folder}-seed{seed}-{row.protocol}"
            result = RunFolder(probe).result()
            assert result is not None
            assert result["test_accuracy"] == accuracy
            assert read_predictions(probe).correct.mean() == pytest.approx(accuracy)
            assert result["seed"] == seed
    assert study.rows[0].interval == "student-t over seeds"
    assert study.rows[2].interval == "wilson over test images"
    assert study.best.kind != "scratch"
    assert study.best.val_accuracy == max(row.val_accuracy for row in study.rows[:8:2])


def test_scratch_learns_from_the_downstream_labels_the_others_from_none(finished, small_set):
    study, _ = finished
    config = RunFolder(study.path / "pretrain" / "scratch-seed0").config()["settings"]
    images = load_image_set(small_set, "train")
    assert (config["method"], config["fingerprint"]) == ("supervised", images.fingerprint)
    learned = RunFolder(study.path / "pretrain" / "simclr-tints-seed1").config()["settings"]
    assert (learned["method"], learned["seed"]) == ("simclr", 1)


def test_what_is_written(finished, small_set):
    study, _ = finished
    written = json.loads((study.path / "result.json").read_text())
    assert (written["kind"], written["seed"], written["test_images"]) == ("study", 0, 60)
    assert {"seconds", "rows", "absent", "best", "confusions", "protocols", "seeds"} <= set(written)
    assert written["rows"][0]["gain_over_scratch"]["interval"] == "student-t over seeds"
    assert len(written["rows"][0]["gain_over_random"]["per_class"]) == 3
    assert written["superclasses"] == {}
    mapped = json.loads((study.path / "embedding.json").read_text())
    assert [one["name"] for one in mapped["maps"]] == ["simclr on tints", "random"]
    assert np.shape(mapped["maps"][0]["xy"]) == (60, 2)
    assert mapped["labels"] == load_image_set(small_set, "test").labels.tolist()
    assert not (study.path / ".embedding.json").exists()


def test_progress_says_which_row(finished):
    _, steps = finished
    stages = {step.stage for step in steps}
    assert "row 1 of 10, simclr on tints, seed 0: pretraining" in stages
    assert any(stage.startswith("row 10 of 10, scratch, seed 1: ") for stage in stages)


def _without_seconds(folder):
    return {key: value for key, value in json.loads((folder / "result.json").read_text()).items() if key != "seconds"}


def test_a_stopped_study_goes_on_row_by_row(finished, config, tmp_path):
    study, _ = finished

    def stop(step):
        if step.stage.startswith("row 5 of 10") and "pretraining" in step.stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config, out=tmp_path / "study", watch=stop)
    assert not (tmp_path / "study" / "result.json").exists()
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "study").rglob("*/result.json")}
    assert len(done) == 1 + 4 * 2  # one pretraining and four rows' probes
    with pytest.raises(RunError, match="--resume"):
        run_study(config, out=tmp_path / "study")
    run_study(config, out=tmp_path / "study", resume=True)
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert _without_seconds(tmp_path / "study")["rows"] == _without_seconds(study.path)["rows"]
    with pytest.raises(RunError, match="other settings"):
        run_study(replace(config, seeds=(0,)), out=tmp_path / "study", resume=True)


def test_a_finished_study_is_read_and_comes_out_the_same(finished, config):
    study, _ = finished
    before = (study.path / "result.json").read_bytes()
    assert run_study(config, out=study.path, resume=True) == study
    assert (study.path / "result.json").read_bytes() == before


def test_weights_out_of_reach_leave_a_row_out_and_say_why(config, tmp_path):
    lone = replace(config, imagenet="imagenet", protocols=("linear",), seeds=(0,), resolutions=())
    study = run_study(lone, out=tmp_path / "study")
    assert list(study.absent) == ["imagenet"]
    assert "no ImageNet weights for resnet18-slim" in study.absent["imagenet"]
    assert [row.name for row in study.rows] == ["simclr on tints", "random", "scratch"]
    assert study.rows[0].interval == "wilson over test images"
    assert study.rows[0].gain_over_random.interval == "student-t over paired test images"


def test_a_method_that_diverges_is_absent_and_the_rest_goes_on(config, tmp_path, monkeypatch):
    fit = SSLPretrainer.fit

    def diverging(self, dataset, **where):
        if self.method == "byol" and self.seed == 1:
            raise TrainingError("pretraining: loss is nan at step 3")
        return fit(self, dataset, **where)

    monkeypatch.setattr(SSLPretrainer, "fit", diverging)
    study = run_study(
        replace(config, methods=("byol", "simclr"), protocols=("linear",), resolutions=(16,)), out=tmp_path / "study"
    )
    assert study.absent == {"byol on tints": "pretraining: loss is nan at step 3"}
    assert [row.name for row in study.rows] == ["simclr on tints", "imagenet at 16 px", "random", "scratch"]
    with pytest.raises(TrainingError, match="no method could be trained: .*nan"):
        run_study(replace(config, methods=("byol",), protocols=("linear",)), out=tmp_path / "none")


def test_a_plan_counts_and_trains_nothing(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_study(replace(config, pretraining=replace(SMALL, epochs=7)))
    assert [(planned.row.name, planned.images, planned.steps) for planned in plan.rows] == [
        ("simclr on tints", 120, 28),
        ("imagenet at 16 px", 0, 0),
        ("imagenet at 32 px", 0, 0),
        ("random", 0, 0),
        ("scratch", 120, 28),
    ]
    assert plan.steps == 2 * 2 * 28
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"methods": ("simcrl",)}, "'simclr'"),
        ({"methods": ("simclr", "simclr")}, "methods must be"),
        ({"methods": ()}, "methods must be"),
        ({"methods": ("supervised",)}, "leave it out"),
        ({"protocols": ("lineal",)}, "'linear'"),
        ({"seeds": (1, 1)}, "seeds must be"),
        ({"resolutions": (32, 32)}, "resolutions must be"),
        ({"methods": ("barlow",), "pretraining": replace(SMALL, temperature=0.1)}, "no temperature"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(config, settings, told):
    with pytest.raises(ConfigError, match=told):
        replace(config, **settings)


def test_what_the_data_refuse_is_refused_before_anything_runs(config, tmp_path):
    for changed, told in (
        (replace(config, pretraining=replace(SMALL, batch_size=500)), "less than one batch of 500"),
        (replace(config, imagenet=tmp_path / "nowhere.pth"), "nowhere.pth"),
        (replace(config, datasets=("folder:nowhere",)), "not a folder"),
    ):
        with pytest.raises((ConfigError, DataError), match=told):
            run_study(changed, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_damaged_row_is_named(finished, config):
    study, _ = finished
    file = study.path / "probe" / "random-seed0-linear" / "predictions.npz"
    content = file.read_bytes()
    file.write_bytes(b"nothing")
    try:
        with pytest.raises(RunError, match=r"random-seed0-linear.* damaged; delete .* run that again"):
            run_study(config, out=study.path, resume=True)
    finally:
        file.write_bytes(content)


def test_the_folder_may_be_named_in_another_way(finished, config, monkeypatch):
    study, _ = finished
    monkeypatch.chdir(study.path.parent)
    assert run_study(config, out="study", resume=True).rows == study.rows
