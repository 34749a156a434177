"""Which classes a classifier takes for which, from what it said of each test image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from nndl_suite.errors import RunError
from nndl_suite.training.intervals import wilson_interval
from nndl_suite.training.predictions import Predictions, read_predictions

_WHOLE = 20
"""Classes of which the whole table fits a page."""
_PAIRS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Images of one class that are taken for another."""

    true: str
    predicted: str
    count: float
    """Test images, mean over seeds."""
    share: float
    """Of the images of the true class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """One class."""

    name: str
    images: int
    accuracy: float
    """The share of its test images that are predicted right, mean over seeds."""
    ci95: tuple[float, float] | None
    """Wilson's, of one network over these images; None over several seeds."""
    commonest: str
    """The class that most of the others are taken for; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionView:
    """As the page shows it."""

    name: str
    class_names: tuple[str, ...]
    seeds: int
    shares: tuple[tuple[float, ...], ...]
    """By true class, then by predicted class: the share of the true class's images. Empty for many classes."""
    pairs: tuple[Confusion, ...]
    """The commonest mistakes."""
    classes: tuple[ClassRow, ...]
    """From the least accurate; classes without test images are left out."""


def confusion_table(runs: Sequence[Predictions], num_classes: int) -> Float64[np.ndarray, "k k"]:
    """Test images by true class and predicted class, mean over runs.

    Raises:
        ValueError: a label is none of the classes.
    """
    table = np.zeros((num_classes, num_classes))
    for run in runs:
        both = np.concatenate([run.labels, run.predicted])
        if both.min() < 0 or both.max() >= num_classes:
            raise ValueError(f"labels must lie in [0, {num_classes}), got {both.min()} to {both.max()}")
        np.add.at(table, (run.labels, run.predicted), 1.0 / len(runs))
    return table


def worst_confusions(runs: Sequence[Predictions], class_names: Sequence[str], *, most: int) -> tuple[Confusion, ...]:
    """The pairs (true class, another) with the most test images, from the largest; pairs that never happen are not.

    Args:
        runs: Seeds of one classifier, on the same test images.
        class_names: By label.
        most: How many pairs.
    """
    k = len(class_names)
    table = confusion_table(runs, k)
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


def read_confusion(name: str, folders: Sequence[Path], class_names: Sequence[str]) -> ConfusionView | None:
    """What the `predictions.npz` of one classifier's seeds say; None where there are none, or classes have no names.

    Raises:
        RunError: a file is damaged, or does not fit the classes.
    """
    kept = [folder for folder in folders if (folder / "predictions.npz").is_file()]
    if not kept or not class_names:
        return None
    runs = [read_predictions(folder) for folder in kept]
    try:
        table = confusion_table(runs, len(class_names))
    except ValueError as error:
        raise RunError(f"{kept[0] / 'predictions.npz'}: {error}; delete {kept[0]} and run that again") from error
    images = table.sum(axis=1)
    shares = table / np.maximum(images, 1e-12)[:, None]
    return ConfusionView(
        name=name,
        class_names=tuple(class_names),
        seeds=len(runs),
        shares=tuple(tuple(row) for row in shares.tolist()) if len(class_names) <= _WHOLE else (),
        pairs=worst_confusions(runs, class_names, most=_PAIRS),
        classes=_class_rows(table, class_names, seeds=len(runs)),
    )


def _class_rows(table: Float64[np.ndarray, "k k"], class_names: Sequence[str], *, seeds: int) -> tuple[ClassRow, ...]:
    rows: list[ClassRow] = []
    for label, name in enumerate(class_names):
        images = round(float(table[label].sum()))
        if not images:
            continue
        right = float(table[label, label] / table[label].sum())
        wrong = table[label].copy()
        wrong[label] = 0
        rows.append(
            ClassRow(
                name=name,
                images=images,
                accuracy=right,
                ci95=wilson_interval(right, images) if seeds == 1 else None,
                commonest=class_names[int(wrong.argmax())] if wrong.any() else "",
            )
        )
    return tuple(sorted(rows, key=lambda row: row.accuracy))
