"""One architecture by itself: trained by a recipe, tested once, its weights kept."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from torch import Tensor

from nndl_suite.comparison.architectures import check_sizes, resolve_arm
from nndl_suite.comparison.arm import ArmTraining, train_arm
from nndl_suite.comparison.matching import Match
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.recipes import RECIPES
from nndl_suite.comparison.scores import ArmScore, arm_fields, read_arm_score
from nndl_suite.comparison.splits import load_splits, split_settings
from nndl_suite.comparison.vit import VitName
from nndl_suite.data.batches import check_batch_size
from nndl_suite.errors import ConfigError
from nndl_suite.training.environment import Spread
from nndl_suite.training.fabric import Device, Precision, device_name, join_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import Interval, wilson_interval
from nndl_suite.training.locks import only_writer
from nndl_suite.training.processes import from_first, one_falls_all_fall
from nndl_suite.training.runs import open_run
from nndl_suite.training.tensor_files import sealed, write_tensors
from nndl_suite.training.watch import Watcher, ignore

_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """One trained network."""

    arm: str
    score: ArmScore
    ci95: Interval
    """Of the test accuracy, over test images (Wilson)."""
    weights: Path
    """The state dict of the network that was scored, as safetensors."""
    out: Path


def train_architecture(  # noqa: PLR0913 - each is a choice of the person who trains
    arm: str = "whitened-cnn",
    dataset: str = "cifar100",
    *,
    epochs: int = 16,
    out: Path | str,
    recipe: Recipe = RECIPES["speed"],
    cnn: str = "resnet18",
    match: Match = "parameters",
    seed: int = 0,
    data_root: Path | str | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: int = 1,
    nodes: int = 1,
    resume: bool = False,
    watch: Watcher = ignore,
) -> TrainingResult:
    """Train one network as an arm of a comparison is trained, and read the test split once, with the last weights.

    The log has the validation accuracy of each epoch beside the seconds that had passed.

    Args:
        arm: A network by name, of those that `compare_architectures` knows.
        dataset: A data name with labels.
        epochs: Passes over the training images.
        out: The run folder.
        recipe: How. Of its rates those of the Transformer for a `VitName` and `course-vit`, else those of the CNN.
        cnn: The network that a `VitName` is as large as.
        match: What that ViT has as much of.
        seed: Decides every random draw.
        data_root: Where named sets lie; else `NNDL_SUITE_DATA`, else the user's cache.
        device: "auto" takes a CUDA device where there is one.
        precision: "auto" takes bf16 autocast where the hardware has it.
        devices: Processes on each machine that share every batch (docs/many-processes.md).
        nodes: Machines.
        resume: Go on with the run in `out`, on the CPU to the same bits; with as many processes as one likes.
        watch: Told of progress.

    Raises:
        ConfigError: a name or setting is unusable.
        DataError: the data set is missing, has no labels, or its splits do not fit each other.
        RunError: `out` holds something else, or a run while `resume` is off.
        TrainingError: the loss stopped being a number.
        Interrupted: somebody stopped the run; `resume` goes on.
    """
    if epochs < 1:
        raise ConfigError(f"epochs must be >= 1, got {epochs}")
    splits = load_splits(dataset, recipe, data_root, watch)
    train = splits.train
    network = resolve_arm(arm, cnn=cnn, num_classes=train.num_classes, image_size=train.image_size, match=match)
    check_sizes(network, recipe.resolutions)
    rates = _rates(arm, recipe)
    fabric = join_fabric(device, precision, Spread(devices, nodes))
    check_batch_size(recipe.batch_size, train.name, len(train))
    size: dict[str, Json] = {
        "arm": network.name,
        "shape": network.shape,
        "parameters": network.parameters,
        "flops": network.flops,
    }
    settings = size | split_settings(dataset, recipe, splits, fabric) | {"epochs": epochs, "seed": seed}
    run = open_run(out, kind="training", settings=settings, resume=resume)
    weights = run.path / _WEIGHTS
    if (finished := from_first(run.result)) is not None:
        score = read_arm_score(finished, run.path / "result.json")
        return _result(arm, score, len(splits.test), weights)
    with only_writer(run.path), one_falls_all_fall():
        training = ArmTraining(network, rates, recipe, splits, seed=seed, fabric=fabric)
        score = train_arm(training, splits, run, stage=arm, epochs=epochs, watch=watch)
        from_first(lambda: _save_weights(weights, training.scored_weights()))
        result = _result(arm, score, len(splits.test), weights)
        fields: dict[str, Json] = {
            **size,
            "dataset": dataset,
            "epochs": epochs,
            **arm_fields(score),
            "test_accuracy_ci95": list(result.ci95),
            "test_images": len(splits.test),
            "class_names": list(splits.test.class_names),
            "recipe": asdict(recipe),
            "chosen": asdict(rates),
            "weights": _WEIGHTS,
            "device": device_name(fabric),
        }
        from_first(lambda: run.finish("training", seconds=score.seconds, seed=seed, fields=fields))
    return result


def _save_weights(file: Path, weights: dict[str, Tensor]) -> None:
    header = sealed({"format": "pt"}, weights)  # what Hugging Face's libraries want to read there
    write_tensors(file, weights, header)


def _rates(arm: str, recipe: Recipe) -> Rates:
    transformer = arm in (*get_args(VitName), "course-vit")
    return (recipe.transformer if transformer else recipe.cnn) or recipe.rates


def _result(arm: str, score: ArmScore, test_images: int, weights: Path) -> TrainingResult:
    interval = wilson_interval(score.network.test_accuracy, test_images)
    return TrainingResult(arm=arm, score=score, ci95=interval, weights=weights, out=weights.parent)
