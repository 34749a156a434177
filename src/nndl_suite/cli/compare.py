"""`nndl-suite compare`: CNN against Transformer."""

from pathlib import Path
from typing import Annotated

import typer

from nndl_suite.cli.options import AsJson, DataRoot, DeviceName, PrecisionName, Resume, Seed
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import print_json, print_table, progress


def compare(
    dataset: Annotated[
        str, typer.Option("--dataset", help="cifar10, cifar100, tiny-imagenet, demo, folder:PATH or arrays:FILE.npz.")
    ] = "cifar100",
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder to write; must be new unless --resume.")
    ] = None,
    cnn: Annotated[str, typer.Option("--cnn", help="resnet18, course-resnet18, … or any timm model.")] = "resnet18",
    transformer: Annotated[
        str, typer.Option("--transformer", help="vit: width and depth solved for to match the CNN; or course-vit.")
    ] = "vit",
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 100,
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs of each arm.", min=1)] = 3,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    data_root: DataRoot = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Match and count only.")] = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train a CNN and a Transformer of matched size by one recipe; say which wins, by how much, how sure.

    Example: nndl-suite compare --dataset cifar100 --epochs 100 --seeds 3 --out runs/cmp
    """
    if dry_run:
        _show_plan(cnn, transformer, dataset, data_root, as_json=as_json)
        return
    if out is None:
        raise typer.BadParameter("a run needs a folder: --out runs/NAME (or --dry-run to count only)")
    from nndl_suite import compare_architectures

    with progress() as watch:
        compare_architectures(
            cnn=cnn,
            transformer=transformer,
            dataset=dataset,
            epochs=epochs,
            seeds=range(seed, seed + seeds),
            out=out,
            device=device,
            precision=precision,
            data_root=data_root,
            resume=resume,
            watch=watch,
        )
    show_result(out, as_json=as_json)


def _show_plan(cnn: str, transformer: str, dataset: str, data_root: Path | None, *, as_json: bool) -> None:
    from nndl_suite.comparison.comparison import plan_comparison

    with progress() as watch:
        plan = plan_comparison(cnn, transformer, dataset, data_root=data_root, watch=watch)
    if as_json:
        arms = [{"name": arm.name, "parameters": arm.parameters, "flops": arm.flops} for arm in plan.arms]
        print_json({"kind": "plan", "dataset": plan.dataset, "arms": arms, "parameter_ratio": plan.parameter_ratio})
        return
    rows = [[arm.name, f"{arm.parameters:,}", f"{arm.flops / 1e9:.3f} G", str(arm.shape)] for arm in plan.arms]
    title = f"{plan.num_classes} classes at {plan.image_size} px; parameters differ by {plan.parameter_ratio - 1:+.2%}"
    print_table(title, ["arm", "parameters", "FLOPs an image", "shape"], rows)
