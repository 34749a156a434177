import inspect
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from nndl_suite.cli import ssl_studies
from nndl_suite.cli.app import app
from nndl_suite.errors import ConfigError
from nndl_suite.representation.scale import ScaleConfig
from nndl_suite.representation.study_plan import StudyConfig
from nndl_suite.representation.sweep import SweepConfig

TINY = ["--backbone", "resnet18-slim", "--epochs", "1", "--batch-size", "30", "--device", "cpu"]


@pytest.fixture(scope="module")
def tints(tmp_path_factory):
    """The data name of 90 + 30 images of 16 px in three classes, told apart by their tint."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, n in (("train", 90), ("test", 30)):
        labels = np.arange(n) % 3
        images = rng.integers(0, 160, (n, 16, 16, 3))
        images[np.arange(n), :, :, labels] += 60
        np.savez(folder / f"tints-{split}.npz", images=images.astype(np.uint8), labels=labels)
    return f"arrays:{folder / 'tints.npz'}"


def _run(*words):
    return CliRunner().invoke(app, ["ssl", *map(str, words)])


@pytest.mark.parametrize("command", ["study", "scale", "sweep"])
def test_without_a_folder_it_is_wrong_usage(command):
    more = ["--vary", "temperature=0.1"] if command == "sweep" else []
    done = _run(command, "--dataset", "demo", "--downstream", "demo", *more)
    assert done.exit_code == 2
    assert "--out" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study", "--methods", "simclr,byoll"], "did you mean 'byol'"),
        (["study", "--protocols", "lineal"], "'linear'"),
        (["study", "--methods", "supervised"], "leave it out"),
        (["scale", "--fractions", "0,1"], r"in \(0, 1\]"),
        (["scale", "--fractions", "0.001,1"], "less than one batch of 512"),
        (["scale", "--fixed", "epoch"], "'epochs'"),
        (["sweep", "--vary", "temprature=0.1"], "'temperature'"),
        (["sweep", "--vary", "temperature=0.1", "--method", "barlow"], "barlow has no temperature"),
        (["sweep", "--vary", "batch-size=8000"], "less than one batch of 8000"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_before_anything_runs(words, said, tints, tmp_path):
    done = _run(words[0], "--dataset", tints, "--downstream", tints, "--out", tmp_path / "run", *words[1:])
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigError)
    with pytest.raises(ConfigError, match=said):
        raise done.exception
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [["study", "--resolutions", "32,large"], ["sweep", "--vary", "temperature"], ["sweep", "--vary", "temperature=a"]],
)
def test_what_is_no_list_of_numbers_is_wrong_usage(words, tints, tmp_path):
    done = _run(words[0], "--dataset", tints, "--downstream", tints, "--out", tmp_path / "run", *words[1:])
    assert done.exit_code == 2


def test_dry_runs_print_rows_and_steps(tints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = ["--dataset", tints, "--downstream", tints, "--dry-run", "--json", *TINY]
    study = json.loads(_run("study", *where, "--methods", "simclr,byol", "--seeds", "2").stdout)
    assert [row["row"] for row in study["rows"]] == [
        "simclr on tints",
        "byol on tints",
        "imagenet",
        "random",
        "scratch",
    ]
    assert study["steps"] == 2 * 3 * 3
    assert "no ImageNet weights" in study["rows"][2]["absent because"]
    scale = json.loads(_run("scale", *where, "--fractions", "0.5,1", "--subset-seeds", "1").stdout)
    assert [(row["fixed"], row["images"], row["steps"]) for row in scale["rows"]] == [
        ("epochs", 45, 1),
        ("epochs", 90, 3),
        ("steps", 45, 3),
        ("steps", 90, 3),
    ]
    assert scale["steps"] == 1 + 3 + 3
    swept = ["--vary", "temperature=0.1,0.5", "--vary", "batch_size=30,45"]
    sweep = json.loads(_run("sweep", *where, *swept).stdout)
    assert [row["steps a seed"] for row in sweep["rows"]] == [3, 2, 3, 2]
    assert sweep["rows"][1]["batch_size"] == 45
    one = json.loads(_run("sweep", *where, *swept, "--design", "one-at-a-time").stdout)
    assert len(one["rows"]) == 3
    shown = _run("sweep", "--dataset", tints, "--downstream", tints, "--dry-run", *TINY, *swept)
    assert "10 steps in all" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_a_study_as_json_then_as_a_table_then_in_a_report(tints, tmp_path):
    words = [
        "study",
        "--dataset",
        tints,
        "--downstream",
        tints,
        "--protocols",
        "linear",
        *TINY,
        "--out",
        tmp_path / "s",
    ]
    result = json.loads(_run(*words, "--json").stdout)
    assert result["kind"] == "study"
    assert result["out"] == str(tmp_path / "s")
    assert _run(*words).exception.args[0].endswith("add --resume to go on with it or choose another --out")
    shown = _run(*words, "--resume")
    assert shown.exit_code == 0
    assert f"{result['rows'][0]['mean']:.2%}" in shown.stdout
    assert "no ImageNet weights" in shown.stdout
    assert CliRunner().invoke(app, ["report", str(tmp_path / "s")]).exit_code == 0
    assert "simclr on tints" in (tmp_path / "s" / "report.html").read_text()


def test_a_scale_and_a_sweep_as_tables(tints, tmp_path):
    where = ["--dataset", tints, "--downstream", tints, *TINY]
    scale = _run("scale", *where, "--fractions", "0.5,1", "--out", tmp_path / "scale")
    assert scale.exit_code == 0, scale.exception
    assert "fixed steps" in scale.stdout
    assert "fitted error" in scale.stdout
    sweep = _run("sweep", *where, "--vary", "temperature=0.1,0.5", "--out", tmp_path / "sweep")
    assert sweep.exit_code == 0, sweep.exception
    result = json.loads((tmp_path / "sweep" / "result.json").read_text())
    assert sweep.stdout.count(f"{result['test_mean']:.2%}") >= 1
    assert "validation accuracy" in sweep.stdout


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_leaves_a_study_that_resumes(tints, tmp_path):
    words = ["ssl", "study", "--dataset", tints, "--downstream", tints, *TINY, "--out", str(tmp_path / "s"), "--resume"]
    words[words.index("--epochs") + 1] = "2000"
    program = [sys.executable, "-c", "from nndl_suite.cli import main; main()", *words]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    try:
        log = tmp_path / "s" / "pretrain" / "simclr-tints-seed0" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not log.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "row 1 of 3, simclr on tints, seed 0: pretraining" in said
    assert "--resume goes on from there" in said
    assert "Traceback" not in said
    assert list(log.parent.glob("checkpoints/*.safetensors"))
    assert not (tmp_path / "s" / "result.json").exists()


@pytest.mark.parametrize(
    ("command", "config", "lists"),
    [
        (ssl_studies.study, StudyConfig, {"methods": str, "protocols": str, "resolutions": int}),
        (ssl_studies.scale, ScaleConfig, {"fractions": float, "fixed": str}),
        (ssl_studies.sweep, SweepConfig, {}),
    ],
)
def test_defaults_are_those_of_the_api(command, config, lists):

    fields = config.__dataclass_fields__
    pretraining = fields["pretraining"].default_factory()
    for name, option in inspect.signature(command).parameters.items():
        if option.default is option.empty or name in {"out", "seeds"}:
            continue
        if name in lists:
            assert tuple(lists[name](word) for word in option.default.split(",") if word) == fields[name].default, name
        elif name in fields:
            assert option.default == fields[name].default, name
        elif hasattr(pretraining, name):
            assert option.default == getattr(pretraining, name), name
