"""How to pretrain: what is asked, checked before anything is done."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.backbones import Stem
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.methods.method import Recipe
from nndl_suite.representation.views import ViewRecipe
from nndl_suite.training.fabric import Device, Precision

Choice = Literal["no", "yes"]
_CHOICES = get_args(Choice)

SPEED_ONLY = ("workers", "devices", "nodes")
"""Settings that decide how fast a run goes and not what it learns: another sitting may have others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How to pretrain. What is None is the method's own, see `recipe`."""

    method: str = "simclr"
    """See `methods.METHODS`."""
    backbone: str = "resnet18"
    """See `models.backbones.build_backbone`."""
    stem: Stem = "auto"
    epochs: int = 100
    steps: int | None = None
    """Instead of epochs: how many batches, whatever the size of the set."""
    batch_size: int = 512
    """Images, not views, of all processes together: a step embeds at least 2 * batch_size crops."""
    learning_rate: float | None = None
    """For a batch of 256 images; what runs is `peak_rate`."""
    momentum: float = 0.9
    """Of SGD and LARS."""
    weight_decay: float | None = None
    """Of matrices and kernels; biases and norms are not decayed."""
    warmup: float = 0.1
    """Share of the run in which the rate rises from 0; then it falls to 0 on half a cosine."""
    temperature: float | None = None
    """tau, of methods that have one."""
    projector_dim: int | None = None
    """Width of the projector's hidden layers."""
    views: tuple[ViewRecipe, ...] | None = None
    """What may happen to an image, one recipe for each view of it."""
    augmentation: float = 1.0
    """Factor on the strength of the views' colour changes."""
    stop_on_collapse: bool = False
    """End the run with an error when the features have collapsed; otherwise a warning is all."""
    online_probe: Choice = "no"
    """Whether a linear classifier learns beside the backbone, where there are labels; it never reaches the backbone."""
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    devices: int = 1
    """Processes on each machine that share every batch, one for each GPU (docs/many-processes.md)."""
    nodes: int = 1
    """Machines."""
    workers: int = 2
    """Processes that decode images kept on disk, for each process that learns."""

    def __post_init__(self) -> None:
        for name, given, known in (("method", self.method, METHODS), ("online_probe", self.online_probe, _CHOICES)):
            if given not in known:
                raise unknown_name(name, given, known)
        for name in ("epochs", "steps", "devices", "nodes"):
            count: int | None = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"{name} must be >= 1, got {count}")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size must be >= 2, got {self.batch_size}; a lone image has no negatives")
        for name, value in (("momentum", self.momentum), ("warmup", self.warmup)):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {value}")
        if not 0 <= self.augmentation < math.inf:
            raise ConfigError(f"augmentation must be a factor >= 0, got {self.augmentation}")
        self._check_against_method()

    def _check_against_method(self) -> None:
        if self.temperature is not None and METHODS[self.method].recipe.temperature is None:
            raise ConfigError(f"{self.method} has no temperature; leave it out")
        if self.projector_dim is not None and METHODS[self.method].labels:
            raise ConfigError(f"{self.method} has no projector; leave projector_dim out")
        METHODS[self.method].check_views(len(self.recipe.views))

    def check_alone(self) -> None:
        """Refuse several processes where one run follows another.

        Raises:
            ConfigError: they are asked for.
        """
        if self.devices * self.nodes > 1:
            raise ConfigError(
                f"each of these runs is done by one process, got devices={self.devices} and nodes={self.nodes}; "
                "pretrain by itself what wants more"
            )

    @property
    def recipe(self) -> Recipe:
        """The method's own settings, with what is asked for here in their place."""
        own = METHODS[self.method].recipe
        return replace(
            own,
            learning_rate=own.learning_rate if self.learning_rate is None else self.learning_rate,
            weight_decay=own.weight_decay if self.weight_decay is None else self.weight_decay,
            temperature=own.temperature if self.temperature is None else self.temperature,
            projector_dim=own.projector_dim if self.projector_dim is None else self.projector_dim,
            views=tuple(view.strengthened(self.augmentation) for view in self.views or own.views),
        )

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up.

        In proportion to the batch for SGD and LARS (arXiv 1706.02677), to its square root for AdamW (arXiv 2205.10287).
        """
        recipe, batches = self.recipe, self.batch_size / 256
        return recipe.learning_rate * (math.sqrt(batches) if recipe.optimiser == "adamw" else batches)
