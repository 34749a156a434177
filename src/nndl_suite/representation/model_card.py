"""The model card of an exported backbone: what it is, how it came about, what it scored, how to load it, its limits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import timm
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import nn

from nndl_suite.errors import RunError
from nndl_suite.models.backbones import Backbone
from nndl_suite.models.weights import BackboneHeader
from nndl_suite.report import words
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.probe_result import ProbeResult
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder, read_run

_TORCHVISION = ("resnet18", "resnet34", "resnet50")
_QUALITY = {
    "spread": "spread of the features (0: all the same direction, 1: isotropic)",
    "effective_rank": "effective rank of the features (RankMe)",
    "alignment": "alignment of two views (mean squared distance on the unit sphere; less is better)",
    "uniformity": "uniformity (log of the mean pairwise Gaussian potential; less is better)",
    "embedding_spread": "spread after the projector",
    "embedding_rank": "effective rank after the projector",
    "knn_accuracy": "20 nearest neighbours among *training* images, their labels right",
    "online_accuracy": "online linear probe, on the augmented *training* images of the last batch logged",
}


def model_card(
    run: PretrainRun, backbone: Backbone, header: BackboneHeader, *, file: str, probes: Sequence[Path] = ()
) -> str:
    """The card as Markdown.

    Args:
        run: A finished pretraining.
        backbone: Its network, with its weights.
        header: How it was trained to see images.
        file: Name of the exported file that the card describes.
        probes: Run folders of its probes.

    Raises:
        RunError: a probe is unfinished, of another kind of run or of other features, or a file of a run is damaged.
    """
    folder = RunFolder(run.path)
    result, config = folder.result() or {}, folder.config()
    scored = [_probe(run, path) for path in probes]
    quality = _quality(folder, result)
    environment = Environment(  # noqa: S701 - Markdown
        loader=PackageLoader("nndl_suite.representation", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(
        facts=[(name, _cell(value)) for name, value in _facts(run, backbone, header, result, config)],
        quality=quality,
        warning=result.get("warning"),
        probes=[_probe_row(probe) for probe in scored],
        notes=[f"{probe.protocol} on {probe.dataset}: {note}" for probe in scored for note in probe.notes],
        settings=[(name, _cell(value)) for name, value in words.flat(_object(config.get("settings")))],
        code=loading_code(backbone, header, file),
        backbone=header.backbone,
        method=run.method,
        dataset=_cell(words.brief(result.get("dataset"))),
        image_size=header.image_size,
        feature_dim=backbone.feature_dim,
        learned_from_labels=run.method == "supervised",
        accuracies=any(name in (_QUALITY["knn_accuracy"], _QUALITY["online_accuracy"]) for name, _ in quality),
    )


def loading_code(backbone: Backbone, header: BackboneHeader, file: str) -> str:
    """Python that loads the exported file, without this package wherever torchvision or timm have the network.

    Its last line uses `images`, float32 [b, 3, s, s] in [0, 1].
    """
    if file.endswith(".onnx"):
        return "\n".join(
            [
                "import onnxruntime",
                "import torch",
                "",
                f'model = onnxruntime.InferenceSession("{file}")',
                f"mean, std = torch.tensor({header.normalisation.mean}), torch.tensor({header.normalisation.std})",
                "normalised = (images - mean[:, None, None]) / std[:, None, None]",
                'features = model.run(None, {"images": normalised.numpy()})[0]',
            ]
        )
    library, make = _construction(header)
    safe = file.endswith(".safetensors")
    reading = f'load_file("{file}")' if safe else f'torch.load("{file}", weights_only=True)'
    imports = ["import torch", library, *(["from safetensors.torch import load_file"] if safe else [])]
    return "\n".join(
        [
            *sorted(imports, key=lambda line: (line.startswith("from"), line)),
            "",
            f"model = {make}",
            *_stem_and_classifier(backbone.trunk, header),
            f"model.load_state_dict({reading})",
            "",
            f"mean, std = torch.tensor({header.normalisation.mean}), torch.tensor({header.normalisation.std})",
            "features = model.eval()((images - mean[:, None, None]) / std[:, None, None])",
        ]
    )


def _construction(header: BackboneHeader) -> tuple[str, str]:
    """The import, and the expression that makes the bare network."""
    name, size = header.backbone, header.image_size
    if name in _TORCHVISION:
        return "import torchvision", f"torchvision.models.{name}()"
    if timm.is_model(name):
        described = timm.get_pretrained_cfg(name)
        sized = f", img_size={size}" if described is not None and described.fixed_input_size else ""
        return "import timm", f'timm.create_model("{name}", num_classes=0{sized})'
    ours = f'build_backbone("{name}", stem="{header.stem}", image_size={size}).trunk'
    return "from nndl_suite.models.backbones import build_backbone", ours


def _stem_and_classifier(trunk: nn.Module, header: BackboneHeader) -> list[str]:
    """The line that puts in the CIFAR stem and takes out torchvision's classifier, where there is something to do."""
    torchvisions = header.backbone in _TORCHVISION
    if not torchvisions and not timm.is_model(header.backbone):
        return []
    targets, values = [], []
    if header.stem == "cifar":
        first = trunk.get_submodule("conv1")
        assert isinstance(first, nn.Conv2d)
        targets += ["model.conv1", "model.maxpool"]
        values += [f"torch.nn.Conv2d(3, {first.out_channels}, 3, padding=1, bias=False)", "torch.nn.Identity()"]
    if torchvisions:
        targets, values = [*targets, "model.fc"], [*values, "torch.nn.Identity()"]
    return [f"{', '.join(targets)} = {', '.join(values)}"] if targets else []


