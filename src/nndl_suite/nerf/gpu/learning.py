"""What a step of learning is told, and what it finds."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the loss of a ray is made of; see `kernels.tiles.shade_and_learn`."""

    open_end: bool
    """The last sample takes all the light that is left; background and `through` are not used."""
    knee: float
    """See `kernels.marching.place_of`."""
    spread: float
    """Weight of the distortion."""
    close: float
    """Distance below which samples learn more slowly, and stopped light costs; > 0."""
    fog: float
    """What stopped light costs right before the camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the samples look like, and the gradients of the sum over rays."""

    density: Float[Tensor, "n"]
    grad_encoding: Float[Tensor, "32 n"]
    grad_gain: Float[Tensor, "r 3"]
    """With respect to the gain's logarithm."""
    losses: Float[Tensor, "r 2"]
    """Squared error (with that of the light that passes) and distortion."""
    grad_weights: Float[Tensor, "w"]
