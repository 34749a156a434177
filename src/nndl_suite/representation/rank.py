"""How many directions features use."""

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(features: Float[Tensor, "n d"]) -> float:
    """RankMe (arXiv 2210.02885, eq. 1): the exponential of the entropy of the normalised singular values.

    Returns:
        A value in [1, min(n, d)]: 1 where all rows are multiples of one (or 0), d where every direction is used alike.
    """
    singular = torch.linalg.svdvals(features.double())
    shares = singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny) + 1e-7  # the paper's epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))
