# ruff: noqa: PLR0913
# Adam reads four tensors and what it is told of its pace.
"""Adam (arXiv 1412.6980) that leaves alone what a step did not touch, on tensors."""

from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.gpu.chosen import kernels


def adam_touched(
    values: Float32[Tensor, "*shape"],
    grads: Float32[Tensor, "*shape"],
    first: Float32[Tensor, "*shape"],
    second: Float32[Tensor, "*shape"],
    *,
    rate: float,
    step: int,
    decay: float = 0.0,
) -> None:
    """One step in place on the entries whose gradient is not zero; clears the gradients.

    Args:
        values, grads, first, second: The entries, their gradients and the two running moments.
        rate: Learning rate.
        step: Steps done before this one.
        decay: Weight of the L2 penalty `decay / 2 * values**2`, on touched entries only.
    """
    kernels("adam", values).adam_touched(values, grads, first, second, rate=rate, step=step, decay=decay)


def adam_paced(
    values: Float32[Tensor, "*shape"],
    grads: Float32[Tensor, "*shape"],
    first: Float32[Tensor, "*shape"],
    second: Float32[Tensor, "*shape"],
    pace: Float32[Tensor, "3"],
    *,
    rate: float,
    decay: float = 0.0,
) -> None:
    """As `adam_touched`, with what changes from step to step on the device, so that a recorded step can be replayed.

    Args:
        values, grads, first, second: See `adam_touched`.
        pace: The factor on `rate`, then the two that `starts` gives.
        rate: Learning rate where the factor is 1.
        decay: See `adam_touched`.
    """
    kernels("adam", values).adam_paced(values, grads, first, second, pace, rate=rate, decay=decay)
