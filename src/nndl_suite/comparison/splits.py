"""The parts of a labelled set: tuning and comparing hold out the same tenth; neither chooses on the test split."""

from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_fabric import Fabric

from nndl_suite.comparison.recipe import Recipe
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.classes import check_same_classes
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import DataError
from nndl_suite.models.normalisation import Normalisation, measure_normalisation
from nndl_suite.training.files import Json
from nndl_suite.training.watch import Watcher

_VAL_SHARE = 0.1
_SPLIT_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSplits:
    """What a training may see of a labelled set, and the scale of its pixels."""

    train: ImageSet
    val: ImageSet
    normalisation: Normalisation
    """Of the training images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits(TrainingSplits):
    """All three parts of a labelled set."""

    test: ImageSet


def training_splits(whole: ImageSet, recipe: Recipe) -> TrainingSplits:
    """A labelled training set cut into nine tenths to learn from and one to choose by, the same every time.

    Raises:
        ConfigError: there are too few images.
        DataError: the set has no labels.
    """
    labels = whole.required_labels()
    kept, held_out = stratified_split(labels, held_out=max(1, round(_VAL_SHARE * len(whole))), seed=_SPLIT_SEED)
    train = whole.subset(kept)
    given = Normalisation(mean=recipe.mean, std=recipe.std) if recipe.mean and recipe.std else None
    normalisation = given or measure_normalisation(train)
    return TrainingSplits(train=train, val=whole.subset(held_out), normalisation=normalisation)


def load_splits(dataset: str, recipe: Recipe, data_root: Path | str | None, watch: Watcher) -> Splits:
    """A labelled set, a tenth of its training images held out, the same always.

    Raises:
        DataError: it is missing, has no labels, or its splits do not fit each other.
    """
    whole = load_image_set(dataset, "train", data_root=data_root, watch=watch)
    test = load_image_set(dataset, "test", data_root=data_root, watch=watch)
    whole.required_labels()
    check_same_classes(whole, test)
    if whole.image_size != test.image_size:
        raise DataError(
            f"{dataset}: training images have {whole.image_size} px and test images {test.image_size} px; resize one"
        )
    if len(whole) < 2 or not len(test):
        raise DataError(f"{dataset} has {len(whole)} training and {len(test)} test images; it wants 2 and 1 at least")
    seen = training_splits(whole, recipe)
    return Splits(train=seen.train, val=seen.val, test=test, normalisation=seen.normalisation)


def split_settings(dataset: str, recipe: Recipe, splits: Splits, fabric: Fabric) -> dict[str, Json]:
    """What decides a training's outcome besides its network, rates, epochs and seed, for `config.json`."""
    return {
        "dataset": dataset,
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        "test_images": len(splits.test),
        "fingerprints": [splits.train.fingerprint, splits.val.fingerprint, splits.test.fingerprint],
        "image_size": splits.train.image_size,
        "num_classes": splits.train.num_classes,
        "mean": list(splits.normalisation.mean),
        "std": list(splits.normalisation.std),
        "recipe": asdict(recipe),
        "device": fabric.device.type,
        "precision": fabric.strategy.precision.precision,
    }
