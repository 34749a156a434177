"""What tuning and comparing hold out of the training images: the same tenth; neither chooses on the test split."""

from dataclasses import dataclass

from nndl_suite.comparison.recipe import Recipe
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.splits import stratified_split
from nndl_suite.models.normalisation import Normalisation, measure_normalisation

_VAL_SHARE = 0.1
_SPLIT_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSplits:
    """What a training may see of a labelled set, and the scale of its pixels."""

    train: ImageSet
    val: ImageSet
    normalisation: Normalisation
    """Of the training images."""


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
