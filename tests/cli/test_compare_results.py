"""What `compare` prints when it has finished, and when an arm broke."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from nndl_suite import compare_architectures
from nndl_suite.cli.app import app
from nndl_suite.cli.results import show_result
from nndl_suite.comparison.recipe import Rates, Recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 24)):
        images = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        np.savez(folder / f"set-{split}.npz", images=images, labels=np.arange(n) % 6)
    recipe = Recipe(batch_size=12, rates=Rates(rate=1e-3))
    dataset, out = f"arrays:{folder / 'set.npz'}", folder / "run"
    return compare_architectures(
        "resnet18-slim", "vit", dataset, out=out, epochs=1, seeds=(0, 1), recipe=recipe, device="cpu"
    )


def test_tables_and_sentences(finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    show_result(finished.out, as_json=False)
    printed = " ".join(capsys.readouterr().out.split())
    first, second = finished.arms
    for arm in finished.arms:
        assert f"{arm.parameters:,}" in printed
        assert f"{arm.mean:.2%}" in printed
    ece = finished.difference.measures.ece
    assert f"{first.measures.ece.mean:.2%}" in printed
    assert f"{second.measures.ece.mean:.2%}" in printed
    assert f"{ece.mean:+.2%} [{ece.ci95[0]:.2%}, {ece.ci95[1]:.2%}]" in printed
    assert f"{finished.difference.measures.nll.mean:+.3f}" in printed
    assert "top-5" in printed
    assert "This does not say" in printed


def test_json_is_the_file(finished, capsys):
    show_result(finished.out, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"out": str(finished.out), **json.loads((finished.out / "result.json").read_text())}


def test_an_unusable_label_is_named(tmp_path):
    images = np.zeros((20, 8, 8, 3), np.uint8)
    labels = np.array([0, 1] * 8 + [0, 1, 7, 1])
    np.savez(tmp_path / "set.npz", images=images, labels=labels, class_names=["a", "b"])
    words = ["compare", "--dataset", f"arrays:{tmp_path / 'set.npz'}", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "found 7 in row 18" in str(done.exception)
