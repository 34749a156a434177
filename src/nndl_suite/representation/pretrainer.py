"""Learning a backbone from images without their labels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nndl_suite.data.batches import Batches
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.backbones import Backbone, Stem, build_backbone
from nndl_suite.models.normalisation import Normalisation, measure_normalisation
from nndl_suite.models.weights import save_backbone
from nndl_suite.representation.features import FeatureSource, extract_features
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.rank import effective_rank
from nndl_suite.representation.views import ViewRecipe, random_views
from nndl_suite.training.checkpoints import State
from nndl_suite.training.fabric import Device, Precision, make_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.schedules import warmup_cosine
from nndl_suite.training.seeds import generator_for, isolated_rng
from nndl_suite.training.watch import Watcher, ignore

_RANK_IMAGES = 2048
_BACKBONE_FILE = "backbone.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How to pretrain; the defaults are SimCLR's for CIFAR, but for the optimiser (SGD, which needs no LARS at 512)."""

    method: str = "simclr"
    backbone: str = "resnet18"
    """See `models.backbones.build_backbone`."""
    stem: Stem = "auto"
    epochs: int = 100
    batch_size: int = 512
    """Images, not views: a step embeds 2 * batch_size crops."""
    learning_rate: float = 0.25
    """Of SGD with Nesterov momentum, for a batch of 256 images; what runs is `peak_rate`."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Of matrices and kernels; biases and norms are not decayed."""
    warmup: float = 0.1
    """Share of the run in which the rate rises from 0; then it falls to 0 on half a cosine."""
    temperature: float = 0.5
    """tau; the paper's for CIFAR."""
    views: ViewRecipe = field(default_factory=ViewRecipe)
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    workers: int = 2
    """Processes that decode images kept on disk."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("method", self.method, METHODS)
        if self.epochs < 1:
            raise ConfigError(f"epochs must be >= 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size must be >= 2, got {self.batch_size}; a lone image has no negatives")
        for name, value in (("learning_rate", self.learning_rate), ("temperature", self.temperature)):
            if not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be a number > 0, got {value}")
        for name, value in (("momentum", self.momentum), ("warmup", self.warmup)):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {value}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ConfigError(f"weight_decay must be a number >= 0, got {self.weight_decay}")

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up, in proportion to the batch (arXiv 1706.02677)."""
        return self.learning_rate * self.batch_size / 256


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
        """Pretrain on a set's unlabelled images, or else its training images; labels are not looked at.

        Args:
            dataset: A data name (see `data.catalog.load_image_set`), or the images themselves.
            out: The run folder. It gets the backbone in `backbone.safetensors`.
            resume: Go on with the run in `out`; a finished one is returned as it is.
            data_root: Where named sets lie.
            watch: Told of progress.

        Raises:
            ConfigError: a setting does not fit the images.
            DataError: the images are missing or unusable.
            RunError: `out` holds another run.
            NndlError: the loss is not finite; the message names the step.
            Interrupted: somebody stopped the run; `resume` goes on from its checkpoint.
        """
        images = dataset
        if isinstance(images, str):
            images = load_image_set(images, "unlabelled", data_root=data_root, watch=watch)
        run = open_run(out, kind="pretrain", settings=self._settings(images), resume=resume)
        if (result := run.result()) is not None:
            return PretrainRun.from_result(run.path, result)
        return _pretrain(self, images, run, watch)

    def _settings(self, images: ImageSet) -> dict[str, Json]:
        settings = asdict(self) | {"dataset": images.name, "fingerprint": images.fingerprint}
        del settings["workers"]  # decides the speed only
        return settings


def _pretrain(config: PretrainConfig, images: ImageSet, run: RunFolder, watch: Watcher) -> PretrainRun:
    fabric = make_fabric(config.device, config.precision)
    normalisation = measure_normalisation(images)
    batches = Batches(
        images, batch_size=config.batch_size, seed=config.seed, device=fabric.device, workers=config.workers
    )
    with isolated_rng(config.seed):
        backbone = build_backbone(config.backbone, stem=config.stem, image_size=images.image_size)
        method = METHODS[config.method](backbone, config.temperature)
    loop = LoopSettings(stage="pretraining", total_steps=config.epochs * len(batches), steps_per_epoch=len(batches))
    done = run_loop(_Pretraining(config, method, batches, normalisation, fabric), loop, run, watch=watch)

    save_backbone(run.path / _BACKBONE_FILE, backbone, image_size=images.image_size, normalisation=normalisation)
    result = run.finish(
        "pretrain",
        seconds=done.seconds,
        seed=config.seed,
        fields={
            "method": config.method,
            "epochs": config.epochs,
            "images_per_second": round(done.steps * config.batch_size / done.seconds, 1),
            "final_loss": run.metrics()[-1]["loss"],
            "effective_rank": round(_feature_rank(backbone, images, normalisation, fabric), 2),
            "checkpoint": _BACKBONE_FILE,
            "dataset": images.name,
            "images": len(images),
            "backbone": backbone.name,
            "stem": backbone.stem,
            "precision": str(fabric.strategy.precision.precision),
            "device": fabric.device.type,
        },
    )
    return PretrainRun.from_result(run.path, result)


class _Pretraining:
    """One method under its optimiser, step by step (a `training.loop.Trainable`)."""

    def __init__(
        self, config: PretrainConfig, method: nn.Module, batches: Batches, normalisation: Normalisation, fabric: Fabric
    ) -> None:
        self._config, self._method, self._batches = config, method, batches
        self._normalisation, self._fabric = normalisation, fabric
        method.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimiser = torch.optim.SGD(
            [
                {"params": [p for p in method.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in method.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.peak_rate,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
        )
        self._wrapped, self._optimiser = fabric.setup(method, optimiser)

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor | float]:
        rate = self._config.peak_rate * warmup_cosine(fraction, self._config.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        loss = self._wrapped(self._views(index))
        self._fabric.backward(loss)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return {"loss": loss.detach(), "learning_rate": rate}

    def _views(self, index: int) -> Tensor:
        images = self._batches.at(index).images
        generator = generator_for(self._config.seed, "views", index, images.device)
        views = random_views(images, self._config.views, generator=generator)  # [v, b, 3, h, w]
        flat = self._normalisation(views.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        return flat.unflatten(0, views.shape[:2])

    def state(self) -> dict[str, State]:
        return {"method": self._method.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state(self, state: Mapping[str, State]) -> None:
        self._method.load_state_dict(state["method"])  # pyright: ignore[reportArgumentType]
        self._optimiser.load_state_dict(state["optimiser"])  # pyright: ignore[reportArgumentType]


def _feature_rank(backbone: Backbone, images: ImageSet, normalisation: Normalisation, fabric: Fabric) -> float:
    """Of the features of up to 2,048 training images, evenly spaced."""
    count = min(_RANK_IMAGES, len(images))
    source = FeatureSource(name="rank", backbone=backbone, normalisation=normalisation, resolution=images.image_size)
    return effective_rank(extract_features(source, images.subset(torch.arange(count) * len(images) // count), fabric))
