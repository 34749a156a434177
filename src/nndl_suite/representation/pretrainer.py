"""Learning a backbone from images without their labels."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from lightning_fabric import Fabric
from torch import nn

from nndl_suite.data.batches import Batches, check_batch_size
from nndl_suite.data.catalog import load_image_set, load_pretraining_set
from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import RunError
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import Normalisation, measure_normalisation
from nndl_suite.models.weights import save_backbone
from nndl_suite.representation.embedding_map import evenly_spread, write_map_of_features
from nndl_suite.representation.features import FeatureSource, extract_features
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.methods.method import SSLMethod
from nndl_suite.representation.neighbours import Described, write_neighbours
from nndl_suite.representation.online_probe import OnlineProbe
from nndl_suite.representation.pretrain_config import SPEED_ONLY, PretrainConfig
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.pretraining import Pretraining
from nndl_suite.representation.quality_watch import QualityWatch, epochs_between_looks, quality_sample
from nndl_suite.training.checkpoints import State
from nndl_suite.training.environment import Spread
from nndl_suite.training.fabric import join_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.locks import only_writer
from nndl_suite.training.loop import LoopResult, LoopSettings, Metrics, run_loop
from nndl_suite.training.processes import from_first, one_falls_all_fall, own_part
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.seeds import isolated_rng
from nndl_suite.training.watch import Watcher, ignore

_BACKBONE_FILE = "backbone.safetensors"
_GOOD_FILE = "last-good.safetensors"
"""The backbone at the last look that found nothing wrong; only a run that did not end well leaves it."""


class SSLPretrainer(PretrainConfig):
    """Self-supervised pretraining: `SSLPretrainer(method="simclr", epochs=100).fit("cifar10", out="runs/simclr")`.

    Its settings are those of `PretrainConfig`. On one machine's CPU the seed alone decides every bit of the result,
    also across a kill and `resume`; on CUDA to tolerance.
    """

    __slots__ = ()

    def fit(
        self,
        dataset: str | ImageSet,
        *,
        out: Path | str,
        resume: bool = False,
        data_root: Path | str | None = None,
        watch: Watcher = ignore,
    ) -> PretrainRun:
        """Pretrain on a set's unlabelled images, or else its training images.

        Labels have no say in what is learned, but for the method "supervised". Where there are some, they tell in the
        metrics log how well neighbours among the features agree.

        Args:
            dataset: A data name (see `data.catalog.load_image_set`), or the images themselves.
            out: The run folder. It gets the backbone in `backbone.safetensors`.
            resume: Go on with the run in `out`, with as many processes as one likes; a finished one is returned as it
                is.
            data_root: Where named sets lie.
            watch: Told of progress.

        Raises:
            ConfigError: a setting does not fit the images.
            DataError: the images are missing or unusable, or have no labels where the method needs them.
            RunError: `out` holds another run.
            NndlError: the loss is not finite; the message names the step.
            Interrupted: somebody stopped the run; `resume` goes on from its checkpoint.
        """
        images = dataset
        if isinstance(images, str) and METHODS[self.method].labels:
            images = load_image_set(images, "train", data_root=data_root, watch=watch)
        elif isinstance(images, str):
            images = load_pretraining_set(images, data_root=data_root, watch=watch)
        if METHODS[self.method].labels or self.online_probe == "yes":
            images.required_labels()
        fabric = join_fabric(
            self.device,
            self.precision,
            Spread(self.devices, self.nodes),
            find_unused_parameters=METHODS[self.method].rests,
        )
        check_batch_size(self.batch_size, images.name, len(images))
        run = open_run(out, kind="pretrain", settings=self._settings(images), resume=resume)
        if (result := from_first(run.result)) is not None:
            return PretrainRun.from_result(run.path, result)
        with only_writer(run.path), one_falls_all_fall():
            return _pretrain(self, images, run, fabric, watch)

    def _settings(self, images: ImageSet) -> dict[str, Json]:
        settings: dict[str, Json] = {**asdict(self), "recipe": asdict(self.recipe)}
        settings |= {"dataset": images.name, "fingerprint": images.fingerprint}
        for name in SPEED_ONLY:
            del settings[name]
        return settings


def _pretrain(config: PretrainConfig, images: ImageSet, run: RunFolder, fabric: Fabric, watch: Watcher) -> PretrainRun:
    normalisation = measure_normalisation(images)
    batches = Batches(
        images,
        batch_size=config.batch_size,
        seed=config.seed,
        device=fabric.device,
        workers=config.workers,
        part=own_part(config.batch_size),
    )
    described = METHODS[config.method]
    with isolated_rng(config.seed):
        backbone = build_backbone(config.backbone, stem=config.stem, image_size=images.image_size)
        method = described.build(backbone, config.recipe, images.num_classes if described.labels else 0)
    online = None
    if config.online_probe == "yes":
        online = OnlineProbe(feature_dim=backbone.feature_dim, num_classes=images.num_classes, device=fabric.device)
    learning = Pretraining(config, method, batches, normalisation, fabric, online)
    quality = _quality_watch(config, method, images, normalisation, fabric, run)
    total = config.steps or config.epochs * len(batches)
    loop = LoopSettings(stage="pretraining", total_steps=total, steps_per_epoch=len(batches))
    done = run_loop(_Watched(learning, quality), loop, run, watch=watch, end_of_epoch=_after_epoch(config, quality))

    def finish() -> dict[str, Json]:
        save_backbone(run.path / _BACKBONE_FILE, backbone, image_size=images.image_size, normalisation=normalisation)
        last = (total - 1) // len(batches)
        if last not in quality.looks:
            quality.look(last)
        (run.path / _GOOD_FILE).unlink(missing_ok=True)
        if not math.isnan(quality.looks[last].spread):
            _show(quality, config.method, run.path)
        fields = _result_fields(config, images, run, fabric, done, epochs=total / len(batches))
        looked: dict[str, Json] = {
            "effective_rank": round(quality.looks[last].effective_rank, 2),
            "quality": dict[str, Json](quality.looks[last].figures()),
            "warning": quality.warning,
        }
        described = {"backbone": backbone.name, "stem": backbone.stem}
        return run.finish("pretrain", seconds=done.seconds, seed=config.seed, fields=fields | looked | described)

    return PretrainRun.from_result(run.path, from_first(finish))


def _result_fields(
    config: PretrainConfig, images: ImageSet, run: RunFolder, fabric: Fabric, done: LoopResult, *, epochs: float
) -> dict[str, Json]:
    return {
        "method": config.method,
        "epochs": config.epochs if config.steps is None else round(epochs, 2),
        "steps": done.steps,
        "images_per_second": round(done.steps * config.batch_size / done.seconds, 1),
        "final_loss": _final_loss(run),
        "checkpoint": _BACKBONE_FILE,
        "dataset": images.name,
        "images": len(images),
        "class_names": list(images.class_names) if images.labels is not None else [],
        "precision": str(fabric.strategy.precision.precision),
        "device": fabric.device.type,
    }


def _final_loss(run: RunFolder) -> float:
    loss = run.newest("loss")
    if loss is None:
        raise RunError(f"{run.metrics_file} has no loss in it any more; put it back, then go on with --resume")
    return loss


def _quality_watch(  # noqa: PLR0913 - what it looks at, and how
    config: PretrainConfig,
    method: SSLMethod,
    images: ImageSet,
    normalisation: Normalisation,
    fabric: Fabric,
    run: RunFolder,
) -> QualityWatch:
    sample = quality_sample(images, seed=config.seed)
    projector = getattr(method, "projector", None)
    return QualityWatch(
        source=FeatureSource(
            name="the backbone that learns",
            backbone=method.backbone,
            normalisation=normalisation,
            resolution=images.image_size,
        ),
        projector=projector if isinstance(projector, nn.Module) else None,
        sample=sample,
        recipes=config.recipe.views,
        fabric=fabric,
        seed=config.seed,
        every=epochs_between_looks(sample, images_per_epoch=len(images)),
        keep=run.path / _GOOD_FILE,
    )


def _after_epoch(config: PretrainConfig, quality: QualityWatch) -> Callable[[int], Mapping[str, float]]:
    def look(epoch: int) -> Mapping[str, float]:
        figures = quality.end_of_epoch(epoch)
        if config.stop_on_collapse:
            quality.stop_on_collapse()
        return figures

    return lambda epoch: from_first(lambda: look(epoch))


def _show(quality: QualityWatch, method: str, folder: Path) -> None:
    """Leave a map of the watched training images and the neighbours of some, for people."""
    features = extract_features(quality.source, quality.sample, quality.fabric)
    described = Described(images=quality.sample, features=features)
    places = evenly_spread(len(features))
    shown = quality.sample.subset(places)
    write_map_of_features(folder, {method: features[places]}, shown, of="training images")
    write_neighbours(folder, described, described)


class _Watched:
    """A training whose looks are part of its state, so that a resumed run knows how good the features once were."""

    def __init__(self, learning: Pretraining, quality: QualityWatch) -> None:
        self._learning, self._quality = learning, quality

    def step(self, index: int, fraction: float) -> Metrics:
        return self._learning.step(index, fraction)

    def state(self) -> dict[str, State]:
        return {**self._learning.state(), "quality": self._quality.state()}

    def load_state(self, state: Mapping[str, State]) -> None:
        self._learning.load_state(state)
        self._quality.load_state(cast(Mapping[str, State], state["quality"]))
