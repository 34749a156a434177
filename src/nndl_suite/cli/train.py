"""`nndl-suite train`: one architecture by itself."""

from typing import Annotated

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import (
    AsJson,
    AsLargeAs,
    DataRoot,
    Dataset,
    DeviceName,
    Devices,
    MatchName,
    Nodes,
    Out,
    PrecisionName,
    RecipeName,
    Resume,
    Seed,
)
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import progress


def train(
    out: Out,
    arm: Annotated[
        str,
        typer.Option("--arm", help="whitened-cnn, resnet18, resnet56, vit, course-vit, … or any timm model."),
    ] = "whitened-cnn",
    dataset: Dataset = "cifar100",
    recipe: RecipeName = "speed",
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 16,
    cnn: AsLargeAs = "resnet18",
    match: MatchName = "parameters",
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
    """Train one network by a recipe, and test it once; the defaults learn CIFAR-100 in minutes on a CPU.

    Examples:
      nndl-suite train --arm whitened-cnn --epochs 16 --out runs/fast
      nndl-suite train --arm resnet18 --recipe default --dataset folder:pets/ --out runs/pets
    """
    from nndl_suite import train_architecture
    from nndl_suite.comparison.recipes import load_recipe

    chosen = load_recipe(recipe)
    with progress() as watch, logged(out, tensorboard=tensorboard, log_to=log_to):
        train_architecture(
            arm,
            dataset,
            epochs=epochs,
            out=out,
            recipe=chosen,
            cnn=cnn,
            match=match,
            seed=seed,
            data_root=data_root,
            device=device,
            precision=precision,
            devices=devices,
            nodes=nodes,
            resume=resume,
            watch=watch,
        )
    show_result(out, as_json=as_json)
