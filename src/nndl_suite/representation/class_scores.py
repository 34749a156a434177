"""Where a classifier is right and what it mixes up, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nndl_suite.representation.predictions import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Images of one class that are taken for another."""

    true: str
    predicted: str
    count: float
    """Test images, mean over seeds."""
    share: float
    """Of the images of the true class."""


def class_accuracies(runs: Sequence[Predictions], num_classes: int) -> Float64[np.ndarray, "k"]:
    """The share of each class's test images that are predicted right, mean over runs; NaN for a class without any."""
    return group_accuracies(runs, {str(label): (label,) for label in range(num_classes)})


def group_accuracies(runs: Sequence[Predictions], groups: Mapping[str, Sequence[int]]) -> Float64[np.ndarray, "groups"]:
    """The share of the test images of each group of classes whose own class is predicted, mean over runs; else NaN."""
    scores = np.full((len(runs), len(groups)), np.nan)
    for row, run in enumerate(runs):
        for column, labels in enumerate(groups.values()):
            inside = np.isin(run.labels, labels)
            if inside.any():
                scores[row, column] = run.correct[inside].mean()
    return scores.mean(axis=0)


def worst_confusions(runs: Sequence[Predictions], class_names: Sequence[str], *, most: int) -> tuple[Confusion, ...]:
    """The pairs (true class, another) with the most test images, from the largest; pairs that never happen are not.

    Args:
        runs: Seeds of one classifier, on the same test images.
        class_names: By label.
        most: How many pairs.
    """
    k = len(class_names)
    table = np.zeros((k, k))
    for run in runs:
        np.add.at(table, (run.labels, run.predicted), 1.0 / len(runs))
    images = table.sum(axis=1)
    np.fill_diagonal(table, 0)
    order = np.argsort(-table, axis=None, kind="stable")[:most]
    pairs = [(int(i // k), int(i % k)) for i in order]
    return tuple(
        Confusion(
            true=class_names[true],
            predicted=class_names[predicted],
            count=round(float(table[true, predicted]), 2),
            share=float(table[true, predicted] / images[true]),
        )
        for true, predicted in pairs
        if table[true, predicted] > 0
    )
