"""`nndl-suite ssl`: pretrain without labels, then probe what was learned."""

from typing import Annotated, Literal

import typer

from nndl_suite.cli.options import AsJson, DataRoot, Dataset, DeviceName, Out, PrecisionName, Resume, Seed
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import progress

app = typer.Typer(help="Representation: pretrain without labels, then score the features.", no_args_is_help=True)

Backbone = Annotated[str, typer.Option("--backbone", help="resnet18, resnet18-slim, … or any timm model.")]
Stem = Annotated[
    Literal["auto", "cifar", "imagenet"],
    typer.Option("--stem", help="cifar: 3x3, no max-pool; auto takes it for images of at most 64 pixels."),
]


@app.command()
def pretrain(
    dataset: Dataset,
    out: Out,
    method: Annotated[str, typer.Option("--method", help="simclr.")] = "simclr",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images; each gives two views.")] = 512,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    data_root: DataRoot = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Learn a backbone from images without their labels.

    Example: nndl-suite ssl pretrain --dataset cifar10 --epochs 100 --out runs/simclr
    """
    from nndl_suite import SSLPretrainer

    pretrainer = SSLPretrainer(
        method=method,
        backbone=backbone,
        stem=stem,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=device,
        precision=precision,
    )
    with progress() as watch:
        pretrainer.fit(dataset, out=out, resume=resume, data_root=data_root, watch=watch)
    show_result(out, as_json=as_json)


@app.command()
def probe(
    features: Annotated[
        str, typer.Option("--features", help="A pretraining run, a state-dict file, imagenet, or random.")
    ],
    dataset: Dataset,
    out: Out,
    protocol: Annotated[str, typer.Option("--protocol", help="linear.")] = "linear",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    resolution: Annotated[
        int | None, typer.Option("--resolution", help="Pixels the images are resized to before the backbone.")
    ] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Score frozen features by a linear classifier: chosen on validation, the test split read once.

    Example: nndl-suite ssl probe --features runs/simclr --dataset cifar100 --out runs/probe
    """
    from nndl_suite import LinearProbe

    linear = LinearProbe(
        features=features,
        protocol=protocol,
        backbone=backbone,
        stem=stem,
        resolution=resolution,
        seed=seed,
        device=device,
    )
    with progress() as watch:
        linear.evaluate(dataset, out=out, resume=resume, data_root=data_root, watch=watch)
    show_result(out, as_json=as_json)
