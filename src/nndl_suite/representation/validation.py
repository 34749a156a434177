"""How good are features on validation images alone? For choosing among pretrainings before any test image is seen."""

import time
from dataclasses import dataclass
from pathlib import Path

from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import RunError
from nndl_suite.representation.feature_cache import FeatureReader, cache_folder
from nndl_suite.representation.features import load_feature_source
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.training.fabric import Device, make_fabric
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A linear probe's score on the images that chose its penalty."""

    val_accuracy: float
    seconds: float


def validate(
    pretrained: PretrainRun, train: ImageSet, *, out: Path, seed: int, device: Device = "auto", watch: Watcher = ignore
) -> Validated:
    """Fit the linear probe to a run's features of the training images; a finished score in `out` is returned.

    Args:
        pretrained: Whose features.
        train: Labelled training images; a stratified tenth of them, drawn by the seed, scores.
        out: The run folder, of kind "validation".
        seed: As of `probe.LinearProbe`, so that its `evaluate` finds the same validation accuracy.
        device: "auto" takes a CUDA device where there is one.
        watch: Told of progress.

    Raises:
        DataError: the set has no labels, or the features cannot be probed.
        RunError: `out` holds another run.
    """
    start = time.monotonic()
    settings = {"features": str(pretrained.path), "fingerprint": train.fingerprint, "seed": seed, "device": device}
    run = open_run(out, kind="validation", settings=settings, resume=True)
    if run.result() is None:
        labels = train.required_labels()
        source = load_feature_source(pretrained, train)
        probe = LinearProbe(seed=seed, device=device)
        features = FeatureReader(source, make_fabric(device, probe.precision), cache_folder(probe.cache), watch)(train)
        fitted = probe.fit(features, labels).fitted_
        assert fitted is not None
        run.finish(
            "validation",
            seconds=time.monotonic() - start,
            seed=seed,
            fields={"val_accuracy": fitted.val_accuracy, "features": str(pretrained.path), "dataset": train.name},
        )
    return _read(run)


def _read(run: RunFolder) -> Validated:
    result = run.result() or {}
    try:
        return Validated(val_accuracy=float(str(result["val_accuracy"])), seconds=float(str(result["seconds"])))
    except (KeyError, ValueError) as error:
        raise RunError(f"{run.path / 'result.json'} is damaged ({error}); delete {run.path} to go on") from error
