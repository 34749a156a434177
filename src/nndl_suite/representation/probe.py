"""How good are frozen features? A linear classifier on top of them, chosen on validation, tested once."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.stats import binomtest  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import ConfigError, DataError, unknown_name
from nndl_suite.models.backbones import Stem
from nndl_suite.representation.features import extract_features, load_feature_source
from nndl_suite.representation.logistic import LinearClassifier, fit_path
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.training.fabric import Device, Precision, make_fabric, resolve_device
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Step, Watcher, ignore

PENALTIES = tuple(10.0 ** (-half / 2) for half in range(2, 13))
"""L2 penalties tried, from strong (0.1) to weak (1e-6), in half decades."""

_PATIENCE = 2
_HELD_OUT = 0.1
"""Share of the training images that choose the penalty: 5,000 of CIFAR's 50,000."""

Features = Tensor | np.ndarray
"""[n, d], floating point."""
Labels = Tensor | np.ndarray
"""[n], whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The score of a backbone's features on a labelled set."""

    path: Path
    """The run folder."""
    features: str
    dataset: str
    protocol: str
    test_accuracy: float
    """A share in [0, 1]; 1 / classes is chance."""
    test_accuracy_ci95: tuple[float, float]
    """Wilson's interval: what another test set of this size would do to the same classifier."""
    val_accuracy: float
    """Of the chosen classifier, on the images held out to choose it; optimistic, for it was chosen there."""
    chosen: dict[str, float]
    """What the validation images selected: the L2 penalty."""
    feature_dim: int
    resolution: int
    """Pixels that the backbone saw."""
    seconds: float

    @classmethod
    def from_result(cls, path: Path, result: dict[str, Json]) -> "ProbeResult":
        """The score that a `result.json` describes."""
        low, high = np.asarray(result["test_accuracy_ci95"], dtype=np.float64).tolist()
        chosen = result["chosen"]
        assert isinstance(chosen, dict)
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
        )


