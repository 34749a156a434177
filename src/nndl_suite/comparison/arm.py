"""One arm with one seed: trained to the last epoch, watched on the validation split, tested once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.cutmix import CutMix
from nndl_suite.comparison.held_out import TrainingSplits
from nndl_suite.comparison.recipe import Rates, Recipe, make_optimiser
from nndl_suite.data.augmentation import crop_and_flip
from nndl_suite.data.batches import Batches, in_order
from nndl_suite.data.image_set import ImageSet
from nndl_suite.training.checkpoints import State
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.schedules import warmup_cosine
from nndl_suite.training.seeds import derived_seed, generator_for, isolated_rng
from nndl_suite.training.watch import Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits(TrainingSplits):
    """All three parts of a labelled set."""

    test: ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScore:
    """What one seed of one arm came to."""

    test_accuracy: float
    seconds: float
    """Training time, validation included."""
    images_per_second: float
    """Training images over those seconds."""


class ArmTraining:
    """The `Trainable` of one arm: network, optimiser, and everything random drawn from (seed, step)."""

    def __init__(
        self,
        architecture: Architecture,
        rates: Rates,
        recipe: Recipe,
        splits: TrainingSplits,
        *,
        seed: int,
        fabric: Fabric,
    ) -> None:
        with isolated_rng(derived_seed(seed, "init")):
            network = architecture.build()
        self.recipe, self._rates, self._seed, self._fabric = recipe, rates, seed, fabric
        self._num_classes = splits.train.num_classes
        self._normalisation = splits.normalisation
        network = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self._optimiser = fabric.setup(network, make_optimiser(network, recipe.optimiser, rates))
        self.batches = Batches(splits.train, batch_size=recipe.batch_size, seed=seed, device=fabric.device)

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor]:
        """One batch: augment, mix, learn."""
        recipe, generator = self.recipe, generator_for(self._seed, "augmentation", index)
        batch = self.batches.at(index)
        assert batch.labels is not None
        images = crop_and_flip(batch.images, generator, padding=recipe.crop_padding, flip=recipe.flip)
        mix = CutMix(
            alpha=recipe.cutmix_alpha,
            probability=recipe.cutmix_probability,
            num_classes=self._num_classes,
            generator=generator,
        )
        images, targets = mix(images, batch.labels)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rates.rate * warmup_cosine(fraction, recipe.warmup)
        with isolated_rng(derived_seed(self._seed, "dropout", index)):
            logits = self._logits(images)
            loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
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
    def score(self, images: ImageSet) -> tuple[float, float]:
        """Accuracy and mean cross-entropy on unaugmented images; the network is left in training mode."""
        correct = torch.zeros((), dtype=torch.int64, device=self._fabric.device)
        loss = torch.zeros((), dtype=torch.float64, device=self._fabric.device)
        self.network.eval()
        for batch in in_order(images, batch_size=self.recipe.batch_size, device=self._fabric.device):
            assert batch.labels is not None
            logits = self._logits(batch.images)
            correct += (logits.argmax(dim=1) == batch.labels).sum()
            loss += F.cross_entropy(logits, batch.labels, reduction="sum")
        self.network.train()
        return correct.item() / len(images), loss.item() / len(images)

    def _logits(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        normal = self._normalisation(images).contiguous(memory_format=torch.channels_last)
        return self.network(normal).float()


def train_arm(
    training: ArmTraining, splits: Splits, run: RunFolder, *, stage: str, epochs: int, watch: Watcher = ignore
) -> ArmScore:
    """Train to the end, or on to it from the run's newest checkpoint, and read the test split once.

    Raises:
        NndlError: the loss stopped being a number; the message names the arm and the step.
        Interrupted: somebody stopped the run.
    """

    def validate(epoch: int) -> dict[str, float]:
        accuracy, loss = training.score(splits.val)
        return {"epoch": epoch + 1, "val_accuracy": accuracy, "val_loss": loss}

    steps_per_epoch = len(training.batches)
    settings = LoopSettings(stage=stage, total_steps=epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch)
    spent = run_loop(training, settings, run, watch=watch, end_of_epoch=validate)
    accuracy, _ = training.score(splits.test)
    images = spent.steps * training.recipe.batch_size
    return ArmScore(test_accuracy=accuracy, seconds=spent.seconds, images_per_second=images / spent.seconds)
