"""What a classifier said of each test image, kept beside its score."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nndl_suite.errors import RunError
from nndl_suite.training.array_files import load_npz
from nndl_suite.training.files import write_atomically

_FILE = "predictions.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Of every test image, in the set's order."""

    predicted: Int64[np.ndarray, "n"]
    """The label that it gave."""
    labels: Int64[np.ndarray, "n"]
    """The label that it has."""

    @property
    def correct(self) -> np.ndarray:
        """Whether each was right."""
        return self.predicted == self.labels


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write `predictions.npz` into a run folder, atomically: `predicted` and `labels`, int64 [n]."""
    write_atomically(
        folder / _FILE, lambda part: np.savez(part, predicted=predictions.predicted, labels=predictions.labels)
    )


def read_predictions(folder: Path) -> Predictions:
    """Read them back.

    Raises:
        RunError: the run left none, or the file is damaged.
    """
    file = folder / _FILE
    try:
        archive = load_npz(file)
        predicted, labels = archive["predicted"], archive["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{file} is missing or damaged; delete {folder} and run that again") from error
    if predicted.shape != labels.shape or predicted.ndim != 1 or not len(labels):
        raise RunError(
            f"{file} holds {list(predicted.shape)} predictions for {list(labels.shape)} labels; "
            f"delete {folder} and run that again"
        )
    if not all(np.issubdtype(found.dtype, np.integer) for found in (predicted, labels)):
        raise RunError(f"{file} holds {predicted.dtype} for labels; delete {folder} and run that again")
    return Predictions(predicted=predicted.astype(np.int64), labels=labels.astype(np.int64))
