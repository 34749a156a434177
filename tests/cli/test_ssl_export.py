"""`nndl-suite ssl export` on a run that is there: what it writes, says and refuses."""

import inspect
import json
import os
import subprocess
import sys

import pytest
import torch

from nndl_suite.cli.ssl_export import export as command
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import IMAGENET
from nndl_suite.models.weights import save_backbone
from nndl_suite.representation.export_backbone import export_backbone
from nndl_suite.training.runs import open_run


def export(*words, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from nndl_suite.cli import main; main()", "ssl", "export", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a pretraining run and a probe of it."""
    place = tmp_path_factory.mktemp("place")
    run = open_run(place / "run", kind="pretrain", settings={"fingerprint": "f"}, resume=False)
    backbone = build_backbone("resnet18-slim", image_size=16)
    save_backbone(run.path / "backbone.safetensors", backbone, image_size=16, normalisation=IMAGENET)
    fields = {"method": "simclr", "epochs": 1, "images_per_second": 9.0, "final_loss": 3.0, "effective_rank": 20.0}
    told = {"checkpoint": "backbone.safetensors", "dataset": "demo", "images": 4000}
    run.finish("pretrain", seconds=1.0, seed=0, fields=fields | told)
    probe = open_run(place / "probe", kind="probe", settings={}, resume=False)
    score = {"protocol": "linear", "features": "run", "dataset": "demo", "test_accuracy": 0.7654, "resolution": 16}
    rest = {"test_accuracy_ci95": [0.7, 0.8], "chosen": {}, "val_accuracy": 0.8, "feature_dim": 128}
    probe.finish("probe", seconds=1.0, seed=0, fields=score | rest)
    return place


def test_it_writes_weights_and_card_and_says_so(place):
    done = export("run", "--out", "taken/b.pth", "--probe", "probe", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": "taken/b.pth", "card": "taken/b.pth.md"}
    assert "76.54 %" in (place / "taken" / "b.pth.md").read_text()
    build_backbone("resnet18-slim", image_size=16).trunk.load_state_dict(torch.load(place / "taken/b.pth"))
    told = export("run", "--out", "b.safetensors", cwd=place)
    assert (told.returncode, told.stdout) == (0, "")
    assert f"wrote {place / 'b.safetensors'} and its card b.safetensors.md" in told.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run"], 2, "--out"),
        (["run", "--out", "b.pth", "--force"], 2, "--force"),
        (["run", "--out", "b.pt"], 1, "must end in .safetensors, .pth or .onnx"),
        (["nowhere", "--out", "b.pth"], 1, "holds no run"),
        (["probe", "--out", "b.pth"], 1, "expected a pretrain run"),
        (["run", "--out", "b.pth", "--probe", "run"], 1, "expected a probe run"),
        (["run", "--out", "run"], 1, "must end in"),
    ],
)
def test_what_it_refuses_is_one_sentence_and_writes_nothing(place, words, code, said):
    done = export(*words, cwd=place)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list(place.glob("b.p*"))


def test_a_file_that_is_there_is_replaced_only_when_asked(place):
    (place / "there.pth").write_text("mine")
    refused = export("run", "--out", "there.pth", cwd=place)
    assert refused.returncode == 1
    assert "there.pth exists already; choose another --out, or replace it by --overwrite" in refused.stderr
    assert (place / "there.pth").read_text() == "mine"
    assert export("run", "--out", "there.pth", "--overwrite", cwd=place).returncode == 0
    assert torch.load(place / "there.pth")


def test_its_default_is_that_of_the_function_and_help_loads_no_torch():
    assert inspect.signature(command).parameters["overwrite"].default is False
    assert inspect.signature(export_backbone).parameters["overwrite"].default is False
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from nndl_suite.cli.app import app\n"
        "assert '--probe' in CliRunner().invoke(app, ['ssl', 'export', '--help']).output\n"
        "assert not {'torch', 'jinja2', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "COLUMNS": "200"})
