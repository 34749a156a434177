import json

import numpy as np
import pytest
from typer.testing import CliRunner

from nndl_suite.cli.app import app
from nndl_suite.errors import ConfigError, RunError

TINY = ["--arm", "resnet18-slim", "--trials", "3", "--epochs", "1", "--vary", "batch-size=10,20", "--device", "cpu"]


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, n in (("train", 60), ("test", 20)):
        images = rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
        np.savez(folder / f"noise-{split}.npz", images=images, labels=np.arange(n) % 3)
    return f"arrays:{folder / 'noise.npz'}"


def _run(*words):
    return CliRunner().invoke(app, ["tune", *map(str, words)])


def test_a_tuning_as_json_and_as_a_table(noise, tmp_path):
    done = _run("--dataset", noise, *TINY, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["kind"] == "tuning"
    assert list(result["best"]["settings"]) == ["rate", "decay", "batch_size"]
    assert result["best"]["settings"]["batch_size"] in (10, 20)
    assert "trial 1 of 3 (rate" in done.stderr
    again = _run("--dataset", noise, *TINY, "--out", tmp_path / "run", "--resume")
    shown = " ".join(again.stdout.split())
    assert f"resnet18-slim tuned on {noise[:8]}" in shown
    assert "rate 0.0001 to 0.01 (log), decay 0.001 to 0.5 (log), batch size 10 or 20" in shown
    assert f"{result['best']['val_accuracy']:.2%}" in shown


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--vary", "batchsize=10,20"], ConfigError, "did you mean 'batch_size'"),
        (["--vary", "rate=1"], ConfigError, "rate is tuned among two different values"),
        (["--arm", "resnet81"], ConfigError, "'resnet18"),
        (["--storage", "nosuch://host/db"], ConfigError, "names no database"),
        (["--storage", "."], RunError, "cannot use"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_before_anything_runs(noise, tmp_path, monkeypatch, words, error, said):
    monkeypatch.chdir(tmp_path)
    done = _run("--dataset", noise, *TINY, *words, "--out", "run")
    assert done.exit_code == 1
    with pytest.raises(error, match=said):
        raise done.exception
    assert not list(tmp_path.iterdir())


def test_wrong_usage(noise):
    for words in (["--dataset", noise], ["--out", "x", "--trials", "0"], ["--out", "x", "--match", "seconds"]):
        assert _run(*words).exit_code == 2


def test_compare_takes_the_rates_of_both(tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (("train", 300), ("test", 20)):  # one batch of the default recipe
        images = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        np.savez(tmp_path / f"noise-{split}.npz", images=images, labels=np.arange(n) % 3)
    said = ["--dataset", f"arrays:{tmp_path / 'noise.npz'}", "--epochs", "1", "--device", "cpu", "--json"]
    small = ["--cnn", "resnet18-slim"]
    best = {}
    for arm in ("resnet18-slim", "vit"):
        done = _run(*said, *small, "--arm", arm, "--trials", "2", "--out", tmp_path / arm)
        assert done.exit_code == 0, done.output
        best[arm] = json.loads(done.stdout)["best"]["settings"]
    words = ["compare", *said, *small, "--seeds", "1", "--out", tmp_path / "cmp"]
    words += ["--tuned", tmp_path / "vit", "--tuned", tmp_path / "resnet18-slim"]
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert {arm["name"]: arm["chosen"] for arm in result["arms"]} == best
    assert (result["tuning"]["trials"], result["tuning"]["epochs"]) == (2, 1)
    words[words.index("--json")] = "--resume"
    shown = " ".join(CliRunner().invoke(app, [*map(str, words)]).stdout.split())
    assert "rates tuned 2 trials of 1 epochs each: resnet18-slim rate" in shown
