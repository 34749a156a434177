"""What a probe said of each test image, kept beside its score."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nndl_suite.errors import RunError
from nndl_suite.training.damaged_arrays import DAMAGED_ARRAYS
from nndl_suite.training.files import write_atomically

_FILE = "predictions.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Of every test image, in the set's order."""

    predicted: Int64[np.ndarray, "n"]
    """The label that the probe gave."""
    labels: Int64[np.ndarray, "n"]
    """The label that it has."""

    @property
    def correct(self) -> np.ndarray:
        """Whether each was right."""
        return self.predicted == self.labels


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write `predictions.npz` into a probe's run folder, atomically: `predicted` and `labels`, int64 [n]."""
    write_atomically(
        folder / _FILE, lambda part: np.savez(part, predicted=predictions.predicted, labels=predictions.labels)
    )


def read_predictions(folder: Path) -> Predictions:
    """Read them back.

    Raises:
        RunError: the probe left none, or the file is damaged.
    """
    file = folder / _FILE
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            predicted, labels = archive["predicted"], archive["labels"]
    except DAMAGED_ARRAYS as error:
        raise RunError(f"{file} is missing or damaged ({error}); delete {folder} and probe again") from error
    if predicted.shape != labels.shape or predicted.ndim != 1 or not len(labels):
        raise RunError(
            f"{file} holds {list(predicted.shape)} predictions for {list(labels.shape)} labels; "
            f"delete {folder} and probe again"
        )
    return Predictions(predicted=predicted.astype(np.int64), labels=labels.astype(np.int64))
