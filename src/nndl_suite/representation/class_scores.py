"""Where a classifier is right, class by class."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from nndl_suite.training.predictions import Predictions


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
