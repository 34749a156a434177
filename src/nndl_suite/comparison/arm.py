"""One arm with one seed: trained to the last epoch, watched on the validation split, tested once."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.optimisers import make_optimiser
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.recipe_mix import mix_of
from nndl_suite.comparison.scores import ArmScore, NetworkScores, Predict, accuracy_and_loss, score_network
from nndl_suite.comparison.splits import Splits, TrainingSplits
from nndl_suite.comparison.training_images import augment, resized
from nndl_suite.comparison.whitened_cnn import FitsImages
from nndl_suite.data.batches import Batches
from nndl_suite.data.image_set import ImageSet
from nndl_suite.models.synchronised_norms import synchronise_norms
from nndl_suite.training.checkpoints import State
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.predictions import write_predictions
from nndl_suite.training.processes import from_first, gathered, own_part, rank
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.schedules import rate_factor
from nndl_suite.training.seeds import derived_seed, generator_for, isolated_rng
from nndl_suite.training.watch import Watcher, ignore

_FITTED_ON = 2000  # images, of which a first layer may be made


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
        network = _fresh_network(architecture, recipe, splits, seed=seed)
        synchronise_norms(network)
        network = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = None
        if recipe.ema_decay is not None:
            self._average = ModelEmaV3(network, decay=recipe.ema_decay, use_warmup=True)
        self.recipe, self._rates, self._seed, self._fabric = recipe, rates, seed, fabric
        self._part = own_part(recipe.batch_size)
        self._dropout = "dropout" if rank() == 0 else f"dropout of process {rank()}"
        self._num_classes = splits.train.num_classes
        self._normalisation = splits.normalisation
        self.network, self._optimiser = fabric.setup(network, make_optimiser(network, recipe.optimiser, rates))
        self._scored = network if self._average is None else self._average.module
        self.batches = Batches(
            splits.train, batch_size=recipe.batch_size, seed=seed, device=fabric.device, part=self._part
        )

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor]:
        """One batch: augment, mix, learn."""
        recipe, generator = self.recipe, generator_for(self._seed, "augmentation", index)
        batch = self.batches.at(index)
        assert batch.labels is not None
        seed = derived_seed(self._seed, "randaugment", index)
        images = augment(batch.images, recipe, generator, seed=seed, part=self._part)
        mix = mix_of(recipe, self._num_classes, generator)
        # of the whole batch, whose images may be anybody's partners: they are bytes still
        mixed, soft = mix(gathered(images), gathered(batch.labels))
        images, targets = mixed[self._part.rows], soft[self._part.rows]
        for group in self._optimiser.param_groups:
            group["lr"] = self._rates.rate * rate_factor(recipe.schedule, fraction, recipe.warmup)
        with isolated_rng(derived_seed(self._seed, self._dropout, index)):
            logits = self.network(resized(self._normal(images), recipe.size_at(fraction))).float()
            loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            self._optimiser.zero_grad()
            self._fabric.backward(loss)
        if recipe.clip_norm is not None:  # a norm that is no number is found with the loss: asking here would wait
            self._fabric.clip_gradients(
                self.network, self._optimiser, max_norm=recipe.clip_norm, error_if_nonfinite=False
            )
        self._optimiser.step()
        if self._average is not None:
            self._average.update(self.network.module, step=index + 1)
        return {"loss": loss.detach()}

    def state(self) -> dict[str, State]:
        """Weights, running statistics, the optimiser's moments, and the running mean of the weights if there is one."""
        average = {} if self._average is None else {"average": self._average.module.state_dict()}
        return {"network": self.network.state_dict(), "optimiser": self._optimiser.state_dict(), **average}

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to a state."""
        self.network.load_state_dict(cast(Mapping[str, Tensor], state["network"]))
        self._optimiser.load_state_dict(cast(dict[str, Tensor], state["optimiser"]))
        if self._average is not None:
            self._average.module.load_state_dict(cast(Mapping[str, Tensor], state["average"]))

    @contextmanager
    def scoring(self) -> Generator[Predict, None, None]:
        """The network's logits, with dropout and batch statistics off; afterwards it is in training mode again."""
        self._scored.eval()
        try:
            yield self._logits
        finally:
            self.network.train()

    def scored_weights(self) -> dict[str, Tensor]:
        """The state dict of the network that is scored, on the CPU: the last weights, or their running mean."""
        return {name: value.cpu().contiguous() for name, value in self._scored.state_dict().items()}

    def score(self, images: ImageSet) -> tuple[float, float]:
        """Accuracy and mean cross-entropy on unaugmented images; the network is left in training mode."""
        with self.scoring() as predict:
            return accuracy_and_loss(predict, images, batch_size=self.recipe.batch_size, device=self._fabric.device)

    def score_finally(self, splits: Splits, run: RunFolder) -> NetworkScores:
        """Everything that is measured of trained weights; reads the test split once, and keeps each image's answer."""
        with self.scoring() as predict:
            return score_network(
                self._logits_with_mirror if self.recipe.test_mirrored else predict,
                train=splits.train,
                test=splits.test,
                batch_size=self.recipe.batch_size,
                device=self._fabric.device,
                keep=lambda said: from_first(lambda: write_predictions(run.path, said)),
            )

    def _logits(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        with self._fabric.autocast():
            return self._scored(self._normal(images)).float()

    def _logits_with_mirror(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        return (self._logits(images) + self._logits(images.flip(-1))) / 2

    def _normal(self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return self._normalisation(images).contiguous(memory_format=torch.channels_last)


def _fresh_network(architecture: Architecture, recipe: Recipe, splits: TrainingSplits, *, seed: int) -> nn.Module:
    with isolated_rng(derived_seed(seed, "init")):
        network = architecture.build()
    if isinstance(network, FitsImages):
        count = min(_FITTED_ON, len(splits.train))
        picks = torch.arange(count) * len(splits.train) // count
        network.fit_images(splits.normalisation(splits.train.store.read(picks)))
    if recipe.compile:
        network.compile()
    return network


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
    network = training.score_finally(splits, run)
    images = spent.steps * training.recipe.batch_size
    return ArmScore(network=network, seconds=spent.seconds, images_per_second=images / spent.seconds)
