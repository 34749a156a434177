"""An exported backbone loads strictly in torchvision and timm, with the same bits, and its card is true and runs."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from nndl_suite.data.image_set import resident_set
from nndl_suite.errors import ConfigError, DataError, RunError
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import Normalisation
from nndl_suite.models.small_maps import as_written
from nndl_suite.models.weights import read_header, save_backbone
from nndl_suite.representation import export_backbone as export_module
from nndl_suite.representation.export_backbone import export_backbone
from nndl_suite.representation.features import load_feature_source
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.training.files import Json, read_json, write_json
from nndl_suite.training.runs import open_run

NORMALISATION = Normalisation(mean=(0.1, 0.25, 0.5), std=(0.2, 0.3, 0.4))
SETTINGS: dict[str, Json] = {
    "method": "simclr",
    "epochs": 7,
    "recipe": {"optimiser": "sgd", "learning_rate": 0.25},
    "dataset": "a|b",
    "fingerprint": "0123abcd",
}
RESULT: dict[str, Json] = {
    "method": "simclr",
    "epochs": 7,
    "steps": 21,
    "images_per_second": 212.5,
    "final_loss": 4.25,
    "effective_rank": 33.25,
    "checkpoint": "backbone.safetensors",
    "dataset": "a|b",
    "images": 1234,
    "precision": "32-true",
    "device": "cpu",
    "quality": {"spread": 0.625, "effective_rank": 33.25, "alignment": 0.25, "knn_accuracy": 0.375},
    "warning": None,
}


def pretrained(folder: Path, *, backbone="resnet18-slim", stem="auto", size=16, finished=True) -> Path:
    """A run folder as pretraining leaves it, with weights and running statistics of its own."""
    run = open_run(folder, kind="pretrain", settings=SETTINGS, resume=False)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build_backbone(backbone, stem=stem, image_size=size)
        network(torch.randn(8, 3, size, size))
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_backbone(folder / "backbone.safetensors", network, image_size=size, normalisation=NORMALISATION)
    run.log({"step": 3, "loss": 5.0, "spread": 0.1, "effective_rank": 9.5, "online_accuracy": 0.25})
    run.log({"step": 6, "loss": 4.5, "spread": 0.5, "effective_rank": 32.5, "online_accuracy": 0.75})
    run.log({"step": 7, "loss": 4.25})
    if finished:
        run.finish("pretrain", seconds=321.0, seed=5, fields=RESULT)
    return folder


def probed(folder: Path, features: Path | str, *, finished=True, accuracy=0.4321, protocol="linear") -> Path:
    run = open_run(folder, kind="probe", settings={"features": str(features)}, resume=False)
    fields: dict[str, Json] = {
        "protocol": protocol,
        "features": str(features),
        "dataset": "cifar100",
        "test_accuracy": accuracy,
        "test_accuracy_ci95": [0.4224, 0.4418],
        "val_accuracy": 0.44,
        "chosen": {"l2": 0.001},
        "feature_dim": 128,
        "resolution": 32,
        "notes": ["the pixels were few"],
    }
    if finished:
        run.finish("probe", seconds=9.0, seed=0, fields=fields)
    return folder


def ours(run: Path, images: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """The backbone, and images in [0, 1] as it wants them."""
    pixels = torch.zeros(2, 3, images.shape[-1], images.shape[-1], dtype=torch.uint8)
    source = load_feature_source(run, resident_set("x", pixels, None, ()))
    mean, std = (torch.tensor(channels)[:, None, None] for channels in (NORMALISATION.mean, NORMALISATION.std))
    return source.backbone.eval(), (images - mean) / std


def assert_ours(found: torch.Tensor, run: Path, images: torch.Tensor) -> None:
    """What this package makes of images: to the bit by plain convolutions, to rounding by its own."""
    backbone, pixels = ours(run, images)
    with torch.no_grad():
        assert torch.equal(found, as_written(backbone)(pixels))
        torch.testing.assert_close(found, backbone(pixels), rtol=1e-4, atol=1e-5)


def code_of(card: Path) -> str:
    block = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    assert block is not None
    return block[1]


def read(file: Path) -> dict[str, torch.Tensor]:
    return load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_torchvision_loads_it_strictly_and_gives_the_same_bits(tmp_path, stem, suffix):
    run = pretrained(tmp_path / "run", backbone="resnet18", stem=stem)
    written = export_backbone(run, tmp_path / f"b{suffix}")
    network = torchvision.models.resnet18()
    network.fc = nn.Identity()
    if stem == "cifar":
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    network.load_state_dict(read(written.weights))  # strict
    images = torch.rand(4, 3, 16, 16)
    mean, std = (torch.tensor(channels)[:, None, None] for channels in (NORMALISATION.mean, NORMALISATION.std))
    with torch.no_grad():
        found = network.eval()((images - mean) / std)
    assert_ours(found, run, images)


@pytest.mark.parametrize(
    ("backbone", "stem", "arguments"),
    [("vit_tiny_patch16_224", "auto", {"img_size": 32}), ("resnet10t", "auto", {}), ("resnet26", "imagenet", {})],
)
def test_timm_loads_it_strictly_and_gives_the_same_bits(tmp_path, backbone, stem, arguments):
    run = pretrained(tmp_path / "run", backbone=backbone, stem=stem, size=32)
    written = export_backbone(run, tmp_path / "b.pth")
    network = timm.create_model(backbone, num_classes=0, **arguments)
    network.load_state_dict(read(written.weights))
    images = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(channels)[:, None, None] for channels in (NORMALISATION.mean, NORMALISATION.std))
    with torch.no_grad():
        found = network.eval()((images - mean) / std)
    assert_ours(found, run, images)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("backbone", "stem", "lines"),
    [
        ("resnet18", "cifar", 3),
        ("resnet18", "imagenet", 3),
        ("resnet18-slim", "cifar", 2),
        ("resnet26", "cifar", 3),
        ("vit_tiny_patch16_224", "auto", 2),
    ],
)
def test_the_cards_lines_load_it_and_give_the_same_bits(tmp_path, monkeypatch, backbone, stem, lines, suffix):
    run = pretrained(tmp_path / "run", backbone=backbone, stem=stem, size=32)
    written = export_backbone(run, tmp_path / "taken" / f"b{suffix}")
    monkeypatch.chdir(written.weights.parent)  # where who was given the two files would be
    code = code_of(written.card)
    assert len([line for line in code.splitlines() if line.startswith("model")]) == lines
    assert ("nndl_suite" in code) == (backbone == "resnet18-slim")
    images = torch.rand(4, 3, 32, 32)
    names = {"images": images}
    with torch.no_grad():
        exec(code, names)
    assert_ours(names["features"], run, images)


def test_a_pth_is_a_plain_dict_of_tensors_and_a_safetensors_describes_itself(tmp_path):
    run = pretrained(tmp_path / "run")
    content = torch.load(export_backbone(run, tmp_path / "b.pth").weights, weights_only=True)
    assert type(content) is dict
    assert all(type(tensor) is torch.Tensor for tensor in content.values())
    assert all(torch.equal(tensor, content[name]) for name, tensor in load_file(run / "backbone.safetensors").items())
    header = read_header(export_backbone(PretrainRun.read(run), tmp_path / "b.safetensors").weights)
    assert header == read_header(run / "backbone.safetensors")


def test_the_card_says_what_the_run_says(tmp_path):
    run = pretrained(tmp_path / "run", backbone="resnet18")
    probes = [probed(tmp_path / "p", run), probed(tmp_path / "q", run, accuracy=0.5, protocol="knn")]
    card = export_backbone(run, tmp_path / "b.pth", probes=probes).card
    assert card == tmp_path / "b.pth.md"
    text = card.read_text()
    for told in (
        "# resnet18, pretrained by simclr on a\\|b",
        "| data | 1234 images of a\\|b, without labels |",
        "| fingerprint of the data | 0123abcd |",
        "| network | resnet18, first layers cifar: a 3x3 convolution of stride 1, no max-pool |",
        "| parameters | 11,168,832 |",
        "| output | 512 features an image |",
        "| length | 7 epochs, 21 steps |",
        "| seed | 5 |",
        "| time | 5.3 min (321 s), 212.5 images/s |",
        "(0.1, 0.25, 0.5), (0.2, 0.3, 0.4)",
        "cores",
        f"torch {torch.__version__.partition('+')[0]}",
        "| linear | cifar100 | 43.21 % | 42.24 to 44.18 % | 32 | l2 0.001 |",
        "| knn | cifar100 | 50.00 % |",
        "- linear on cifar100: the pixels were few\n- knn on cifar100: the pixels were few\n\n## How",
        "spread of the features (0: all the same direction, 1: isotropic) | 0.625 |",
        "effective rank of the features (RankMe) | 33.25 |",
        "*training* images, their labels right | 0.375 |",
        "of the last batch logged | 0.75 |",
        "accuracies among them are no test scores",
        "| recipe.learning_rate | 0.25 |",
        "One seed, one run.",
    ):
        assert told in text, told
    assert "No probe" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (3, 7) for row in rows)


def changed_result(run: Path, **fields: Json) -> None:
    result = read_json(run / "result.json")
    write_json(run / "result.json", {**result, **fields})


def test_a_card_without_probes_and_figures_claims_nothing(tmp_path):
    run = pretrained(tmp_path / "run")
    changed_result(run, quality={})
    (run / "metrics.jsonl").unlink()
    text = export_backbone(run, tmp_path / "b.pth").card.read_text()
    assert "No probe was given to this card" in text
    assert "effective rank of the features (RankMe) | 33.25" in text  # the result's own
    assert "nearest neighbours" not in text
    assert "test scores" not in text
    assert "Something is wrong" not in text


def test_a_warning_of_the_run_is_on_the_card(tmp_path):
    run = pretrained(tmp_path / "run")
    changed_result(run, warning="the features have collapsed")
    text = export_backbone(run, tmp_path / "b.pth").card.read_text()
    assert "**Something is wrong: the features have collapsed.**" in text


@pytest.mark.parametrize("named", ["resolved", "checkpoint", "moved"])
def test_a_probe_is_known_by_what_it_was_of(tmp_path, named):
    run = pretrained(tmp_path / "run")
    features = {"resolved": tmp_path / "x" / ".." / "run", "checkpoint": run / "backbone.safetensors"}
    (tmp_path / "x").mkdir()
    probe = probed(tmp_path / "p", features.get(named, Path("elsewhere/run")))
    assert "43.21 %" in export_backbone(run, tmp_path / "b.pth", probes=[probe]).card.read_text()


def test_a_probe_of_something_else_is_refused_and_nothing_is_written(tmp_path):
    run, other = pretrained(tmp_path / "run"), pretrained(tmp_path / "other")
    for number, features in enumerate((other, "imagenet", "random", tmp_path / "gone")):
        probe = probed(tmp_path / f"p{number}", features)
        with pytest.raises(RunError, match=r"is of .*, not of .*run; give probes of the run that is exported"):
            export_backbone(run, tmp_path / "b.pth", probes=[probe])
    with pytest.raises(RunError, match="unfinished"):
        export_backbone(run, tmp_path / "b.pth", probes=[probed(tmp_path / "u", run, finished=False)])
    with pytest.raises(RunError, match="expected a probe run"):
        export_backbone(run, tmp_path / "b.pth", probes=[run])
    assert not list(tmp_path.glob("b.*"))


@pytest.mark.parametrize("there", ["b.pth", "b.pth.md"])
def test_what_is_there_is_kept_unless_asked_otherwise(tmp_path, there):
    run = pretrained(tmp_path / "run")
    (tmp_path / there).write_text("mine")
    with pytest.raises(RunError, match=rf"{there} exists already; choose another --out, or replace it by --overwrite"):
        export_backbone(run, tmp_path / "b.pth")
    assert [file.name for file in tmp_path.glob("b.*")] == [there]
    assert (tmp_path / there).read_text() == "mine"
    export_backbone(run, tmp_path / "b.pth", overwrite=True)
    assert (tmp_path / "b.pth.md").read_text().startswith("# resnet18-slim")
    assert torch.load(tmp_path / "b.pth", weights_only=True)


def test_the_runs_own_file_can_be_replaced_by_itself(tmp_path):
    run = pretrained(tmp_path / "run")
    before = load_file(run / "backbone.safetensors")
    export_backbone(run, run / "backbone.safetensors", overwrite=True)
    after = load_file(run / "backbone.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_cannot_be_exported_is_told_kindly(tmp_path, monkeypatch):
    run = pretrained(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"\.safetensors, \.pth or \.onnx, got 'b\.pt'"):
        export_backbone(run, tmp_path / "b.pt")
    with pytest.raises(RunError, match="unfinished"):
        export_backbone(pretrained(tmp_path / "half", finished=False), tmp_path / "b.pth")
    with pytest.raises(RunError, match="holds no run"):
        export_backbone(tmp_path, tmp_path / "b.pth")
    with pytest.raises(RunError, match="expected a pretrain run"):
        export_backbone(probed(tmp_path / "p", run), tmp_path / "b.pth")
    (run / "backbone.safetensors").write_bytes(b"0123456789")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        export_backbone(run, tmp_path / "b.pth")
    monkeypatch.setattr(export_module, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match=r'needs onnxscript, .* pip install "nndl-suite\[onnx\]"'):
        export_backbone(run, tmp_path / "b.onnx")
    assert not list(tmp_path.glob("b.*"))


@pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime",
)
def test_onnx_gives_the_same_features_for_any_number_of_images(tmp_path, monkeypatch, capfd):
    run = pretrained(tmp_path / "run", backbone="resnet18", size=16)
    written = export_backbone(run, tmp_path / "b.onnx")
    assert capfd.readouterr() == ("", "")
    assert {file.name for file in tmp_path.glob("b*")} == {"b.onnx", "b.onnx.md"}
    monkeypatch.chdir(tmp_path)
    for count in (1, 5):
        names = {"images": torch.rand(count, 3, 16, 16)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the runtime's own
            exec(code_of(written.card), names)
        features = torch.from_numpy(names["features"])
        backbone, pixels = ours(run, names["images"])
        with torch.no_grad():
            torch.testing.assert_close(features, backbone(pixels), atol=1e-4, rtol=1e-4)
