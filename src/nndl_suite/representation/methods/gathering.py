"""The whole batch, where several processes have a part of it each."""

import torch
from jaxtyping import Float
from lightly.utils import dist
from torch import Tensor


def gathered(rows: Float[Tensor, "b d"]) -> Float[Tensor, "world*b d"]:
    """The rows of all processes in the order of their ranks, differentiable; the same tensor where there is one.

    Every process then computes the same loss of the whole batch. The backward pass adds up what all of them want of a
    row, and the mean over processes that data-parallel training takes makes that the gradient of one process with the
    whole batch.
    """
    return torch.cat(dist.gather(rows)) if dist.world_size() > 1 else rows
