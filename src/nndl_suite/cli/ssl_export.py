"""`nndl-suite ssl export`: take a pretrained backbone elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from nndl_suite.cli.options import AsJson
from nndl_suite.cli.screen import print_json, say


def export(
    run: Annotated[Path, typer.Argument(help="A finished pretraining run.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="NAME.safetensors or NAME.pth, a state dict for torchvision or timm; NAME.onnx, the network. "
            "A model card is written beside it, with .md added to the name.",
        ),
    ],
    probes: Annotated[
        list[Path] | None,
        typer.Option("--probe", help="A finished probe of the run, for the model card; may be given several times."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the backbone of a run as torchvision and timm load it, and its model card.

    Example:
      nndl-suite ssl export runs/simclr --out backbone.safetensors --probe runs/probe
    """
    from nndl_suite.representation.export_backbone import export_backbone

    written = export_backbone(run, out, probes=probes or [], overwrite=overwrite)
    if as_json:
        print_json({"file": str(written.weights), "card": str(written.card)})
    else:
        say(f"wrote {written.weights.resolve()} and its card {written.card.name}")
