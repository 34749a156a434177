"""`nndl-suite ssl study`, `ssl scale` and `ssl sweep`: many pretrainings, one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nndl_suite.cli.logs import AsEvents, LogTo, logged
from nndl_suite.cli.options import (
    DATASETS,
    METHODS,
    AsJson,
    DataRoot,
    DeviceName,
    PrecisionName,
    Resume,
    Seed,
    listed,
    offered,
)
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import print_json, print_table, progress
from nndl_suite.cli.ssl import Backbone, Stem

if TYPE_CHECKING:
    from nndl_suite.representation.scale import ScaleConfig
    from nndl_suite.representation.study_plan import StudyConfig
    from nndl_suite.representation.sweep import SweepConfig, Vary

_SETS = "cifar10, cifar100, stl10, tiny-imagenet, demo, folder:PATH or arrays:FILE.npz"
Downstream = Annotated[
    str,
    typer.Option(
        "--downstream",
        help=f"Labelled; what features are worth is read on it: {_SETS}.",
        autocompletion=offered(DATASETS),
    ),
]
PretrainingSet = Annotated[
    str, typer.Option("--dataset", help=f"Pretraining set: {_SETS}.", autocompletion=offered(DATASETS))
]
NewRun = Annotated[Path | None, typer.Option("--out", help="The run folder to write; must be new unless --resume.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the rows and count their steps only.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Of every pretraining.", min=1)]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images; each gives two views or more.")]
Method = Annotated[str, typer.Option("--method", help="simclr, byol, barlow, …", autocompletion=offered(METHODS))]


def study(
    dataset: Annotated[str, typer.Option("--dataset", help=f"Pretraining sets, with commas between: {_SETS}.")],
    downstream: Downstream,
    out: NewRun = None,
    methods: Annotated[str, typer.Option("--methods", help="With commas between: simclr,byol,barlow, …")] = "simclr",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    epochs: Epochs = 100,
    batch_size: BatchSize = 512,
    protocols: Annotated[
        str, typer.Option("--protocols", help="With commas between, of linear, knn, finetune; the first one chooses.")
    ] = "linear,knn",
    resolutions: Annotated[
        str, typer.Option("--resolutions", help="Pixels that ImageNet's network sees: 32,64,128; one row each.")
    ] = "",
    imagenet: Annotated[
        str, typer.Option("--imagenet", help="imagenet: torchvision's weights; or a state-dict file.")
    ] = "imagenet",
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs of each row.", min=1)] = 1,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    data_root: DataRoot = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """SSL methods beside ImageNet's features, random ones and training from scratch, all read by the same protocols.

    Examples:
      nndl-suite ssl study --dataset cifar10 --downstream cifar100 --out runs/study
      nndl-suite ssl study --dataset cifar10 --downstream cifar100 --methods simclr,byol --dry-run
    """
    from nndl_suite import SSLPretrainer
    from nndl_suite.representation.study import run_study
    from nndl_suite.representation.study_plan import StudyConfig

    folder = _needed(out, dry_run=dry_run)
    config = StudyConfig(
        datasets=listed(dataset, str),
        downstream=downstream,
        methods=listed(methods, str),
        pretraining=SSLPretrainer(
            backbone=backbone, stem=stem, epochs=epochs, batch_size=batch_size, device=device, precision=precision
        ),
        protocols=listed(protocols, str),
        resolutions=listed(resolutions, int, "--resolutions"),
        imagenet=imagenet,
        seeds=tuple(range(seed, seed + seeds)),
    )
    if dry_run:
        _show_study_plan(config, data_root, as_json=as_json)
        return
    with progress() as watch, logged(folder, tensorboard=tensorboard, log_to=log_to):
        run_study(config, out=folder, resume=resume, data_root=data_root, watch=watch)
    show_result(folder, as_json=as_json)


def scale(
    dataset: PretrainingSet,
    downstream: Downstream,
    out: NewRun = None,
    method: Method = "simclr",
    fractions: Annotated[
        str, typer.Option("--fractions", help="Of the pretraining images, with commas between.")
    ] = "0.05,0.1,0.25,0.5,1",
    subset_seeds: Annotated[
        int, typer.Option("--subset-seeds", help="How many draws of the subsets, from --seed on.", min=1)
    ] = 2,
    fixed: Annotated[
        str, typer.Option("--fixed", help="What stays the same for all sizes: epochs, steps, or both.")
    ] = "epochs,steps",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    epochs: Epochs = 100,
    steps: Annotated[
        int | None, typer.Option("--steps", help="At fixed steps; else what --epochs of the whole set take.", min=1)
    ] = None,
    batch_size: BatchSize = 512,
    protocol: Annotated[str, typer.Option("--protocol", help="linear, knn or finetune.")] = "linear",
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    data_root: DataRoot = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy against the size of the pretraining set, at fixed epochs and at fixed steps, with a fitted curve.

    Example:
      nndl-suite ssl scale --dataset cifar100 --downstream cifar100 --out runs/scale
    """
    from nndl_suite import SSLPretrainer
    from nndl_suite.representation.scale import ScaleConfig, run_scale

    folder = _needed(out, dry_run=dry_run)
    config = ScaleConfig(
        dataset=dataset,
        downstream=downstream,
        fractions=listed(fractions, float, "--fractions"),
        seeds=tuple(range(seed, seed + subset_seeds)),
        fixed=listed(fixed, str),  # pyright: ignore[reportArgumentType] - the config refuses other words
        pretraining=SSLPretrainer(
            method=method,
            backbone=backbone,
            stem=stem,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            device=device,
            precision=precision,
        ),
        protocol=protocol,
    )
    if dry_run:
        _show_scale_plan(config, data_root, as_json=as_json)
        return
    with progress() as watch, logged(folder, tensorboard=tensorboard, log_to=log_to):
        run_scale(config, out=folder, resume=resume, data_root=data_root, watch=watch)
    show_result(folder, as_json=as_json)