def _facts(
    run: PretrainRun, backbone: Backbone, header: BackboneHeader, result: Mapping[str, Json], config: Mapping[str, Json]
) -> list[tuple[str, str]]:
    settings = _object(config.get("settings"))
    stem = "cifar: a 3x3 convolution of stride 1, no max-pool" if header.stem == "cifar" else "its own"
    parameters = sum(parameter.numel() for parameter in backbone.trunk.parameters())
    labels = "and their labels" if run.method == "supervised" else "without labels"
    return [
        ("network", f"{header.backbone}, first layers {stem}"),
        ("parameters", words.count(parameters)),
        ("output", f"{backbone.feature_dim} features an image"),
        ("method", run.method),
        ("data", f"{words.brief(result.get('images'))} images of {words.brief(result.get('dataset'))}, {labels}"),
        ("fingerprint of the data", words.brief(settings.get("fingerprint"))),
        ("pixels", f"{header.image_size} x {header.image_size}"),
        ("mean, deviation", f"{header.normalisation.mean}, {header.normalisation.std}, of pixels in [0, 1]"),
        ("length", f"{run.epochs:g} epochs" + (f", {result['steps']} steps" if "steps" in result else "")),
        ("final loss", f"{run.final_loss:.4f}"),
        ("seed", words.brief(result.get("seed"))),
        ("time", f"{words.duration(run.seconds)} ({run.seconds:.0f} s), {run.images_per_second:g} images/s"),
        (
            "machine",
            f"{words.brief(config.get('machine'))}; on {words.brief(result.get('device'))}, "
            f"{words.brief(result.get('precision'))}",
        ),
        ("versions", words.brief(config.get("versions"))),
    ]


def _quality(run: RunFolder, result: Mapping[str, Json]) -> list[tuple[str, str]]:
    """Each figure as it was at the end; else the newest that was logged."""
    ended = {"effective_rank": result.get("effective_rank"), **_object(result.get("quality"))}
    found = {name: ended[name] if name in ended else run.newest(name) for name in _QUALITY}
    return [(_QUALITY[name], words.brief(value)) for name, value in found.items() if value is not None]


def _probe(run: PretrainRun, path: Path) -> ProbeResult:
    result = read_run(path, kind="probe").result()
    if result is None:
        raise RunError(f"the probe in {path} is unfinished; go on with --resume, then export")
    probe = ProbeResult.from_result(path, result)
    if not _same_run(probe.features, run):
        raise RunError(
            f"the probe in {path} is of {probe.features}, not of {run.path}; give probes of the run that is exported"
        )
    return probe


def _probe_row(probe: ProbeResult) -> list[str]:
    return [
        probe.protocol,
        _cell(probe.dataset),
        words.percent(probe.test_accuracy),
        words.percent_interval(probe.test_accuracy_ci95),
        str(probe.resolution),
        ", ".join(f"{name} {value:.3g}" for name, value in probe.chosen.items()),
    ]


def _same_run(features: str, run: PretrainRun) -> bool:
    """Whether a probe's features are those of a run; a run that was moved since is known by its name."""
    named = Path(features)
    if named.exists():
        return named.resolve() in (run.path.resolve(), run.checkpoint.resolve())
    return named.name == run.path.resolve().name or (named.parent.name, named.name) == (
        run.path.resolve().name,
        run.checkpoint.name,
    )


def _object(node: Json) -> dict[str, Json]:
    return node if isinstance(node, dict) else {}


def _cell(text: str) -> str:
    """Text that stays in one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
