"""Embeddings of past batches."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F


class EmbeddingQueue(nn.Module):
    """The newest rows, unit length, first in, first out; part of `state_dict`, so that a resumed run has them."""

    rows: Float[Tensor, "q d"]
    next: Int64[Tensor, ""]

    def __init__(self, length: int, dim: int) -> None:
        """Start from random directions."""
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "b d"]) -> None:
        """Take in rows, which are to be those of all processes, for the oldest; of more than it holds, the last."""
        newest = rows[-len(self.rows) :]
        places = (self.next + torch.arange(len(newest), device=newest.device)) % len(self.rows)
        self.rows[places] = newest.to(self.rows.dtype)
        self.next.add_(len(newest)).remainder_(len(self.rows))
