"""Multinomial logistic regression on features: one convex problem, solved to its minimum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.representation.softmax_descent import Minimum, SoftmaxDescent

_ROWS = 8192


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The classifier of one penalty, and how near its minimum it is."""

    classifier: LinearClassifier
    penalty: float
    minimum: Minimum


def fit_path(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, "n"],
    *,
    num_classes: int,
    penalties: Sequence[float],
    start: LinearClassifier | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 200,
) -> Iterator[Solution]:
    """A classifier for each penalty, each started from the one before: give strong penalties first.

    Each minimises mean cross-entropy + penalty / 2 * |weight|^2 over the standardised features, the bias free, by
    L-BFGS (the protocol of arXiv 1805.08974). The problem is convex: there is no learning rate to choose, and the
    start decides the time only.

    Args:
        features: Finite; float32 or float64, in which the problem is then solved.
        labels: In [0, num_classes).
        num_classes: How many logits there are.
        penalties: Each > 0.
        start: Where to begin, of any standardisation; None begins at zero.
        tolerance: Nats above the minimum at which to stop, as the descent estimates it.
        max_iterations: For each penalty.
    """
    frame = _Frame.of(features)
    theta = features.new_zeros(features.shape[1] + 1, num_classes) if start is None else frame.theta(start)
    descent = SoftmaxDescent(frame.coordinates(features), labels, theta)
    for penalty in penalties:
        minimum = descent.minimise(penalty, tolerance=tolerance, max_iterations=max_iterations)
        yield Solution(classifier=frame.classifier(descent.theta), penalty=penalty, minimum=minimum)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Standardised features along their principal axes; a rotation, so the penalty means the same in it."""

    mean: Float[Tensor, "d"]
    std: Float[Tensor, "d"]
    axes: Float[Tensor, "d d"]
    """One axis a column."""

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "_Frame":
        mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
        std = torch.where(std > 1e-6 * std.max(), std, 1.0)  # a dead unit stays at 0
        covariance = features.new_zeros(len(mean), len(mean))
        for chunk in features.split(_ROWS):
            standard = (chunk - mean) / std
            covariance.addmm_(standard.T, standard)
        axes = torch.linalg.eigh(covariance.double()).eigenvectors
        return cls(mean, std, axes.to(features.dtype))

    def coordinates(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        z, scaled = torch.empty_like(features, memory_format=torch.contiguous_format), self.axes / self.std[:, None]
        for there, chunk in zip(z.split(_ROWS), features.split(_ROWS), strict=True):
            torch.mm(chunk - self.mean, scaled, out=there)
        return z

    def theta(self, classifier: LinearClassifier) -> Float[Tensor, "d+1 k"]:
        """A classifier of another standardisation as weights and biases here: the same logits."""
        weight = classifier.weight / classifier.std  # [k, d], of bare features
        bias = classifier.bias + weight @ (self.mean - classifier.mean)
        return torch.cat([self.axes.T @ (weight * self.std).T, bias[None]])

    def classifier(self, theta: Float[Tensor, "d+1 k"]) -> LinearClassifier:
        weight = (self.axes @ theta[:-1]).T.contiguous()
        bias = theta[-1] - theta[-1].mean()  # what is common to all classes is nothing
        return LinearClassifier(mean=self.mean, std=self.std, weight=weight, bias=bias)
