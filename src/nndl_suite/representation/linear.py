"""The linear protocol: logistic regression on frozen features, its penalty chosen on held-out rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nndl_suite.representation.choice import rows_for_choice
from nndl_suite.representation.logistic import LinearClassifier, Solution, fit_path
from nndl_suite.training.watch import Step, Watcher, ignore

PENALTIES = tuple(10.0 ** (-half / 2) for half in range(2, 13))
"""L2 penalties tried, from strong (0.1) to weak (1e-6), in half decades."""

_ON_THE_WAY = 1e-5
"""Nats above the minimum at which the solution of a penalty that is only tried will do. On 6,000 rows of made features
the held-out accuracy of every penalty was within 0.0006 of that at 1e-7: less than so many rows let one tell."""
_TOLERANCE = 1e-8
"""Of the last solution, which is scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLinear:
    """The classifier that validation chose, solved again on all rows."""

    classifier: LinearClassifier
    classes: Int64[Tensor, "k"]
    """The labels, ascending."""
    penalty: float
    val_accuracy: float

    @property
    def chosen(self) -> dict[str, float]:
        """The L2 penalty."""
        return {"l2": self.penalty}

    @property
    def feature_dim(self) -> int:
        """Columns of the features it takes."""
        return len(self.classifier.mean)

    @property
    def device(self) -> torch.device:
        """Where the features must be."""
        return self.classes.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the features that it was fitted on."""
        return self.classifier.mean.dtype

    def predict(self, features: Float[Tensor, "n d"]) -> Int64[Tensor, "n"]:
        """The likeliest label of each row."""
        return self.classes[self.classifier.logits(features).argmax(dim=1)]


def fit_linear(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, "n"],
    *,
    mirrored: Float[Tensor, "n d"] | None = None,
    seed: int,
    watch: Watcher = ignore,
) -> FittedLinear:
    """Choose the penalty on a stratified tenth of the rows, then solve with it on all of them.

    Args:
        features: One row an image.
        labels: One an image.
        mirrored: The same images' features in the mirror. They join the fit; held-out images are neither learned from
            in the mirror nor judged by it.
        seed: Decides the split.
        watch: Told of each penalty.

    Raises:
        DataError: there are under two classes or ten rows.
    """
    rows = rows_for_choice(labels, seed=seed)
    unseen, answers = features[rows.held_out], rows.targets[rows.held_out]
    solutions: list[Solution] = []
    scores: list[float] = []
    path = fit_path(
        _joined(features, mirrored, rows.kept),
        _doubled(rows.targets[rows.kept], mirrored),
        num_classes=len(rows.classes),
        penalties=PENALTIES,
        tolerance=_ON_THE_WAY,
    )
    for solution in path:
        solutions.append(solution)
        scores.append(solution.classifier.accuracy(unseen, answers))
        watch(Step(stage="choosing the penalty", done=len(scores), total=len(PENALTIES), metrics={"val": max(scores)}))
    best = scores.index(max(scores))  # the strongest of equals
    (chosen,) = fit_path(
        features if mirrored is None else torch.cat([features, mirrored]),
        _doubled(rows.targets, mirrored),
        num_classes=len(rows.classes),
        penalties=[solutions[best].penalty],
        start=solutions[best].classifier,
        tolerance=_TOLERANCE,
    )
    return FittedLinear(
        classifier=chosen.classifier, classes=rows.classes, penalty=chosen.penalty, val_accuracy=scores[best]
    )


def _joined(features: Tensor, mirrored: Tensor | None, rows: Tensor) -> Float[Tensor, "m d"]:
    return features[rows] if mirrored is None else torch.cat([features[rows], mirrored[rows]])


def _doubled(targets: Tensor, mirrored: Tensor | None) -> Int64[Tensor, "m"]:
    return targets if mirrored is None else torch.cat([targets, targets])
