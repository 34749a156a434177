"""`nndl-suite tune`: the rates of one arm of a comparison."""

from typing import Annotated

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import (
    AsJson,
    AsLargeAs,
    DataRoot,
    Dataset,
    DeviceName,
    MatchName,
    Out,
    PrecisionName,
    RecipeName,
    Resume,
    Seed,
)
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import progress


def tune(
    out: Out,
    arm: Annotated[
        str, typer.Option("--arm", help="What to tune: any name that compare takes as --cnn or --transformer.")
    ] = "resnet18",
    dataset: Dataset = "cifar100",
    trials: Annotated[int, typer.Option("--trials", help="Settings to try, over all workers.", min=1)] = 20,
    epochs: Annotated[int, typer.Option("--epochs", help="Of each trial.", min=1)] = 10,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            help="rate=1e-4..1e-2, decay=0,1e-4,1e-3, batch-size=64,128, or another number of the recipe; may be given "
            "several times. Rate and decay are tuned anyway.",
        ),
    ] = None,
    recipe: RecipeName = "default",
    cnn: AsLargeAs = "resnet18",
    match: MatchName = "parameters",
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            help="What workers on any number of machines share: a journal file, or a database as sqlite:///FILE or "
            "postgresql://…; else study.journal in --out.",
        ),
    ] = None,
    study: Annotated[str | None, typer.Option("--study", help="The study's name there; else the arm's.")] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    data_root: DataRoot = None,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Choose the rate and decay of one arm on validation images, by as many trials for each arm.

    Start it as often as there are processors or machines, with the same --storage, or the same --out and --resume: they
    share the trials.

    Examples:
      nndl-suite tune --arm vit --dataset cifar100 --trials 20 --out runs/tune-vit
      nndl-suite tune --arm vit --vary batch-size=64,128 --out runs/tune-vit --resume
    """
    from nndl_suite import tune_architecture
    from nndl_suite.comparison.recipes import load_recipe
    from nndl_suite.comparison.search_space import parse_space

    chosen = load_recipe(recipe)
    space = parse_space(vary or (), chosen)
    with progress() as watch, logged(out, tensorboard=tensorboard, log_to=log_to):
        tune_architecture(
            arm=arm,
            dataset=dataset,
            trials=trials,
            epochs=epochs,
            out=out,
            space=space,
            recipe=chosen,
            cnn=cnn,
            match=match,
            storage=storage,
            study=study,
            seed=seed,
            data_root=data_root,
            device=device,
            precision=precision,
            resume=resume,
            watch=watch,
        )
    show_result(out, as_json=as_json)
