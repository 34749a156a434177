"""A study's table: means over seeds, their intervals, and gains over what the features are measured against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nndl_suite.representation.class_scores import class_accuracies, group_accuracies
from nndl_suite.representation.study_rows import Row, RowKind
from nndl_suite.training.intervals import Interval, share_interval, student_interval, wilson_interval
from nndl_suite.training.predictions import Predictions

IntervalOf = Literal["student-t over seeds", "wilson over test images", "student-t over paired test images"]
"""What an interval covers: other seeds; or, for one network, other test images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedScore:
    """One probe of one row."""

    seed: int
    test_accuracy: float
    val_accuracy: float
    predictions: Predictions
    resolution: int
    feature_dim: int
    seconds: float
    """Of the probe."""
    warning: str | None
    """What is wrong with the features, if something is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Accuracy of a row minus that of another under the same protocol."""

    mean: float
    ci95: Interval
    interval: IntervalOf
    """Paired by seed, or for one seed by test image."""
    per_class: tuple[float | None, ...]
    """By label; None for a class without test images."""
    per_superclass: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyScore:
    """One row under one protocol."""

    name: str
    kind: RowKind
    method: str | None
    dataset: str | None
    protocol: str
    seeds: tuple[int, ...]
    test_accuracy: tuple[float, ...]
    """By seed; the test split is read once for each."""
    mean: float
    ci95: Interval
    interval: IntervalOf
    val_accuracy: float
    """Mean over seeds, on the images that chose. Scratch has learned those images' labels: too high."""
    resolution: int
    feature_dim: int
    per_class: tuple[float | None, ...]
    per_superclass: dict[str, float]
    gain_over_scratch: Gain | None
    gain_over_random: Gain | None
    """None for the row itself."""
    warning: str | None
    """What is wrong with the features of some seed, if something is."""


def score_rows(
    rows: Sequence[tuple[Row, str, Sequence[SeedScore]]], *, num_classes: int, superclasses: Mapping[str, Sequence[int]]
) -> tuple[StudyScore, ...]:
    """The table, in the order of `rows`: of each its protocol, and its scores by seed, the same seeds for all."""
    found = {(row.kind, protocol): scores for row, protocol, scores in rows if row.kind in ("scratch", "random")}

    def gain(row: Row, protocol: str, scores: Sequence[SeedScore], over: RowKind) -> Gain | None:
        other = found.get((over, protocol))
        if other is None or row.kind == over:
            return None
        return _gain(scores, other, num_classes=num_classes, superclasses=superclasses)

    return tuple(
        StudyScore(
            name=row.name,
            kind=row.kind,
            method=row.method,
            dataset=row.dataset,
            protocol=protocol,
            seeds=tuple(score.seed for score in scores),
            test_accuracy=tuple(score.test_accuracy for score in scores),
            mean=_mean([score.test_accuracy for score in scores]),
            ci95=_interval(row, scores),
            interval=_interval_of(row, scores),
            val_accuracy=_mean([score.val_accuracy for score in scores]),
            resolution=scores[0].resolution,
            feature_dim=scores[0].feature_dim,
            per_class=_shares(class_accuracies(_runs(scores), num_classes)),
            per_superclass=_by_name(superclasses, group_accuracies(_runs(scores), superclasses)),
            gain_over_scratch=gain(row, protocol, scores, "scratch"),
            gain_over_random=gain(row, protocol, scores, "random"),
            warning=next((score.warning for score in scores if score.warning), None),
        )
        for row, protocol, scores in rows
    )


def best_row(scores: Sequence[StudyScore], protocol: str, kinds: Sequence[RowKind]) -> StudyScore:
    """The row of these kinds with the best validation accuracy under a protocol.

    Do not ask for scratch: its features know the validation images' labels.
    """
    among = [score for score in scores if score.protocol == protocol and score.kind in kinds]
    return max(among, key=lambda score: score.val_accuracy)


def _interval_of(row: Row, scores: Sequence[SeedScore]) -> IntervalOf:
    """ImageNet's weights are one network, whatever the seed of its probe."""
    return "student-t over seeds" if len(scores) > 1 and row.kind != "imagenet" else "wilson over test images"


def _interval(row: Row, scores: Sequence[SeedScore]) -> Interval:
    accuracies = [score.test_accuracy for score in scores]
    if _interval_of(row, scores) == "student-t over seeds":
        return share_interval(accuracies)
    return wilson_interval(_mean(accuracies), len(scores[0].predictions.labels))


def _gain(
    scores: Sequence[SeedScore],
    others: Sequence[SeedScore],
    *,
    num_classes: int,
    superclasses: Mapping[str, Sequence[int]],
) -> Gain:
    by_seed = {other.seed: other for other in others}
    paired = [(score, by_seed[score.seed]) for score in scores]
    ours, theirs = [score.predictions for score, _ in paired], [other.predictions for _, other in paired]
    differences = [score.test_accuracy - other.test_accuracy for score, other in paired]
    several = len(paired) > 1
    if not several:
        differences = (ours[0].correct.astype(float) - theirs[0].correct.astype(float)).tolist()
    by_class = class_accuracies(ours, num_classes) - class_accuracies(theirs, num_classes)
    by_group = group_accuracies(ours, superclasses) - group_accuracies(theirs, superclasses)
    return Gain(
        mean=_mean(differences),
        ci95=student_interval(differences),
        interval="student-t over seeds" if several else "student-t over paired test images",
        per_class=_shares(by_class),
        per_superclass=_by_name(superclasses, by_group),
    )


def _runs(scores: Sequence[SeedScore]) -> list[Predictions]:
    return [score.predictions for score in scores]


def _shares(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else round(float(value), 6) for value in values)


def _by_name(names: Mapping[str, Sequence[int]], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True) if not np.isnan(value)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
