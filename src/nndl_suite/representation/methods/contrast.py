"""InfoNCE between queries and keys."""

import torch
from jaxtyping import Float
from lightly.utils import dist
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.representation.methods.gathering import gathered


def info_nce(queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], temperature: float) -> Float[Tensor, ""]:
    """Cross-entropy of each query's own key among the keys of the whole batch (arXiv 1807.03748, eq. 4).

    Similarities are cosines. Chance is log(b), of all processes' b together.
    """
    q, k = F.normalize(queries, dim=1), gathered(F.normalize(keys, dim=1))
    own = torch.arange(len(q), device=q.device) + dist.rank() * len(q)
    return F.cross_entropy(q @ k.T / temperature, own)
