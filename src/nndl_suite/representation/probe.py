"""How good is a backbone? A simple classifier on its frozen features, or everything fine-tuned; tested once."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor

from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.classes import check_classes
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.mirror import mirrored
from nndl_suite.errors import ConfigError, DataError, unknown_name
from nndl_suite.models.backbones import Stem
from nndl_suite.representation.arrays import Features, Labels, as_features, as_labels
from nndl_suite.representation.choice import Fitted
from nndl_suite.representation.embedding_map import evenly_spread, write_map_of_features
from nndl_suite.representation.feature_cache import FeatureReader, cache_folder
from nndl_suite.representation.features import FeatureSource, load_feature_source
from nndl_suite.representation.finetune import FinetuneSettings, check_images, finetune
from nndl_suite.representation.knn import fit_knn
from nndl_suite.representation.linear import fit_linear
from nndl_suite.representation.neighbours import Described, write_neighbours
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.probe_result import ProbeResult
from nndl_suite.training.fabric import Device, Precision, make_fabric, resolve_device
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import wilson_interval
from nndl_suite.training.locks import only_writer
from nndl_suite.training.predictions import Predictions, write_predictions
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore

PROTOCOLS = ("linear", "knn", "finetune")
FlipFeatures = Literal["no", "yes"]

_FIT = {"linear": fit_linear, "knn": fit_knn}
"""By protocol: those on frozen features."""


@dataclass(slots=True, kw_only=True)
class LinearProbe:
    """A protocol, as an experiment (`evaluate`) or as an estimator on arrays of features (`fit`, `predict`, `score`).

    `linear`: features are standardised by the training statistics, and multinomial logistic regression is solved along
    a path of L2 penalties (arXiv 1805.08974). `knn`: the nearest training images by cosine similarity vote (arXiv
    1805.01978). Of both, a stratified tenth of the training rows chooses (the penalty; the number of neighbours and the
    temperature), the chosen one is fitted again on all training rows, and the test rows are looked at once.
    `finetune`: a head of two layers is put on the backbone and both are trained on the other nine tenths; nothing is
    chosen, the last epoch counts, and it needs images (see `finetune`).
    """

    features: str | Path | PretrainRun | None = None
    """A pretraining run, a state-dict file, "imagenet" or "random"; an estimator needs none."""
    protocol: str = "linear"
    """One of `PROTOCOLS`, see above."""
    backbone: str = "resnet18"
    """Which network the weights are of; pretraining runs know it themselves."""
    stem: Stem = "auto"
    resolution: int | None = None
    """Pixels the images are resized to; None: see `features.load_feature_source`."""
    flip_features: FlipFeatures = "no"
    """"yes" adds the mirror images of the training images to the fit on frozen features. "finetune" flips anyway."""
    epochs: int | None = None
    """This and the next two are of "finetune" alone; None: see `finetune.FinetuneSettings`."""
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    """Decides the validation split, the weights of "random", and what is random in fine-tuning."""
    device: Device = "auto"
    precision: Precision = "32-true"
    """Of the backbone. bf16 is faster where the machine has it, and moves scores a little."""
    cache: Path | str = "auto"
    """Where features are kept for the next probe: "auto", the user's cache; "off", nowhere; or a folder."""
    fitted_: Fitted | None = field(default=None, init=False, repr=False)
    """What `fit` found."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        if self.flip_features not in get_args(FlipFeatures):
            raise unknown_name("flip_features", self.flip_features, get_args(FlipFeatures))
        if self.seed < 0:
            raise ConfigError(f"seed must be >= 0, got {self.seed}")
        if self.protocol == "finetune":
            if self.flip_features == "yes":
                raise ConfigError("flip_features is of frozen features; finetune mirrors its images anyway, leave it")
            self._finetune_settings()
        elif given := [name for name in ("epochs", "batch_size", "learning_rate") if getattr(self, name) is not None]:
            raise ConfigError(f"{given[0]} is of the protocol 'finetune'; {self.protocol} solves and has none")
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
        """Score the backbone on a labelled set; its test split is read once, at the end.

        Args:
            dataset: A data name (see `data.catalog.load_image_set`) with labels.
            out: The run folder. Beside the score it gets the prediction for each test image, `predictions.npz`.
            resume: Return the score that is already in `out`, or go on with what was not finished.
            data_root: Where named sets lie.
            watch: Told of progress.

        Raises:
            ConfigError: no features are named, or a setting does not fit.
            DataError: the images or the weights are missing or do not fit, or there are test classes without training
                images.
            RunError: `out` holds another run, or the features' run is unfinished.
            Interrupted: somebody stopped the fine-tuning; `resume` goes on from its checkpoint.
        """
        if self.features is None:
            raise ConfigError("name the features to evaluate: a pretraining run, a file, 'imagenet' or 'random'")
        start = time.monotonic()
        train = load_image_set(dataset, "train", data_root=data_root, watch=watch)
        train.required_labels()
        # before there is a folder: weights that are missing leave nothing behind that a second try would stumble over
        source = load_feature_source(
            self.features,
            train,
            backbone=self.backbone,
            stem=self.stem,
            resolution=self.resolution,
            seed=self.seed,
        )
        if self.protocol == "finetune":
            check_images(train, self._finetune_settings())
        run = open_run(out, kind="probe", settings=self._settings(train), resume=resume)
        if (result := run.result()) is not None:
            return ProbeResult.from_result(run.path, result)
        with only_writer(run.path):
            return self._score(dataset, source, train, run, start, data_root, watch)

    def _score(  # noqa: PLR0913 - all that is known by then
        self,
        dataset: str,
        source: FeatureSource,
        train: ImageSet,
        run: RunFolder,
        start: float,
        data_root: Path | str | None,
        watch: Watcher,
    ) -> ProbeResult:
        """Fit, and read the test split once."""
        fabric = make_fabric(self.device, self.precision)
        reader = FeatureReader(source, fabric, cache_folder(self.cache), watch)
        if self.protocol == "finetune":
            ready = self._finetuned(source, train, run, fabric, watch)
        else:
            ready = self._frozen(reader, train, watch)
        test = load_image_set(dataset, "test", data_root=data_root, watch=watch)
        check_classes(train, test)
        (predicted, features), truth = ready.answer(test), test.required_labels()
        write_predictions(run.path, Predictions(predicted=predicted.numpy(), labels=truth.numpy()))
        if features is not None and ready.bank is not None:
            _show(run.path, source.name, Described(images=test, features=features), ready.bank)
        accuracy = (predicted == truth).double().mean().item()
        result = run.finish(
            "probe",
            seconds=time.monotonic() - start + ready.seconds_before,
            seed=self.seed,
            fields={
                "protocol": self.protocol,
                "features": source.name,
                "dataset": train.name,
                "test_accuracy": accuracy,
                "test_accuracy_ci95": list[Json](wilson_interval(accuracy, len(test))),
                "val_accuracy": ready.val_accuracy,
                "chosen": dict[str, Json](ready.chosen),
                "feature_dim": source.backbone.feature_dim,
                "resolution": source.resolution,
                "backbone": source.backbone.name,
                "stem": source.backbone.stem,
                "train_images": len(train),
                "test_images": len(test),
                "class_names": list(test.class_names),
                "seconds_features": round(reader.seconds, 3),
                "features_cached": reader.cached,
                "notes": list[Json](reader.notes),
                "precision": str(fabric.strategy.precision.precision),
                "device": fabric.device.type,
            },
        )
        return ProbeResult.from_result(run.path, result)

    def _frozen(self, reader: "FeatureReader", train: ImageSet, watch: Watcher) -> "_Ready":
        found = reader(train)
        fitted = _FIT[self.protocol](
            found,
            train.required_labels().to(found.device),
            mirrored=reader(mirrored(train)) if self.flip_features == "yes" else None,
            seed=self.seed,
            watch=watch,
        )

        def answer(images: ImageSet) -> tuple[Int64[Tensor, "n"], Float[Tensor, "n d"]]:
            features = reader(images)
            return fitted.predict(features).cpu(), features

        return _Ready(
            answer=answer,
            chosen=fitted.chosen,
            val_accuracy=fitted.val_accuracy,
            bank=Described(images=train, features=found),
        )

    def _finetuned(
        self, source: FeatureSource, train: ImageSet, run: RunFolder, fabric: Fabric, watch: Watcher
    ) -> "_Ready":
        settings = self._finetune_settings()
        tuned = finetune(source, train, settings, run, seed=self.seed, fabric=fabric, watch=watch)
        return _Ready(
            answer=lambda images: (tuned.training.predict(images), None),
            chosen=settings.stated,
            val_accuracy=tuned.val_accuracy,
            seconds_before=tuned.seconds_before,
        )

    def _finetune_settings(self) -> FinetuneSettings:
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        return replace(FinetuneSettings(), **{name: value for name, value in given.items() if value is not None})

    def _settings(self, train: ImageSet) -> dict[str, Json]:
        features = self.features.path if isinstance(self.features, PretrainRun) else self.features
        settings: dict[str, Json] = {
            "features": str(features),
            "protocol": self.protocol,
            "backbone": self.backbone,
            "stem": self.stem,
            "resolution": self.resolution,
            "flip_features": self.flip_features,
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "dataset": train.name,
            "fingerprint": train.fingerprint,
        }
        return settings | (asdict(self._finetune_settings()) if self.protocol == "finetune" else {})

    def fit(self, x: Features, y: Labels) -> Self:
        """Fit on features [n, d] and labels [n], NumPy or torch, and return self.

        Raises:
            ConfigError: the protocol is "finetune", which needs images.
            DataError: the shapes do not match, a feature is not finite, labels are not whole numbers, or there are
                under two classes or ten rows.
        """
        if self.protocol == "finetune":
            raise ConfigError("finetune trains the backbone and needs images; use evaluate, or protocol linear or knn")
        device = resolve_device(self.device)
        features = as_features(x).to(device)
        labels = as_labels(y, len(features)).to(device)
        self.fitted_ = _FIT[self.protocol](features, labels, seed=self.seed)
        return self

    def predict(self, x: Features) -> Int64[np.ndarray, "n"]:
        """The likeliest label of each row of features [n, d].

        Raises:
            ConfigError: nothing was fitted.
            DataError: the features are not [n, d], with d that of `fit`.
        """
        if self.fitted_ is None:
            raise ConfigError("the probe is not fitted; call fit(x, y) first")
        features = as_features(x)
        if features.shape[1] != self.fitted_.feature_dim:
            raise DataError(
                f"features must have {self.fitted_.feature_dim} columns, as in fit, got {features.shape[1]}"
            )
        return self.fitted_.predict(features.to(self.fitted_.device, self.fitted_.dtype)).cpu().numpy()

    def score(self, x: Features, y: Labels) -> float:
        """The share of rows that `predict` gets right.

        Raises:
            DataError: as `predict`, or the labels are not whole numbers, one a row.
        """
        predicted = self.predict(x)
        return float((predicted == as_labels(y, len(predicted)).cpu().numpy()).mean())

    def get_params(self, deep: bool = True) -> dict[str, object]:  # noqa: FBT001, FBT002 - scikit-learn's signature
        """The settings by name, as scikit-learn asks for them: its `clone` and searches over settings work."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self) if setting.init}

    def set_params(self, **settings: object) -> Self:
        """Change settings by name, and return self; what was fitted before stays until the next `fit`.

        Raises:
            ConfigError: there is no such setting, or it may not have that value; nothing is changed then.
        """
        known = self.get_params()
        for name in settings:
            if name not in known:
                raise unknown_name("setting of a probe", name, known)
        type(self)(**{**known, **settings})  # pyright: ignore[reportArgumentType] - refuses what is wrong
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> object:
        """What scikit-learn wants to know before it cuts folds by class; only scikit-learn calls this."""
        from sklearn.utils import (  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
            ClassifierTags,
            Tags,
            TargetTags,
        )

        target = TargetTags(required=True)
        return Tags(estimator_type="classifier", target_tags=target, classifier_tags=ClassifierTags())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A classifier of images before its one look at the test split."""

    answer: Callable[[ImageSet], tuple[Int64[Tensor, "n"], Float[Tensor, "n d"] | None]]
    """The likeliest label of each image, on the CPU; and the features that told, unless they were fine-tuned."""
    chosen: dict[str, float]
    val_accuracy: float
    seconds_before: float = 0.0
    bank: Described | None = None
    """What it was fitted on; None where that was images, not features."""


def _show(folder: Path, name: str, test: Described, bank: Described) -> None:
    """Leave a map of test images and the neighbours of some for people; no score comes from either."""
    places = evenly_spread(len(test.images))
    some = test.features[places].cpu()
    write_map_of_features(folder, {Path(name).name: some}, test.images.subset(places), of="test images")
    write_neighbours(folder, test, bank)
