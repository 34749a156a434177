"""What does more pretraining data buy? Accuracy against the size of the set, at fixed epochs and at fixed steps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from nndl_suite.data.catalog import load_image_set, load_pretraining_set
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.subsets import nested_subset, subset_size
from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.pretrain_config import SPEED_ONLY
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.representation.scaling_curve import ScalingCurve, fit_scaling_curve
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import Interval, share_interval
from nndl_suite.training.locks import only_writer
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore, within

_POINTS_OWN = ("seed", *SPEED_ONLY)

Budget = Literal["epochs", "steps"]
"""What stays the same for every size: passes over the subset, or optimiser steps and with them the compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleConfig:
    """Which parts of a set to pretrain on, and how."""

    dataset: str
    downstream: str
    """A labelled set; what the features are worth is read on it."""
    fractions: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)
    """Of the pretraining images."""
    seeds: tuple[int, ...] = (0, 1)
    """Each draws its own subsets, a larger one around each smaller, and all else that is random."""
    fixed: tuple[Budget, ...] = ("epochs", "steps")
    pretraining: SSLPretrainer = field(default_factory=SSLPretrainer)
    """`epochs` are those of the fixed epochs; `steps` those of the fixed steps, by default what `epochs` of the whole
    set take. The seed is the point's."""
    protocol: str = "linear"

    def __post_init__(self) -> None:
        for what, values in (("fractions", self.fractions), ("seeds", self.seeds), ("fixed", self.fixed)):
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{what} must be one or more different ones, got {list(values)}")
        for budget in self.fixed:
            if budget not in get_args(Budget):
                raise unknown_name("fixed", budget, get_args(Budget))
        self.pretraining.check_alone()
        if METHODS[self.pretraining.method].labels:
            raise ConfigError(
                f"{self.pretraining.method} needs labels; the curve is of methods that learn without them"
            )
        LinearProbe(protocol=self.protocol)
        for fraction in self.fractions:
            subset_size(1, fraction, least=0)  # refuses what is no fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPoint:
    """One size under one budget and one seed."""

    fixed: Budget
    fraction: float
    images: int
    seed: int
    steps: int
    epochs: float

    @property
    def folder(self) -> str:
        """Points of the same subset and as many steps are one run: the whole set, at fixed epochs and fixed steps."""
        return f"fraction{self.fraction:g}-{self.steps}steps-seed{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePlan:
    """What will be trained, before any of it is."""

    points: tuple[PlannedPoint, ...]
    fingerprint: str
    """Of the whole pretraining set."""
    stratified: bool
    """Whether the subsets keep the shares of the classes."""

    @property
    def steps(self) -> int:
        """Of all runs; what two budgets share is trained once."""
        return sum({point.folder: point.steps for point in self.points}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePoint:
    """A point and its score."""

    fixed: Budget
    fraction: float
    images: int
    seed: int
    steps: int
    epochs: float
    test_accuracy: float
    val_accuracy: float
    warning: str | None
    """What is wrong with the features, if something is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSize:
    """All seeds of one size under one budget."""

    fixed: Budget
    fraction: float
    images: int
    mean: float
    """Test accuracy."""
    ci95: Interval | None
    """Of the mean over seeds (Student's t); None for one seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleResult:
    """Accuracy against size."""

    path: Path
    points: tuple[ScalePoint, ...]
    sizes: tuple[ScaleSize, ...]
    curves: dict[Budget, ScalingCurve]
    """Fitted where there are at least two sizes and three points."""
    seconds: float
    """Training and probing time of all runs."""


def plan_scale(config: ScaleConfig, *, data_root: Path | str | None = None, watch: Watcher = ignore) -> ScalePlan:
    """Count images and steps, and train nothing.

    Raises:
        ConfigError: a fraction gives less than one batch.
        DataError: a set is missing, or the downstream set has no labels.
    """
    load_image_set(config.downstream, "train", data_root=data_root, watch=watch).required_labels()
    return _plan(config, load_pretraining_set(config.dataset, data_root=data_root, watch=watch))


def _plan(config: ScaleConfig, images: ImageSet) -> ScalePlan:
    batch, epochs = config.pretraining.batch_size, config.pretraining.epochs
    sizes = {fraction: subset_size(len(images), fraction, least=batch) for fraction in config.fractions}
    points: list[PlannedPoint] = []
    for seed in config.seeds:
        for fixed in config.fixed:
            for fraction, size in sizes.items():
                per_epoch = size // batch
                whole = config.pretraining.steps or epochs * (len(images) // batch)
                steps = epochs * per_epoch if fixed == "epochs" else whole
                points.append(
                    PlannedPoint(
                        fixed=fixed,
                        fraction=fraction,
                        images=size,
                        seed=seed,
                        steps=steps,
                        epochs=round(steps / per_epoch, 2),
                    )
                )
    return ScalePlan(points=tuple(points), fingerprint=images.fingerprint, stratified=images.labels is not None)


def run_scale(
    config: ScaleConfig,
    *,
    out: Path | str,
    resume: bool = False,
    data_root: Path | str | None = None,
    watch: Watcher = ignore,
) -> ScaleResult:
    """Pretrain on every part of the set, probe each, and fit a curve to the scores of each budget.

    Labels of the pretraining set, where there are any, stratify the subsets, and have no say in what is learned. Each
    pretraining and each probe is a run of its own below `out`, so that all goes on where it stopped.

    Args:
        config: Which parts, and how.
        out: The run folder.
        resume: Go on with what is in `out`.
        data_root: Where named sets lie.
        watch: Told of progress.

    Raises:
        ConfigError: a fraction gives less than one batch, or another setting does not fit.
        DataError: a set is missing, or the downstream set has no labels.
        RunError: `out` holds another run.
        TrainingError: a loss is not finite.
        Interrupted: somebody stopped it; `resume` goes on.
    """
    load_image_set(config.downstream, "train", data_root=data_root, watch=watch).required_labels()
    images = load_pretraining_set(config.dataset, data_root=data_root, watch=watch)
    plan = _plan(config, images)
    run = open_run(out, kind="scale", settings=_settings(config, plan), resume=resume)
    with only_writer(run.path):
        return _scale(config, plan, images, run, data_root, watch)


def _scale(  # noqa: PLR0913
    config: ScaleConfig,
    plan: ScalePlan,
    images: ImageSet,
    run: RunFolder,
    data_root: Path | str | None,
    watch: Watcher,
) -> ScaleResult:
    place = run.path.resolve()  # a probe's settings name the folder that it reads
    points: list[ScalePoint] = []
    spent: dict[str, float] = {}
    for count, planned in enumerate(plan.points, start=1):
        name = f"{planned.images} images at fixed {planned.fixed}, seed {planned.seed}"
        told = within(watch, f"row {count} of {len(plan.points)}, {name}")
        pretrainer = replace(config.pretraining, steps=planned.steps, seed=planned.seed)
        pretrained = pretrainer.fit(
            nested_subset(images, planned.images, seed=planned.seed),
            out=place / "pretrain" / planned.folder,
            resume=True,
            watch=told,
        )
        probe = LinearProbe(
            features=pretrained, protocol=config.protocol, seed=planned.seed, device=config.pretraining.device
        )
        folder = place / "probe" / planned.folder
        found = probe.evaluate(config.downstream, out=folder, resume=True, data_root=data_root, watch=told)
        spent[planned.folder] = pretrained.seconds + found.seconds
        points.append(
            ScalePoint(
                **asdict(planned),
                test_accuracy=found.test_accuracy,
                val_accuracy=found.val_accuracy,
                warning=pretrained.warning,
            )
        )
    result = ScaleResult(
        path=run.path,
        points=tuple(points),
        sizes=_sizes(points),
        curves=_curves(config, points),
        seconds=sum(spent.values()),
    )
    _write_result(run, config, plan, result)
    return result


def _settings(config: ScaleConfig, plan: ScalePlan) -> dict[str, Json]:
    whole = asdict(config)
    whole["pretraining"] = {name: value for name, value in whole["pretraining"].items() if name not in _POINTS_OWN}
    return whole | {"fingerprint": plan.fingerprint, "stratified": plan.stratified}


def _sizes(points: Sequence[ScalePoint]) -> tuple[ScaleSize, ...]:
    by_size: dict[tuple[Budget, float], list[ScalePoint]] = {}
    for point in points:
        by_size.setdefault((point.fixed, point.fraction), []).append(point)
    return tuple(
        ScaleSize(
            fixed=fixed,
            fraction=fraction,
            images=of_size[0].images,
            mean=sum(point.test_accuracy for point in of_size) / len(of_size),
            ci95=share_interval([point.test_accuracy for point in of_size]) if len(of_size) > 1 else None,
        )
        for (fixed, fraction), of_size in by_size.items()
    )


def _curves(config: ScaleConfig, points: Sequence[ScalePoint]) -> dict[Budget, ScalingCurve]:
    curves: dict[Budget, ScalingCurve] = {}
    for fixed in config.fixed:
        drawn = [point for point in points if point.fixed == fixed]
        if len({point.images for point in drawn}) >= 2 and len(drawn) >= 3:
            accuracies = [point.test_accuracy for point in drawn]
            curves[fixed] = fit_scaling_curve([point.images for point in drawn], accuracies, seed=config.seeds[0])
    return curves


def _write_result(run: RunFolder, config: ScaleConfig, plan: ScalePlan, result: ScaleResult) -> None:
    run.finish(
        "scale",
        seconds=result.seconds,
        seed=config.seeds[0],
        fields={
            "dataset": config.dataset,
            "downstream": config.downstream,
            "method": config.pretraining.method,
            "backbone": config.pretraining.backbone,
            "protocol": config.protocol,
            "fractions": list(config.fractions),
            "seeds": list(config.seeds),
            "fixed": list(config.fixed),
            "stratified": plan.stratified,
            "points": [asdict(point) for point in result.points],
            "sizes": [asdict(size) for size in result.sizes],
            "curves": {fixed: asdict(curve) for fixed, curve in result.curves.items()},
        },
    )
