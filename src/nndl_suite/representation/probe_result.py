"""What a probe found."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nndl_suite.errors import RunError
from nndl_suite.training.files import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The score of a backbone on a labelled set."""

    path: Path
    """The run folder."""
    features: str
    dataset: str
    protocol: str
    """"linear" and "knn" leave the backbone frozen, "finetune" does not."""
    test_accuracy: float
    """A share in [0, 1]; 1 / classes is chance."""
    test_accuracy_ci95: tuple[float, float]
    """Wilson's interval: what another test set of this size would do to the same classifier."""
    val_accuracy: float
    """On the images held out to choose; of "linear" and "knn" optimistic, for the choice was made there."""
    chosen: dict[str, float]
    """What the held-out images selected: l2; or k and temperature. Of "finetune" what was stated, for nothing is."""
    feature_dim: int
    resolution: int
    """Pixels that the backbone saw."""
    seconds: float
    seconds_features: float = 0.0
    """Of them, to get the features, of training and test images; 0 for "finetune"."""
    features_cached: bool = False
    """Whether all features were kept from before."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides."""

    @classmethod
    def from_result(cls, path: Path, result: dict[str, Json]) -> "ProbeResult":
        """The score that a `result.json` describes.

        Raises:
            RunError: it describes none.
        """
        try:
            low, high = np.asarray(result["test_accuracy_ci95"], dtype=np.float64).tolist()
            chosen, notes = result["chosen"], result.get("notes", [])
            if not isinstance(chosen, dict) or not isinstance(notes, list):
                raise TypeError("chosen must be an object and notes a list")  # noqa: TRY301
            return cls(
                path=path,
                features=str(result["features"]),
                dataset=str(result["dataset"]),
                protocol=str(result["protocol"]),
                test_accuracy=float(str(result["test_accuracy"])),
                test_accuracy_ci95=(low, high),
                val_accuracy=float(str(result["val_accuracy"])),
                chosen={name: float(str(value)) for name, value in chosen.items()},
                feature_dim=int(str(result["feature_dim"])),
                resolution=int(str(result["resolution"])),
                seconds=float(str(result["seconds"])),
                seconds_features=float(str(result.get("seconds_features", 0.0))),
                features_cached=bool(result.get("features_cached", False)),
                notes=tuple(map(str, notes)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path / 'result.json'} is not a probe's result ({error!r})") from error
