"""`nndl-suite compare`: CNN against Transformer."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import (
    DATASETS,
    AsJson,
    DataRoot,
    DeviceName,
    Devices,
    MatchName,
    Nodes,
    PrecisionName,
    RecipeName,
    Resume,
    Seed,
    listed,
    offered,
)
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import print_json, print_table, progress

if TYPE_CHECKING:
    from nndl_suite.comparison.layer_table import LayerRow


def compare(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="cifar10, cifar100, tiny-imagenet, demo, folder:PATH, arrays:FILE or wds:SHARDS.",
            autocompletion=offered(DATASETS),
        ),
    ] = "cifar100",
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder to write; must be new unless --resume.")
    ] = None,
    cnn: Annotated[
        str, typer.Option("--cnn", help="resnet18, resnet18-1m, resnet56, course-resnet18, … or any timm model.")
    ] = "resnet18",
    transformer: Annotated[
        str,
        typer.Option(
            "--transformer",
            help="vit, vit-patch2, vit-pool, vit-spt-lsa or vit-conv: width and depth solved for to match the CNN; "
            "or course-vit, or any timm model.",
        ),
    ] = "vit",
    match: MatchName = "parameters",
    recipe: RecipeName = "default",
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 100,
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs of each arm.", min=1)] = 3,
    tuned: Annotated[
        list[Path] | None,
        typer.Option("--tuned", help="A run of tune, whose best rates to take; give one for each arm."),
    ] = None,
    fractions: Annotated[
        str, typer.Option("--fractions", help="Parts of the training images to compare with too, as 0.1,0.3.")
    ] = "",
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    data_root: DataRoot = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Match and count only.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="With --dry-run: count each layer too.")] = False,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Train a CNN and a Transformer of matched size by one recipe; say which wins, by how much, how sure.

    Examples:
      nndl-suite compare --dataset cifar100 --epochs 100 --seeds 3 --out runs/cmp
      nndl-suite compare --cnn resnet18-1m --transformer vit-conv --dataset cifar10 --dry-run
    """
    if dry_run:
        _show_plan(cnn, transformer, dataset, match, data_root, layers=layers, as_json=as_json)
        return
    if layers:
        raise typer.BadParameter("--layers counts before a training: add --dry-run")
    if out is None:
        raise typer.BadParameter("a run needs a folder: --out runs/NAME (or --dry-run to count only)")
    from nndl_suite import compare_architectures
    from nndl_suite.comparison.recipes import load_recipe

    chosen = load_recipe(recipe)
    with progress() as watch, logged(out, tensorboard=tensorboard, log_to=log_to):
        compare_architectures(
            cnn=cnn,
            transformer=transformer,
            dataset=dataset,
            epochs=epochs,
            seeds=range(seed, seed + seeds),
            out=out,
            match=match,
            recipe=chosen,
            tuned=tuned,
            fractions=listed(fractions, float, "--fractions"),
            device=device,
            precision=precision,
            devices=devices,
            nodes=nodes,
            data_root=data_root,
            resume=resume,
            watch=watch,
        )
    show_result(out, as_json=as_json)


def _show_plan(
    cnn: str,
    transformer: str,
    dataset: str,
    match: Literal["parameters", "flops"],
    data_root: Path | None,
    *,
    layers: bool,
    as_json: bool,
) -> None:
    from nndl_suite.comparison.architectures import count_layers
    from nndl_suite.comparison.comparison import plan_comparison

    with progress() as watch:
        plan = plan_comparison(cnn, transformer, dataset, match=match, data_root=data_root, watch=watch)
    tables = {arm.name: count_layers(arm, plan.image_size) for arm in plan.arms} if layers else {}
    if as_json:
        arms: list[dict[str, Any]] = [
            {"name": arm.name, "shape": arm.shape, "parameters": arm.parameters, "flops": arm.flops}
            | ({"layers": [asdict(row) for row in tables[arm.name]]} if layers else {})
            for arm in plan.arms
        ]
        ratios = {"parameter_ratio": plan.parameter_ratio, "flops_ratio": plan.flops_ratio}
        print_json({"kind": "plan", "dataset": plan.dataset, "match": match, "arms": arms, **ratios})
        return
    for name, table in tables.items():
        _show_layers(name, table)
    rows = [[arm.name, f"{arm.parameters:,}", f"{arm.flops / 1e9:.3f} G", str(arm.shape)] for arm in plan.arms]
    title = (
        f"{plan.num_classes} classes at {plan.image_size} px; parameters differ by {plan.parameter_ratio - 1:+.2%}, "
        f"FLOPs by {plan.flops_ratio - 1:+.2%}"
    )
    print_table(title, ["arm", "parameters", "FLOPs an image", "shape"], rows)


def _show_layers(name: str, table: Sequence["LayerRow"]) -> None:
    rows = [
        [row.name, row.kind, " x ".join(map(str, row.output_shape)), f"{row.parameters:,}", f"{row.flops:,}"]
        for row in table
    ]
    total = ["", "", "", f"{sum(row.parameters for row in table):,}", f"{sum(row.flops for row in table):,}"]
    print_table(f"{name}, one image", ["layer", "kind", "output", "parameters", "FLOPs"], [*rows, total])
