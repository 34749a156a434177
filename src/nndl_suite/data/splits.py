"""Splits that keep the shares of the classes."""

from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.training.seeds import generator_for

Split = Literal["train", "test", "unlabelled"]


def stratified_split(
    labels: Int64[Tensor, "n"], *, held_out: int, seed: int
) -> tuple[Int64[Tensor, "a"], Int64[Tensor, "b"]]:
    """Cut `held_out` images from a labelled set, each class in proportion to within one image.

    Args:
        labels: One class index an image.
        held_out: How many images to hold out, in [1, n - 1].
        seed: Decides which.

    Returns:
        Indices of the images kept and of those held out, each ascending.
    """
    total = len(labels)
    if not 1 <= held_out < total:
        raise ConfigError(f"cannot hold out {held_out} of {total} images; at least one must stay on either side")
    generator = generator_for(seed, "split")
    shuffled = torch.randperm(total, generator=generator)
    by_class = shuffled[
        labels[shuffled].argsort(stable=True)
    ]  # shuffled within each class, classes one after the other
    # Every (total/held_out)-th of that order: a class of m images gives floor or ceil of m * held_out / total.
    picks = torch.arange(held_out) * total // held_out
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[by_class[picks]] = True
    return (~chosen).nonzero().squeeze(1), chosen.nonzero().squeeze(1)


def own_split(images: ImageSet, split: Split) -> ImageSet:
    """One split of a set that comes without any: every fifth image of each class is its test split, the same always."""
    if images.labels is None:
        if split == "unlabelled":
            return images
        raise DataError(
            f"{images.name} has no labels; it serves for pretraining only, unless its images lie in class folders"
        )
    if len(images) < 5:
        raise DataError(f"{images.name} has {len(images)} images; at least 5 are needed to hold out a test split")
    train, test = stratified_split(images.labels, held_out=len(images) // 5, seed=0)
    return images.subset(test if split == "test" else train)
