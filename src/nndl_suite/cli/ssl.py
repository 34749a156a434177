"""`nndl-suite ssl`: pretrain without labels, then probe what was learned."""

from typing import Annotated, Literal

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import (
    METHODS,
    AsJson,
    DataRoot,
    Dataset,
    DeviceName,
    Devices,
    Nodes,
    Out,
    PrecisionName,
    Resume,
    Seed,
    offered,
)
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import progress

app = typer.Typer(
    help="Representation: pretrain without labels, then score the features.",
    epilog="Example:\n\n  nndl-suite ssl pretrain --dataset cifar10 --epochs 100 --out runs/simclr",
    no_args_is_help=True,
)

Backbone = Annotated[str, typer.Option("--backbone", help="resnet18, resnet18-slim, … or any timm model.")]
Stem = Annotated[
    Literal["auto", "cifar", "imagenet"],
    typer.Option("--stem", help="cifar: 3x3, no max-pool; auto takes it for images of at most 64 pixels."),
]


@app.command()
def pretrain(
    dataset: Dataset,
    out: Out,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="simclr, mocov2, mocov3, byol, simsiam, barlow, vicreg, swav, dino, nnclr, lejepa; or supervised.",
            autocompletion=offered(METHODS),
        ),
    ] = "simclr",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 100,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Instead of epochs: how many batches.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images; each gives two views or more.")] = 512,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="For a batch of 256 images; else the method's own.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="Else the method's own.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Else the method's own.")] = None,
    projector_dim: Annotated[
        int | None, typer.Option("--projector-dim", help="Width of its hidden layers; else the method's own.")
    ] = None,
    augmentation: Annotated[
        float, typer.Option("--augmentation", help="Factor on the strength of the views' colour changes.")
    ] = 1.0,
    online_probe: Annotated[
        Literal["no", "yes"],
        typer.Option("--online-probe", help="yes: a linear classifier learns beside; its accuracy is logged."),
    ] = "no",
    stop_on_collapse: Annotated[
        bool, typer.Option("--stop-on-collapse", help="End the run when the features have collapsed.")
    ] = False,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    data_root: DataRoot = None,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Learn a backbone from images without their labels.

    Examples:
      nndl-suite ssl pretrain --dataset cifar10 --epochs 100 --out runs/simclr
      nndl-suite ssl pretrain --dataset folder:photos/ --method byol --out runs/byol
    """
    from nndl_suite import SSLPretrainer

    pretrainer = SSLPretrainer(
        method=method,
        backbone=backbone,
        stem=stem,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        temperature=temperature,
        projector_dim=projector_dim,
        augmentation=augmentation,
        online_probe=online_probe,
        stop_on_collapse=stop_on_collapse,
        seed=seed,
        device=device,
        precision=precision,
        devices=devices,
        nodes=nodes,
    )
    with progress() as watch, logged(out, tensorboard=tensorboard, log_to=log_to):
        pretrainer.fit(dataset, out=out, resume=resume, data_root=data_root, watch=watch)
    show_result(out, as_json=as_json)


@app.command()
def probe(
    features: Annotated[
        str, typer.Option("--features", help="A pretraining run, a state-dict file, imagenet, or random.")
    ],
    dataset: Dataset,
    out: Out,
    protocol: Annotated[
        Literal["linear", "knn", "finetune"],
        typer.Option("--protocol", help="linear and knn leave the backbone frozen; finetune trains all of it."),
    ] = "linear",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    resolution: Annotated[
        int | None, typer.Option("--resolution", help="Pixels the images are resized to before the backbone.")
    ] = None,
    flip_features: Annotated[
        Literal["no", "yes"],
        typer.Option("--flip-features", help="yes: the training images' mirror images join the fit."),
    ] = "no",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Of finetune: 20 unless given.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Of finetune: 256 unless given.")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Of finetune's head, ten times the backbone's: 0.001 unless given."),
    ] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "32-true",
    cache: Annotated[
        str, typer.Option("--cache", help="Folder that keeps features for the next probe; auto: in the user's cache.")
    ] = "auto",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Keep no features, and read none that were kept.")
    ] = False,
    data_root: DataRoot = None,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Score a backbone by a simple classifier on its features: chosen on validation, the test split read once.

    Examples:
      nndl-suite ssl probe --features runs/simclr --dataset cifar100 --out runs/probe
      nndl-suite ssl probe --features imagenet --dataset folder:pets/ --out runs/pets
    """
    from nndl_suite import LinearProbe

    linear = LinearProbe(
        features=features,
        protocol=protocol,
        backbone=backbone,
        stem=stem,
        resolution=resolution,
        flip_features=flip_features,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        precision=precision,
        cache="off" if no_cache else cache,
    )
    with progress() as watch, logged(out, tensorboard=tensorboard, log_to=log_to):
        linear.evaluate(dataset, out=out, resume=resume, data_root=data_root, watch=watch)
    show_result(out, as_json=as_json)