@dataclass(slots=True, kw_only=True)
class LinearProbe:
    """The linear protocol, as an experiment (`evaluate`) or as an estimator on arrays of features (`fit`, `score`).

    Features are standardised by the training statistics. Multinomial logistic regression is solved by L-BFGS along a
    path of L2 penalties (arXiv 1805.08974); a stratified tenth of the training rows chooses among them, the chosen one
    is solved again on all training rows, and the test rows are looked at once.
    """

    features: str | Path | PretrainRun | None = None
    """A pretraining run, a state-dict file, "imagenet" or "random"; an estimator needs none."""
    protocol: str = "linear"
    backbone: str = "resnet18"
    """Which network the weights are of; pretraining runs know it themselves."""
    stem: Stem = "auto"
    resolution: int | None = None
    """Pixels the images are resized to; None: see `features.load_feature_source`."""
    seed: int = 0
    """Decides the validation split, and the weights of "random"."""
    device: Device = "auto"
    precision: Precision = "32-true"
    """Of the backbone. bf16 is faster where the machine has it, and moves scores a little."""
    fitted_: "FittedProbe | None" = field(default=None, init=False, repr=False)
    """What `fit` found."""

    def __post_init__(self) -> None:
        if self.protocol != "linear":
            raise unknown_name("protocol", self.protocol, ("linear",))
        if self.seed < 0:
            raise ConfigError(f"seed must be >= 0, got {self.seed}")
        resolve_device(self.device)

    def evaluate(
        self,
        dataset: str,
        *,
        out: Path | str,
        resume: bool = False,
        data_root: Path | str | None = None,
        watch: Watcher = ignore,
    ) -> ProbeResult:
        """Score the features on a labelled set; its test split is read once, at the end.

        Args:
            dataset: A data name (see `data.catalog.load_image_set`) with labels.
            out: The run folder.
            resume: Return the score that is already in `out`, or start again what was not finished.
            data_root: Where named sets lie.
            watch: Told of progress.

        Raises:
            ConfigError: no features are named, or a setting does not fit.
            DataError: the images or the weights are missing or do not fit.
            RunError: `out` holds another run, or the features' run is unfinished.
        """
        if self.features is None:
            raise ConfigError("name the features to evaluate: a pretraining run, a file, 'imagenet' or 'random'")
        start = time.monotonic()
        train = load_image_set(dataset, "train", data_root=data_root, watch=watch)
        run = open_run(out, kind="probe", settings=self._settings(train), resume=resume)
        if (result := run.result()) is None:
            result = self._evaluate(dataset, train, run, start, data_root, watch)
        return ProbeResult.from_result(run.path, result)

    def _evaluate(
        self, dataset: str, train: ImageSet, run: RunFolder, start: float, data_root: Path | str | None, watch: Watcher
    ) -> dict[str, Json]:
        assert self.features is not None
        source = load_feature_source(
            self.features,
            train,
            backbone=self.backbone,
            stem=self.stem,
            resolution=self.resolution,
            seed=self.seed,
        )
        fabric = make_fabric(self.device, self.precision)
        found = extract_features(source, train, fabric, watch=watch).to(fabric.device)
        extracted = time.monotonic() - start
        fitted = fit_probe(found, train.required_labels().to(fabric.device), seed=self.seed, watch=watch)
        test = load_image_set(dataset, "test", data_root=data_root, watch=watch)
        unseen = extract_features(source, test, fabric, watch=watch).to(fabric.device)
        predicted = fitted.predict(unseen).cpu()
        correct, total = int((predicted == test.required_labels()).sum()), len(test)
        interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
        return run.finish(
            "probe",
            seconds=time.monotonic() - start,
            seed=self.seed,
            fields={
                "protocol": self.protocol,
                "features": source.name,
                "dataset": train.name,
                "test_accuracy": correct / total,
                "test_accuracy_ci95": [float(interval.low), float(interval.high)],
                "val_accuracy": fitted.val_accuracy,
                "chosen": {"l2": fitted.penalty},
                "feature_dim": source.backbone.feature_dim,
                "resolution": source.resolution,
                "backbone": source.backbone.name,
                "stem": source.backbone.stem,
                "train_images": len(train),
                "test_images": total,
                "extraction_seconds": round(extracted, 3),
                "precision": str(fabric.strategy.precision.precision),
                "device": fabric.device.type,
            },
        )

    def _settings(self, train: ImageSet) -> dict[str, Json]:
        features = self.features.path if isinstance(self.features, PretrainRun) else self.features
        return {
            "features": str(features),
            "protocol": self.protocol,
            "backbone": self.backbone,
            "stem": self.stem,
            "resolution": self.resolution,
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "dataset": train.name,
            "fingerprint": train.fingerprint,
        }

    def fit(self, x: Features, y: Labels) -> Self:
        """Fit on features [n, d] and labels [n], NumPy or torch, and return self.

        Raises:
            DataError: the shapes do not match, a feature is not finite, or there are under two classes or ten rows.
        """
        device = resolve_device(self.device)
        features, labels = _as_features(x).to(device), torch.as_tensor(y).to(device)
        if labels.shape != features.shape[:1] or labels.is_floating_point():
            raise DataError(
                f"labels must be whole numbers of shape [{len(features)}], got {labels.dtype} {list(labels.shape)}"
            )
        self.fitted_ = fit_probe(features, labels, seed=self.seed)
        return self

    def predict(self, x: Features) -> Int64[np.ndarray, "n"]:
        """The likeliest label of each row of features [n, d].

        Raises:
            DataError: the features are not [n, d], with d that of `fit`.
        """
        if self.fitted_ is None:
            raise ConfigError("the probe is not fitted; call fit(x, y) first")
        features, dim = _as_features(x).to(self.fitted_.classes.device), len(self.fitted_.classifier.mean)
        if features.shape[1] != dim:
            raise DataError(f"features must have {dim} columns, as in fit, got {features.shape[1]}")
        return self.fitted_.predict(features).cpu().numpy()

    def score(self, x: Features, y: Labels) -> float:
        """The share of rows that `predict` gets right."""
        return float((self.predict(x) == torch.as_tensor(y).cpu().numpy()).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedProbe:
    """The classifier that validation chose, solved again on all rows."""

    classifier: LinearClassifier
    classes: Int64[Tensor, "k"]
    """The labels, ascending."""
    penalty: float
    val_accuracy: float

    def predict(self, features: Float[Tensor, "n d"]) -> Int64[Tensor, "n"]:
        """The likeliest label of each row."""
        return self.classes[self.classifier.logits(features).argmax(dim=1)]


def fit_probe(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"], *, seed: int, watch: Watcher = ignore
) -> FittedProbe:
    """Choose the penalty on a stratified tenth of the rows, then solve with it on all of them.

    The path goes from strong to weak penalties and ends once two in a row bring nothing better on the held-out rows.
    """
    classes, y = torch.unique(labels, return_inverse=True)
    if len(classes) < 2 or len(y) < 10:
        raise DataError(f"a probe needs >= 2 classes and >= 10 rows, got {len(classes)} and {len(y)}")
    kept, held_out = (
        part.to(y.device) for part in stratified_split(y.cpu(), held_out=round(_HELD_OUT * len(y)), seed=seed)
    )
    scores: list[float] = []
    for classifier in fit_path(features[kept], y[kept], num_classes=len(classes), penalties=PENALTIES):
        scores.append(classifier.accuracy(features[held_out], y[held_out]))
        watch(Step(stage="choosing the penalty", done=len(scores), total=len(PENALTIES), metrics={"val": max(scores)}))
        if len(scores) - 1 - scores.index(max(scores)) >= _PATIENCE:
            break
    best = scores.index(max(scores))  # the strongest of equals
    *_, chosen = fit_path(features, y, num_classes=len(classes), penalties=PENALTIES[: best + 1])
    return FittedProbe(classifier=chosen, classes=classes, penalty=PENALTIES[best], val_accuracy=scores[best])


def _as_features(x: Features) -> Float[Tensor, "n d"]:
    features = torch.as_tensor(x)
    if features.ndim != 2 or not features.is_floating_point():
        raise DataError(f"features must be floating point of shape [n, d], got {features.dtype} {list(features.shape)}")
    if not bool(features.isfinite().all()):
        raise DataError("features must be finite, got NaN or infinity; look at the backbone or its input")
    return features
