"""CNN or Transformer: equal parameters, one recipe, several seeds, and the interval of the paired difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nndl_suite.comparison.architectures import Architecture, check_sizes, resolve_arms
from nndl_suite.comparison.learning_curve import cut, train_parts
from nndl_suite.comparison.matching import Match
from nndl_suite.comparison.recipe import DEFAULT_RECIPE, Recipe
from nndl_suite.comparison.result import ComparisonResult, conclude
from nndl_suite.comparison.setup import Setup
from nndl_suite.comparison.splits import load_splits, split_settings
from nndl_suite.comparison.trainings import train_all
from nndl_suite.comparison.tuned import read_tuned
from nndl_suite.data.batches import check_batch_size
from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import ConfigError
from nndl_suite.training.environment import Spread
from nndl_suite.training.fabric import Device, Precision, device_name, join_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.locks import only_writer
from nndl_suite.training.processes import from_first, one_falls_all_fall
from nndl_suite.training.runs import open_run
from nndl_suite.training.watch import Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """The two arms, matched and counted, untrained."""

    arms: tuple[Architecture, Architecture]
    dataset: str
    image_size: int
    num_classes: int

    @property
    def parameter_ratio(self) -> float:
        """The second arm's parameter count over the first's."""
        return self.arms[1].parameters / self.arms[0].parameters

    @property
    def flops_ratio(self) -> float:
        """The second arm's FLOPs over the first's."""
        return self.arms[1].flops / self.arms[0].flops


def plan_comparison(
    cnn: str = "resnet18",
    transformer: str = "vit",
    dataset: str = "cifar100",
    *,
    match: Match = "parameters",
    data_root: Path | str | None = None,
    watch: Watcher = ignore,
) -> ComparisonPlan:
    """Match and count the arms for a data set, and train nothing; arguments and errors as `compare_architectures`."""
    train = load_image_set(dataset, "train", data_root=data_root, watch=watch)
    train.required_labels()
    arms = resolve_arms(cnn, transformer, num_classes=train.num_classes, image_size=train.image_size, match=match)
    return ComparisonPlan(arms=arms, dataset=dataset, image_size=train.image_size, num_classes=train.num_classes)


def compare_architectures(  # noqa: PLR0913 - the public contract: each is a choice of the person who compares
    cnn: str = "resnet18",
    transformer: str = "vit",
    dataset: str = "cifar100",
    *,
    epochs: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
    out: Path | str,
    match: Match = "parameters",
    recipe: Recipe = DEFAULT_RECIPE,
    tuned: Sequence[Path | str] | None = None,
    fractions: Sequence[float] = (),
    data_root: Path | str | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: int = 1,
    nodes: int = 1,
    resume: bool = False,
    watch: Watcher = ignore,
) -> ComparisonResult:
    """Train both arms under one recipe for every seed, and compare them on the test split.

    A tenth of the training images, the same for all arms and seeds, is held out to watch the training; nothing is
    selected on it here, the last epoch is what is tested. Within a seed both arms see the same batches, crops, flips
    and CutMix boxes. Each arm and seed is a run of its own under `out/arms`.

    The last weights are scored in one pass over the test images (`NetworkScores`). Where a loss stops being a number,
    the other trainings go on, and `result.json` keeps what they came to.

    Args:
        cnn: `resnet18`, `resnet18-slim`, `resnet18-1m`, `resnet20` to `resnet110` (those of CIFAR), another torchvision
            or timm network, or `course-resnet18`.
        transformer: `vit`, `vit-patch2`, `vit-pool`, `vit-spt-lsa` or `vit-conv` for one as large as the CNN (within
            2 %), `course-vit`, or a timm network.
        dataset: A data name with labels: `cifar100`, `folder:PATH`, ...
        epochs: Passes over the training images.
        seeds: One training of each arm per seed; the interval of the difference needs two.
        out: The run folder.
        match: What a transformer that is made to measure has as much of as the CNN: "parameters", or "flops" of a
            forward pass.
        recipe: How both arms are trained.
        tuned: Two runs of `tune_architecture`, one of each arm, whose best rates are taken; they must have had the same
            budget, images and recipe. None takes those of `recipe`.
        fractions: Parts of the training images with which everything is trained once more, for the learning curve.
        data_root: Where named sets lie; else `NNDL_SUITE_DATA`, else the user's cache.
        device: "auto" takes a CUDA device where there is one.
        precision: "auto" takes bf16 autocast where the hardware has it.
        devices: Processes on each machine that share every batch of a training (docs/many-processes.md).
        nodes: Machines.
        resume: Go on with the comparison in `out`, wherever it was stopped; on the CPU to the same bits, with as many
            processes as one likes.
        watch: Told of progress.

    Raises:
        ConfigError: a name or setting is unusable.
        DataError: the data set is missing, has no labels, or its splits do not fit each other.
        RunError: `out` holds something else, or a run while `resume` is off, or results of an earlier version, or the
            arms were not tuned equally.
        TrainingError: a loss stopped being a number; the message names the arm, the step, and where the rest is.
        Interrupted: somebody stopped the comparison; `resume` goes on.
    """
    seeds = _checked(seeds, epochs)
    splits = load_splits(dataset, recipe, data_root, watch)
    train = splits.train
    arms = resolve_arms(cnn, transformer, num_classes=train.num_classes, image_size=train.image_size, match=match)
    chosen = read_tuned(tuned, arms, splits, recipe) if tuned else None
    recipe = chosen.within(recipe) if chosen else recipe
    for arm in arms:
        check_sizes(arm, recipe.resolutions)
    parts = cut(splits, fractions, batch_size=recipe.batch_size)
    fabric = join_fabric(device, precision, Spread(devices, nodes))
    check_batch_size(recipe.batch_size, train.name, len(train))
    shapes: Json = {arm.name: arm.shape for arm in arms}
    settings = {"arms": shapes, "epochs": epochs, **split_settings(dataset, recipe, splits, fabric)}
    asked: dict[str, Json] = {**settings, "seeds": list(seeds)}
    if parts:
        asked["fractions"] = list(parts)
    run = open_run(out, kind="comparison", settings=asked, resume=resume)
    setup = Setup(
        arms=arms,
        rates=(recipe.cnn or recipe.rates, recipe.transformer or recipe.rates),
        recipe=recipe,
        epochs=epochs,
        seeds=seeds,
        dataset=dataset,
        class_names=train.class_names,
        train_images=len(train),
        test_images=len(splits.test),
        tuned=chosen,
    )
    with only_writer(run.path), one_falls_all_fall():
        trained = train_all(setup, splits, run, settings=settings, fabric=fabric, watch=watch)
        with_parts = train_parts(setup, parts, run, settings=settings, fabric=fabric, watch=watch)
        return from_first(lambda: conclude(setup, trained, with_parts, run, device=device_name(fabric)))


def _checked(seeds: Sequence[int], epochs: int) -> tuple[int, ...]:
    if epochs < 1:
        raise ConfigError(f"epochs must be >= 1, got {epochs}")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds must be one or more different numbers, got {list(seeds)}")
    return tuple(seeds)
