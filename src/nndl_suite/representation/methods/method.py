"""What a method is: a module that turns views into a loss, and what its paper sets for small images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float, Int64
from torch import Tensor, nn

from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.views import ViewRecipe

OptimiserName = Literal["sgd", "lars", "adamw"]

SYMMETRIC = (ViewRecipe(), ViewRecipe())
"""SimCLR's two views for CIFAR."""
ASYMMETRIC = (ViewRecipe(saturation=0.2), ViewRecipe(saturation=0.2, solarise=0.2))
"""BYOL's two views (arXiv 2006.07733, table 6), without blur, as is usual at 32 px: only the second is solarised."""


class SSLMethod(nn.Module):
    """A backbone under a method. What else the method holds is thrown away when pretraining ends.

    Everything that steps change is in `state_dict`, so a run goes on from a checkpoint to the same bits. A method draws
    nothing itself but from torch's global generator, which the trainer seeds for every step.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(
        self, views: Float[Tensor, "v b 3 h w"], labels: Int64[Tensor, "b"] | None, fraction: float
    ) -> Float[Tensor, ""]:
        """The loss of one batch.

        Args:
            views: Normalised; `views[i, j]` shows image j.
            labels: Given only to methods that ask for them.
            fraction: Share of the run that is done, in [0, 1).
        """
        raise NotImplementedError

    def after_step(self, fraction: float) -> None:
        """Called when the optimiser has moved the weights; momentum teachers follow here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A method's own settings for images of about 32 pixels."""

    optimiser: OptimiserName
    learning_rate: float
    """Peak rate for a batch of 256 images."""
    weight_decay: float
    """Of matrices and kernels; biases and norms are not decayed."""
    views: tuple[ViewRecipe, ...]
    projector_dim: int | None
    """Width of the projector's hidden layers; None: as wide as the features."""
    temperature: float | None = None
    """None: the method has none."""

    def __post_init__(self) -> None:
        if self.optimiser not in get_args(OptimiserName):
            raise unknown_name("optimiser", self.optimiser, get_args(OptimiserName))
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be a number > 0, got {self.learning_rate}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ConfigError(f"weight_decay must be a number >= 0, got {self.weight_decay}")
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature must be a number > 0, got {self.temperature}")
        if self.projector_dim is not None and self.projector_dim < 1:
            raise ConfigError(f"projector_dim must be >= 1, got {self.projector_dim}")
        if not self.views:
            raise ConfigError("a method needs at least one view")

    def width(self, backbone: Backbone) -> int:
        """Of the projector's hidden layers on a backbone."""
        return self.projector_dim or backbone.feature_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method by its parts."""

    build: Callable[[Backbone, Recipe, int], SSLMethod]
    """From a backbone, a recipe and the number of classes (0 unless `labels`), weights drawn from torch's generator."""
    recipe: Recipe
    exact_views: int | None = 2
    """How many views it takes; None: any number, but two at least where there are no labels."""
    labels: bool = False
    """Whether it learns from labels."""
    rests: bool = False
    """Whether some weights take no gradient for a part of the run, which data-parallel training must know."""

    def check_views(self, count: int) -> None:
        """Refuse a number of views that it cannot take.

        Raises:
            ConfigError: it cannot.
        """
        if self.exact_views is not None and count != self.exact_views:
            raise ConfigError(f"this method takes {self.exact_views} views of an image, got {count}")
        if not self.labels and count < 2:
            raise ConfigError(f"without labels a method needs at least 2 views of an image, got {count}")
