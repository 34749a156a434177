"""Taking a pretrained backbone elsewhere: a file that torchvision, timm or ONNX runtimes load, and a card about it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from nndl_suite.errors import ConfigError, DataError, RunError
from nndl_suite.models.backbones import Backbone, build_backbone
from nndl_suite.models.weights import load_into, read_header, read_state_dict, save_backbone
from nndl_suite.representation.model_card import model_card
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.training.files import check_place, write_atomically
from nndl_suite.training.seeds import isolated_rng

SUFFIXES = (".safetensors", ".pth", ".onnx")
_ONNX_PACKAGES = ("onnx", "onnxscript")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedBackbone:
    """The two files of an export."""

    weights: Path
    card: Path
    """Markdown."""


def export_backbone(
    run: PretrainRun | Path | str, out: Path | str, *, probes: Sequence[Path | str] = (), overwrite: bool = False
) -> ExportedBackbone:
    """Write the backbone of a finished run, and its model card beside it (`NAME.SUFFIX.md`).

    Args:
        run: A finished pretraining run, or its folder.
        out: `NAME.safetensors` or `NAME.pth`, the state dict that torchvision's or timm's network loads strictly once
            its classifier is taken out; or `NAME.onnx`, the network itself.
        probes: Finished probes of this run, whose scores go on the card.
        overwrite: Replace files that are there.

    Raises:
        ConfigError: another suffix, or a package that ONNX needs is not installed.
        DataError: the run's weights are damaged.
        RunError: a run is unfinished or of another kind, a probe is not of this run, or a file is there already or
            cannot be written.
    """
    out = Path(out)
    card = out.with_name(f"{out.name}.md")
    _check(out, card, overwrite=overwrite)
    finished = run if isinstance(run, PretrainRun) else PretrainRun.read(run)
    header = read_header(finished.checkpoint)
    if header is None:
        raise DataError(f"{finished.checkpoint} does not say which network it is of; pretrain again with this version")
    weights = read_state_dict(finished.checkpoint)
    with isolated_rng(0):
        backbone = build_backbone(header.backbone, stem=header.stem, image_size=header.image_size)
    load_into(backbone, weights, source=str(finished.checkpoint))
    text = model_card(finished, backbone, header, file=out.name, probes=[Path(probe) for probe in probes])
    if out.suffix == ".safetensors":
        save_backbone(out, backbone, image_size=header.image_size, normalisation=header.normalisation)
    elif out.suffix == ".pth":
        write_atomically(out, lambda part: torch.save(dict(backbone.trunk.state_dict()), part))
    else:
        write_atomically(out, lambda part: _write_onnx(backbone, header.image_size, part))
    write_atomically(card, lambda part: part.write_text(text, encoding="utf-8"))
    return ExportedBackbone(weights=out, card=card)


def _check(out: Path, card: Path, *, overwrite: bool) -> None:
    """Refuse before any work what cannot end well."""
    if out.suffix not in SUFFIXES:
        raise ConfigError(
            f"a backbone's name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got {out.name!r}"
        )
    if out.suffix == ".onnx":
        for package in _ONNX_PACKAGES:
            if find_spec(package) is None:
                raise ConfigError(f'ONNX needs {package}, which is not installed: pip install "nndl-suite[onnx]"')
    check_place(out)
    for file in (out, card):
        if file.exists() and not overwrite:
            raise RunError(f"{file} exists already; choose another --out, or replace it by --overwrite")


def _write_onnx(backbone: Backbone, image_size: int, file: Path) -> None:
    """The network in eval mode: any number of normalised images in, features out."""
    images = torch.zeros(2, 3, image_size, image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own workings
        torch.onnx.export(
            backbone.trunk.eval(),
            (images,),
            file,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
