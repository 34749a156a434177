"""Multinomial logistic regression on features: one convex problem, solved to its minimum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearClassifier:
    """Standardise by the training statistics, then one linear layer."""

    mean: Float[Tensor, "d"]
    std: Float[Tensor, "d"]
    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, "k"]

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Of features as they come, on their device."""
        return F.linear((features - self.mean) / self.std, self.weight, self.bias)

    def accuracy(self, features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"]) -> float:
        """The share of rows whose largest logit is the label's."""
        return (self.logits(features).argmax(dim=1) == labels).double().mean().item()


def fit_path(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, "n"],
    *,
    num_classes: int,
    penalties: Sequence[float],
    max_iterations: int = 200,
) -> Iterator[LinearClassifier]:
    """A classifier for each penalty, each started from the one before: give strong penalties first.

    Each minimises mean cross-entropy + penalty / 2 * |weight|^2 over the standardised features, the bias free, by
    L-BFGS (the protocol of arXiv 1805.08974). The problem is convex: there is no learning rate to choose.
    """
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max(), std, 1.0)  # a dead unit stays at 0
    x = (features - mean) / std
    weight = torch.zeros(num_classes, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=x.dtype, device=x.device, requires_grad=True)
    for penalty in penalties:
        _minimise(x, labels, weight, bias, penalty, max_iterations)
        yield LinearClassifier(mean=mean, std=std, weight=weight.detach().clone(), bias=bias.detach().clone())


def _minimise(x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, penalty: float, max_iterations: int) -> None:
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)  # pyright: ignore[reportArgumentType] - torch's stub wants a float where it takes a Tensor
