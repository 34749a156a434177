"""`compare --dry-run`: what is matched, and the table of layers."""

import json

import pytest
from typer.testing import CliRunner

from nndl_suite.cli.app import app

PLAN = ["compare", "--dataset", "demo", "--cnn", "resnet18-slim", "--dry-run"]


def plan(*words):
    done = CliRunner().invoke(app, [*PLAN, *words, "--json"])
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def test_layers_add_up_to_the_arms():
    for arm in plan("--layers", "--transformer", "vit-spt-lsa")["arms"]:
        assert sum(row["parameters"] for row in arm["layers"]) == arm["parameters"]
        assert sum(row["flops"] for row in arm["layers"]) == arm["flops"]
        assert arm["layers"][-1]["output_shape"] == [10]


@pytest.mark.parametrize(("match", "ratio"), [("parameters", "parameter_ratio"), ("flops", "flops_ratio")])
def test_what_is_matched(match, ratio):
    found = plan("--match", match)
    assert found["match"] == match
    assert 0.98 <= found[ratio] <= 1.02
    other = ({"parameter_ratio", "flops_ratio"} - {ratio}).pop()
    assert not 0.98 <= found[other] <= 1.02
    assert "layers" not in found["arms"][0]


def test_the_table_of_layers_is_shown_in_80_columns():
    done = CliRunner().invoke(app, [*PLAN, "--layers"])
    assert done.exit_code == 0
    assert "layer4.1.conv2" in done.stdout
    assert "blocks.0.attn.qkv" in done.stdout
    assert "701,466" in done.stdout
    assert "parameters differ by +0.04%, FLOPs by +41.22%" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("words", "said"), [(["--layers"], "--dry-run"), (["--match", "flop"], "flop")])
def test_wrong_usage(words, said):
    done = CliRunner().invoke(app, ["compare", "--dataset", "demo", *words])
    assert done.exit_code == 2
    assert said in done.output
