"""What a probe chooses, it chooses on a tenth of the training rows."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import DataError

HELD_OUT = 0.1
"""Share of the training rows that choose: 5,000 of CIFAR's 50,000, the classes in proportion."""


class Fitted(Protocol):
    """A classifier of features that validation chose, fitted again on all rows."""

    @property
    def feature_dim(self) -> int:
        """Columns of the features it takes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the features must be."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the features that it was fitted on."""
        ...

    @property
    def chosen(self) -> dict[str, float]:
        """What the held-out rows selected."""
        ...

    @property
    def val_accuracy(self) -> float:
        """On the held-out rows, before the fit on all; optimistic, for they chose."""
        ...

    def predict(self, features: Float[Tensor, "n d"]) -> Int64[Tensor, "n"]:
        """The likeliest label of each row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Which rows a probe learns from while it chooses, and which it chooses by."""

    classes: Int64[Tensor, "k"]
    """The labels that occur, ascending."""
    targets: Int64[Tensor, "n"]
    """Each row's position in `classes`."""
    kept: Int64[Tensor, "a"]
    held_out: Int64[Tensor, "b"]


def rows_for_choice(labels: Int64[Tensor, "n"], *, seed: int) -> Rows:
    """Cut the rows in two.

    Raises:
        DataError: there are under two classes or ten rows.
    """
    classes, targets = torch.unique(labels, return_inverse=True)
    if len(classes) < 2 or len(labels) < 10:
        raise DataError(f"a probe needs >= 2 classes and >= 10 rows, got {len(classes)} and {len(labels)}")
    kept, held_out = stratified_split(targets.cpu(), held_out=round(HELD_OUT * len(labels)), seed=seed)
    return Rows(classes=classes, targets=targets, kept=kept.to(labels.device), held_out=held_out.to(labels.device))