def sweep(
    dataset: PretrainingSet,
    downstream: Downstream,
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            help="NAME=VALUE,VALUE: temperature, projector_dim, batch_size, learning_rate or augmentation; repeatable.",
        ),
    ],
    out: NewRun = None,
    method: Method = "simclr",
    design: Annotated[
        Literal["product", "one-at-a-time"],
        typer.Option("--design", help="All combinations, or one setting at a time off the first value of each."),
    ] = "product",
    backbone: Backbone = "resnet18",
    stem: Stem = "auto",
    epochs: Epochs = 100,
    batch_size: BatchSize = 512,
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs of each combination.", min=1)] = 1,
    seed: Seed = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    data_root: DataRoot = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    tensorboard: AsEvents = False,
    log_to: LogTo = None,
    as_json: AsJson = False,
) -> None:
    """Try combinations of hyper-parameters; the validation accuracy of the linear probe chooses, the chosen is tested.

    Example:
      nndl-suite ssl sweep --dataset stl10 --downstream cifar10 --vary temperature=0.1,0.5 --out runs/vary
    """
    from nndl_suite import SSLPretrainer
    from nndl_suite.representation.sweep import SweepConfig, run_sweep

    folder = _needed(out, dry_run=dry_run)
    config = SweepConfig(
        dataset=dataset,
        downstream=downstream,
        vary=tuple(_vary(words) for words in vary),
        design=design,
        pretraining=SSLPretrainer(
            method=method,
            backbone=backbone,
            stem=stem,
            epochs=epochs,
            batch_size=batch_size,
            device=device,
            precision=precision,
        ),
        seeds=tuple(range(seed, seed + seeds)),
    )
    if dry_run:
        _show_sweep_plan(config, data_root, as_json=as_json)
        return
    with progress() as watch, logged(folder, tensorboard=tensorboard, log_to=log_to):
        run_sweep(config, out=folder, resume=resume, data_root=data_root, watch=watch)
    show_result(folder, as_json=as_json)


def _show_study_plan(config: "StudyConfig", data_root: Path | None, *, as_json: bool) -> None:
    from nndl_suite.representation.study_plan import plan_study

    with progress() as watch:
        plan = plan_study(config, data_root=data_root, watch=watch)
    rows = [[p.row.name, p.images, p.steps, p.absent or ""] for p in plan.rows]
    told = f"{len(plan.seeds)} seed(s), protocols {', '.join(plan.protocols)}"
    _show_plan(["row", "images", "steps a seed", "absent because"], rows, steps=plan.steps, told=told, as_json=as_json)


def _show_scale_plan(config: "ScaleConfig", data_root: Path | None, *, as_json: bool) -> None:
    from nndl_suite.representation.scale import plan_scale

    with progress() as watch:
        plan = plan_scale(config, data_root=data_root, watch=watch)
    rows = [[p.fixed, p.fraction, p.images, p.seed, p.steps, p.epochs] for p in plan.points]
    told = "subsets keep the shares of the classes" if plan.stratified else "subsets are uniform draws"
    columns = ["fixed", "fraction", "images", "seed", "steps", "epochs"]
    _show_plan(columns, rows, steps=plan.steps, told=told, as_json=as_json)


def _show_sweep_plan(config: "SweepConfig", data_root: Path | None, *, as_json: bool) -> None:
    from nndl_suite.representation.sweep import plan_sweep

    with progress() as watch:
        plan = plan_sweep(config, data_root=data_root, watch=watch)
    rows = [[*p.settings.values(), p.steps] for p in plan.rows]
    columns = [*(varied.name for varied in config.vary), "steps a seed"]
    told = f"{len(plan.seeds)} seed(s) on {plan.images:,} images"
    _show_plan(columns, rows, steps=plan.steps, told=told, as_json=as_json)


def _needed(out: Path | None, *, dry_run: bool) -> Path:
    if out is None and not dry_run:
        raise typer.BadParameter("a run needs a folder: --out runs/NAME (or --dry-run to count only)")
    return out or Path()


def _vary(words: str) -> "Vary":
    from nndl_suite.representation.sweep import Vary

    name, equals, values = words.partition("=")
    if not equals:
        raise typer.BadParameter(f"--vary wants NAME=VALUE,VALUE,…, got {words!r}")
    return Vary(name=name.strip().replace("-", "_"), values=listed(values, float, f"--vary {name}"))


def _show_plan(
    columns: Sequence[str], rows: Sequence[Sequence[float | str]], *, steps: int, told: str, as_json: bool
) -> None:
    if as_json:
        print_json({"kind": "plan", "steps": steps, "rows": [dict(zip(columns, row, strict=True)) for row in rows]})
        return
    print_table(f"{steps:,} steps in all; {told}", columns, [[_cell(value) for value in row] for row in rows])


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
