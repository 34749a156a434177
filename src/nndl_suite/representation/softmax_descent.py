"""L-BFGS for softmax regression, with three things that a general solver cannot know of the problem.

- Its curvature. Along the principal axes of the features the Hessian is nearly diagonal, and its diagonal costs one
  product of matrices: that is the matrix from which L-BFGS starts, so the number of steps hardly depends on how
  ill-conditioned the features are.
- Its lines. Logits are linear in the weights: along a direction they are logits + t * moves, and another step length t
  costs a softmax and no product of matrices. A step is two of those, with as good a step length as one likes.
- Its path. Another penalty adds a multiple of the weights to the gradient, so the pairs that L-BFGS remembers of one
  penalty are corrected exactly and serve the next; and the first step for it goes on where the path was going.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

_MEMORY = 30
"""Pairs remembered."""
_ROWS = 8192
"""Rows worked on at a time: 100 classes' logits of them stay in a CPU's second cache."""
_TRIALS = 30
"""Step lengths tried along a direction, at most; two are usual."""
_USUAL = 8.0
"""A step this many times longer or shorter than expected says that the curvature is of another place."""
_LEAST = 1e-25
"""Smaller probabilities are zero: no sum notices them, but processors are slow where floats run out of digits."""
_SLOPE_LEFT = 0.2
"""A step length will do where the slope along the direction is this share of what it was, up or down: the approximate
Wolfe conditions of Hager and Zhang (SIAM J. Optim. 16, 2005), which compare slopes and so see to the last digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """How near a descent came."""

    objective: float
    """Mean cross-entropy + penalty / 2 * |weights|^2, in nats."""
    excess: float
    """Estimate of how far above its minimum that is, nats; right to a factor of six where the minimum was known."""
    iterations: int


@dataclass(slots=True)
class _Pair:
    """A step that was taken, and the change of the gradient that it brought."""

    step: Float[Tensor, "d+1 k"]
    change: Float[Tensor, "d+1 k"]
    product: float
    """Of the two; > 0, for the objective is convex."""


