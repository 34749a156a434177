import inspect
import json
import os
import subprocess
import sys

import pytest

from nndl_suite import (
    ColmapNerfReconstructor,
    LinearProbe,
    SSLPretrainer,
    compare_architectures,
    train_architecture,
    tune_architecture,
)
from nndl_suite.cli import compare, nerf, ssl, train, tune
from nndl_suite.comparison.recipes import load_recipe
from nndl_suite.nerf.sfm import SfmSettings


def run(*words, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from nndl_suite.cli import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
    )


def sentence(done):
    """What is on stderr, without line breaks and boxes."""
    return " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compere"], "compare"),
        (["ssl", "pretrian"], "pretrain"),
        (["ssl", "pretrain", "--dataset", "demo"], "--out"),
        (["ssl", "pretrain", "--dataset", "demo", "--out", "x", "--device", "tpu"], "tpu"),
        (["ssl", "probe", "--features", "random", "--dataset", "demo", "--out", "x", "--epoch", "3"], "--epoch"),
        (["ssl", "probe", "--features", "random", "--dataset", "demo", "--out", "x", "--protocol", "lnear"], "lnear"),
        (["compare", "--epochs", "0", "--out", "x"], "--epochs"),
        (["compare", "--dataset", "demo"], "--out"),
        (["nerf", "train", ".", "--out", "x", "--holdout", "often"], "often"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_it(words, said, tmp_path):
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in sentence(done)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ssl", "pretrain", "--dataset", "cifar1000", "--out", "x"], "did you mean 'cifar10"),
        (["ssl", "pretrain", "--dataset", "demo", "--method", "simcrl", "--out", "x"], "'simclr'"),
        (["ssl", "pretrain", "--dataset", "demo", "--backbone", "resnet81", "--out", "x"], "'resnet18'"),
        (["ssl", "pretrain", "--dataset", "folder:none", "--out", "x"], "is not a folder"),
        (["ssl", "probe", "--features", "nowhere", "--dataset", "demo", "--out", "x"], "nowhere"),
        (["ssl", "probe", "--features", "random", "--dataset", "demo", "--epochs", "3", "--out", "x"], "'finetune'"),
        (["compare", "--dataset", "demo", "--cnn", "resnet81", "--out", "x"], "'resnet18'"),
        (["nerf", "train", "nowhere", "--out", "x"], "nowhere"),
        (["nerf", "train", ".", "--out", "x"], "put the photos in it"),
        (["nerf", "eval", "."], "holds no run"),
        (["nerf", "render", ".", "--out", "o.mp4"], "holds no run"),
        (["nerf", "export", ".", "--out", "transforms.json"], "holds no run"),
        (["nerf", "view", "."], "holds no run"),
        (["report", "."], "holds no run"),
    ],
)
def test_what_a_person_can_mend_exits_with_1_and_one_sentence(words, said, tmp_path):
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert said in sentence(done)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert "Traceback" in run("--debug", *words, cwd=tmp_path).stderr


def test_debug_shows_where_anywhere_on_the_line(tmp_path):
    assert "Traceback" in run("report", "--debug", ".", cwd=tmp_path).stderr


def test_a_run_folder_is_refused_and_json_is_one_object(tmp_path):
    words = ["ssl", "probe", "--features", "random", "--backbone", "resnet18-slim", "--dataset", "demo"]
    done = run(*words, "--out", "probe", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kind"] == "probe"
    assert 0.1 < result["test_accuracy"] < 0.9
    again = run(*words, "--out", "probe", cwd=tmp_path)
    assert again.returncode == 1
    assert "already holds a run; add --resume" in sentence(again)
    shown = run(*words, "--out", "probe", "--resume", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"{result['test_accuracy']:.2%}" in shown.stdout


def test_features_are_kept_where_one_says(tmp_path):
    words = ["ssl", "probe", "--features", "random", "--backbone", "resnet18-slim", "--dataset", "demo", "--json"]
    found = [
        json.loads(run(*words, *more, "--out", f"probe{i}", cwd=tmp_path, XDG_CACHE_HOME=tmp_path / "xdg").stdout)
        for i, more in enumerate(
            (
                ["--protocol", "knn", "--no-cache"],
                ["--protocol", "knn", "--cache", "kept"],
                ["--protocol", "linear", "--cache", "kept"],
            )
        )
    ]
    assert [result["features_cached"] for result in found] == [False, False, True]
    assert found[0]["test_accuracy"] == found[1]["test_accuracy"]
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2
    assert not (tmp_path / "xdg").exists()


def test_a_dry_run_matches_within_two_percent(tmp_path):
    done = run("compare", "--dataset", "demo", "--dry-run", "--json", cwd=tmp_path)
    cnn, vit = json.loads(done.stdout)["arms"]
    assert abs(vit["parameters"] / cnn["parameters"] - 1) < 0.02
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "api"),
    [
        (ssl.pretrain, SSLPretrainer),
        (ssl.probe, LinearProbe),
        (compare.compare, compare_architectures),
        (train.train, train_architecture),
        (tune.tune, tune_architecture),
        (nerf.poses, SfmSettings),
        (nerf.train, ColmapNerfReconstructor),
        (nerf.train, ColmapNerfReconstructor.fit),
        (nerf.export, ColmapNerfReconstructor.export_mesh),
    ],
)
def test_defaults_are_those_of_the_api(command, api):
    theirs = inspect.signature(api).parameters
    for name, option in inspect.signature(command).parameters.items():
        if name in theirs and option.default is not option.empty and name not in {"out", "seeds", "fractions"}:
            stated = load_recipe(option.default) if name == "recipe" else option.default
            assert stated == theirs[name].default, name
