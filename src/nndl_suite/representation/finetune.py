"""The fine-tuning protocol: how good a start is a backbone, when everything may move?

A head of two layers on the features, Linear(d, 512), ReLU, Linear(512, k); everything trained with AdamW, the backbone
at a tenth of the head's rate, both constant; crops and flips; the last epoch counts. Nothing is chosen: a stratified
tenth of the training images is held out and reported.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int64, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn

from nndl_suite.data.augmentation import crop_and_flip
from nndl_suite.data.batches import Batches, check_batch_size, in_order
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.models.folded_norms import has_folded_norms, unfold_norms
from nndl_suite.representation.choice import HELD_OUT
from nndl_suite.representation.features import FeatureSource, resized
from nndl_suite.training.checkpoints import State
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.seeds import derived_seed, generator_for, isolated_rng
from nndl_suite.training.watch import Watcher, ignore

_HIDDEN = 512
_BACKBONE_SHARE = 0.1
"""Of the head's learning rate."""
_PADDING = 4
"""Black pixels around an image before a crop of its old size."""
_LOOKED_AT = 2048
"""Images from which batch norms without statistics get theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """How long, in what batches and how fast; the defaults are stated, not tuned."""

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    """Of the head; the backbone's is a tenth of it."""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs must be >= 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size must be >= 2, got {self.batch_size}; batch norm needs more than one image")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning_rate must be a number > 0, got {self.learning_rate}")

    @property
    def stated(self) -> dict[str, float]:
        """What a result says in the place of what validation chose."""
        return {"learning_rate": self.learning_rate, "epochs": self.epochs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """A network after its last epoch."""

    training: "FinetuneTraining"
    val_accuracy: float
    """Of the last epoch, on images that decided nothing."""
    seconds_before: float
    """Training time of earlier sittings of the run."""


class FinetuneTraining:
    """Backbone and head under AdamW, step by step (a `training.loop.Trainable`)."""

    def __init__(
        self, source: FeatureSource, images: ImageSet, settings: FinetuneSettings, *, seed: int, fabric: Fabric
    ) -> None:
        """Put a fresh head on the backbone, which is trained in place.

        Args:
            source: Where it starts from.
            images: Labelled, what it learns from.
            settings: Batches and rates.
            seed: Draws the head, the order, crops and flips, and dropout where the backbone has any.
            fabric: Device and precision.
        """
        with isolated_rng(derived_seed(seed, "head")):
            head = nn.Sequential(
                nn.Linear(source.backbone.feature_dim, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, images.num_classes)
            )
        network = nn.Sequential(source.backbone, head).train()
        network = network.to(fabric.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimiser = torch.optim.AdamW(
            [
                {"params": source.backbone.parameters(), "lr": settings.learning_rate * _BACKBONE_SHARE},
                {"params": head.parameters(), "lr": settings.learning_rate},
            ]
        )
        self._source, self._seed, self._fabric = source, seed, fabric
        self._batch_size = settings.batch_size
        self.batches = Batches(images, batch_size=settings.batch_size, seed=seed, device=fabric.device)
        self.network, self._optimiser = fabric.setup(network, optimiser)

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor | float]:
        """One batch: crop, mirror, learn."""
        batch = self.batches.at(index)
        assert batch.labels is not None
        generator = generator_for(self._seed, "augmentation", index)
        images = crop_and_flip(batch.images, generator, padding=_PADDING, flip=True)
        with isolated_rng(derived_seed(self._seed, "dropout", index)):
            loss = nn.functional.cross_entropy(self._logits(images), batch.labels)
            self._optimiser.zero_grad()
            self._fabric.backward(loss)
        self._optimiser.step()
        return {"loss": loss.detach()}

    def state(self) -> dict[str, State]:
        """Weights, running statistics and the optimiser's moments."""
        return {"network": self.network.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to a state."""
        self.network.load_state_dict(cast(Mapping[str, Tensor], state["network"]))
        self._optimiser.load_state_dict(cast(dict[str, Tensor], state["optimiser"]))

    @torch.no_grad()
    def predict(self, images: ImageSet) -> Int64[Tensor, "n"]:
        """The likeliest label of each image as it is, on the CPU; the network is left in training mode."""
        labels = torch.empty(len(images), dtype=torch.int64)
        self.network.eval()
        for batch in in_order(images, batch_size=self._batch_size, device=self._fabric.device):
            labels[batch.indices] = self._logits(batch.images).argmax(dim=1).cpu()
        self.network.train()
        return labels

    def accuracy(self, images: ImageSet) -> float:
        """The share of images whose label is predicted."""
        return (self.predict(images) == images.required_labels()).double().mean().item()

    def _logits(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        pixels = self._source.normalisation(resized(images, self._source.resolution))
        return self.network(pixels.contiguous(memory_format=torch.channels_last)).float()


def check_images(images: ImageSet, settings: FinetuneSettings) -> None:
    """Refuse a set that cannot be fine-tuned on.

    Raises:
        ConfigError: a batch is larger than the training part.
        DataError: the images have no labels, under two classes, or are fewer than ten.
    """
    labels = images.required_labels()
    found = len(torch.unique(labels))
    if found < 2 or len(labels) < 10:
        raise DataError(f"fine-tuning needs >= 2 classes and >= 10 images, {images.name} has {found} and {len(labels)}")
    check_batch_size(settings.batch_size, images.name, len(images) - _num_held_out(images))


def _num_held_out(images: ImageSet) -> int:
    return round(HELD_OUT * len(images))


def finetune(
    source: FeatureSource,
    images: ImageSet,
    settings: FinetuneSettings,
    run: RunFolder,
    *,
    seed: int,
    fabric: Fabric,
    watch: Watcher = ignore,
) -> Finetuned:
    """Train to the last epoch, from the run's newest checkpoint if there is one.

    Raises:
        ConfigError, DataError: as `check_images`.
        NndlError: the loss is not finite.
        Interrupted: somebody stopped the run.
    """
    check_images(images, settings)
    labels = images.required_labels()
    kept, held_out = stratified_split(labels, held_out=_num_held_out(images), seed=seed)
    train, val = images.subset(kept), images.subset(held_out)
    if has_folded_norms(source.backbone):
        _unfold(source, train, settings.batch_size, fabric)
    training = FinetuneTraining(source, train, settings, seed=seed, fabric=fabric)

    def validate(epoch: int) -> dict[str, float]:
        return {"epoch": epoch + 1, "val_accuracy": training.accuracy(val)}

    steps = len(training.batches)
    loop = LoopSettings(stage="fine-tuning", total_steps=settings.epochs * steps, steps_per_epoch=steps)
    start = time.monotonic()
    spent = run_loop(training, loop, run, watch=watch, end_of_epoch=validate)
    before = max(0.0, spent.seconds - (time.monotonic() - start))
    return Finetuned(training=training, val_accuracy=training.accuracy(val), seconds_before=before)


def _unfold(source: FeatureSource, images: ImageSet, batch_size: int, fabric: Fabric) -> None:
    """Some files of weights have their batch norms folded, and would be another network in training mode."""
    sample = images.subset(torch.arange(min(_LOOKED_AT, len(images))))
    batches = in_order(sample, batch_size=batch_size, device=fabric.device)
    backbone = source.backbone.to(fabric.device)
    unfold_norms(backbone, (source.normalisation(resized(batch.images, source.resolution)) for batch in batches))