class SoftmaxDescent:
    """The descent of one problem: mean cross-entropy of logits z @ theta[:-1] + theta[-1], the last row unpenalised."""

    def __init__(self, z: Float[Tensor, "n d"], labels: Int64[Tensor, "n"], theta: Float[Tensor, "d+1 k"]) -> None:
        """Start at `theta`, which is not written to.

        Args:
            z: Features of zero mean along their principal axes. Any others give the same minimum in more steps.
            labels: In [0, k).
            theta: Weights, one column a class, and below them the biases.
        """
        self.theta = theta.clone()
        self._z, self._labels = z, labels
        self._theta_before = self.theta.clone()
        self._penalty = 0.0
        self._pairs: list[_Pair] = []
        n, k = len(z), theta.shape[1]
        self._logits = z.new_empty(n, k)
        self._moves = z.new_empty(n, k)
        self._errors = z.new_empty(n, k)  # probabilities - one-hot labels at `theta`, the gradient of the logits
        self._look()

    def minimise(self, penalty: float, *, tolerance: float, max_iterations: int) -> Minimum:
        """Go down until the excess is at most `tolerance` nats; `theta` is there afterwards."""
        self._change_penalty(penalty)
        gradient = self._gradient()
        direction = self.theta - self._theta_before  # where the path was going
        self._theta_before = self.theta.clone()
        iterations = 0
        while True:
            if iterations or not _dot(gradient, direction) < 0:
                direction = self._direction(gradient)
                excess = self._excess(gradient, direction)
                if excess <= tolerance:
                    self._look()  # so it seems; but the curvature was that of another place
                    excess = self._excess(gradient, direction)
                if excess <= tolerance or iterations >= max_iterations:
                    break
            step = self._advance(direction, _dot(gradient, direction))
            if not 1 / _USUAL < step < _USUAL:
                self._look()
            before, gradient = gradient, self._gradient()
            self._remember(direction.mul_(step), gradient - before)
            iterations += 1
        return Minimum(objective=self._objective(), excess=excess, iterations=iterations)

    def _excess(self, gradient: Float[Tensor, "d+1 k"], direction: Float[Tensor, "d+1 k"]) -> float:
        """Half the gradient times a Newton step, by the greater of two guesses of that step."""
        return max(-_dot(gradient, direction), _dot(gradient, gradient / self._stiffness())) / 2

    def _change_penalty(self, penalty: float) -> None:
        for pair in self._pairs:
            pair.change[:-1].add_(pair.step[:-1], alpha=penalty - self._penalty)
            pair.product = _dot(pair.step, pair.change)
        self._pairs = [pair for pair in self._pairs if pair.product > 0]
        self._penalty = penalty

    def _look(self) -> None:
        """Logits, errors and the diagonal of the cross-entropy's Hessian, mean p (1 - p) z^2, at `theta`."""
        curvature = torch.zeros_like(self.theta)
        for rows in self._rows():
            z, probabilities = self._z[rows], self._errors[rows]
            torch.addmm(self.theta[-1], z, self.theta[:-1], out=self._logits[rows])
            _softmax(self._logits[rows], probabilities)
            spread = probabilities * (1 - probabilities)  # [r, k]
            curvature[:-1].addmm_(z.square().T, spread)
            curvature[-1] += spread.sum(dim=0)
        self._to_errors()
        self._curvature = curvature.div_(len(self._z))

    def _stiffness(self) -> Float[Tensor, "d+1 k"]:
        """The diagonal of the objective's Hessian where `_look` was last."""
        stiffness = self._curvature.clone()
        stiffness[:-1] += self._penalty
        return stiffness.clamp_min_(1e-6 * float(stiffness.max()))  # a class without rows has a flat bias

    def _gradient(self) -> Float[Tensor, "d+1 k"]:
        gradient = torch.zeros_like(self.theta)
        for rows in self._rows():
            gradient[:-1].addmm_(self._z[rows].T, self._errors[rows])
            gradient[-1] += self._errors[rows].sum(dim=0)
        gradient /= len(self._z)
        gradient[:-1].add_(self.theta[:-1], alpha=self._penalty)
        return gradient

    def _direction(self, gradient: Float[Tensor, "d+1 k"]) -> Float[Tensor, "d+1 k"]:
        """- H gradient by the two loops of L-BFGS (Nocedal and Wright, algorithm 7.4).

        H_0 is 1 / curvature times what makes it right for the newest pair (their eq. 7.20): a diagonal overstates how
        stiff the rest is, the more so the surer the classifier gets.
        """
        direction, curvature = gradient.neg(), self._stiffness()
        shares: list[float] = []
        for pair in reversed(self._pairs):
            shares.append(_dot(pair.step, direction) / pair.product)
            direction.add_(pair.change, alpha=-shares[-1])
        direction /= curvature
        if self._pairs:
            newest = self._pairs[-1]
            direction *= newest.product / _dot(newest.change, newest.change / curvature)
        for pair, share in zip(self._pairs, reversed(shares), strict=True):
            direction.add_(pair.step, alpha=share - _dot(pair.change, direction) / pair.product)
        return direction

    def _advance(self, direction: Float[Tensor, "d+1 k"], slope: float) -> float:
        """Move along a direction to where it is nearly level, and return the step length: 1 where that will do.

        The objective is convex, so its slope along the line only rises, and the place is found by Newton's method
        between bounds.
        """
        for rows in self._rows():
            torch.addmm(direction[-1], self._z[rows], direction[:-1], out=self._moves[rows])
        gained = float(self._moves.gather(1, self._labels[:, None]).mean())
        weights, turns = self.theta[:-1], direction[:-1]
        pull, stiffness = self._penalty * _dot(weights, turns), self._penalty * _dot(turns, turns)
        low, high, t = 0.0, math.inf, 1.0
        for trial in range(_TRIALS):
            first, second = self._moments(t)
            there, bend = first - gained + pull + t * stiffness, second + stiffness
            if abs(there) <= _SLOPE_LEFT * abs(slope) or trial == _TRIALS - 1:
                break
            low, high = (t, high) if there < 0 else (low, t)
            newton = t - there / bend if bend > 0 else math.inf
            if not low < newton < min(high, 4 * t):
                newton = 4 * t if high == math.inf else (low + high) / 2 if low else high / 8
            t = newton
        self.theta.add_(direction, alpha=t)
        self._logits.add_(self._moves, alpha=t)
        self._to_errors()
        return t

    def _moments(self, t: float) -> tuple[float, float]:
        """Mean and variance of a row's moves under its probabilities at step length t, each averaged over the rows.

        The cross-entropy's slope and bend along the line are made of them. The probabilities stay in `_errors`.
        """
        totals = torch.zeros(2, dtype=torch.float64, device=self._z.device)
        for rows in self._rows():
            moves, probabilities = self._moves[rows], self._errors[rows]
            _softmax(torch.add(self._logits[rows], moves, alpha=t), probabilities)
            weighted = probabilities * moves
            mean = weighted.sum(dim=1)  # [r]
            spread = weighted.mul_(moves).sum(dim=1) - mean.square()
            totals += torch.stack([mean.sum(dtype=torch.float64), spread.sum(dtype=torch.float64)])
        first, second = (totals / len(self._z)).tolist()
        return first, second

    def _remember(self, step: Float[Tensor, "d+1 k"], change: Float[Tensor, "d+1 k"]) -> None:
        product = _dot(step, change)
        if product > 0:  # else rounding is all there is
            self._pairs = [*self._pairs[-_MEMORY + 1 :], _Pair(step, change, product)]

    def _objective(self) -> float:
        entropy = F.cross_entropy(self._logits, self._labels)
        return float(entropy) + self._penalty / 2 * _dot(self.theta[:-1], self.theta[:-1])

    def _to_errors(self) -> None:
        """Take the one-hot labels from the probabilities in `_errors`."""
        self._errors.scatter_add_(1, self._labels[:, None], self._errors.new_full((1, 1), -1.0).expand(len(self._z), 1))

    def _rows(self) -> Iterator[slice]:
        return (slice(start, start + _ROWS) for start in range(0, len(self._z), _ROWS))


def _softmax(logits: Float[Tensor, "r k"], out: Float[Tensor, "r k"]) -> None:
    torch.softmax(logits, dim=1, out=out)
    torch.threshold_(out, _LEAST, 0.0)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))
