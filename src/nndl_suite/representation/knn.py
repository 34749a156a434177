"""The k-nearest-neighbours protocol (arXiv 1805.01978, section 3.4): no classifier is trained.

The nearest training images by cosine similarity s vote for their class, each with weight exp(s / temperature).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.representation.choice import Rows, rows_for_choice
from nndl_suite.training.watch import Step, Watcher, ignore

NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
"""Numbers of neighbours tried, as far as there are rows."""
TEMPERATURES = (0.02, 0.05, 0.07, 0.1, 0.2, 0.5)
"""The paper has 0.07; low ones listen to the nearest, high ones count heads."""

_SIMILARITIES = 2**24
"""Held at a time: 64 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedKnn:
    """All rows as neighbours, and what validation chose."""

    bank: Float[Tensor, "n d"]
    """Of unit length."""
    targets: Int64[Tensor, "n"]
    """Each row's position in `classes`."""
    classes: Int64[Tensor, "k"]
    """The labels, ascending."""
    neighbours: int
    temperature: float
    val_accuracy: float

    @property
    def chosen(self) -> dict[str, float]:
        """The number of neighbours k, and the temperature."""
        return {"k": self.neighbours, "temperature": self.temperature}

    @property
    def feature_dim(self) -> int:
        """Columns of the features it takes."""
        return self.bank.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the features must be."""
        return self.bank.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the features that it was fitted on."""
        return self.bank.dtype

    def predict(self, features: Float[Tensor, "n d"]) -> Int64[Tensor, "n"]:
        """The label with the most votes for each row."""
        return self.classes[self.votes(features).argmax(dim=1)]

    def votes(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Each class's votes, up to a factor for each row."""
        similarities, rows = nearest(_unit(features), self.bank, self.neighbours)
        weights = vote_weights(similarities, self.temperature)
        return _counted(weights, self.targets[rows], len(self.classes))


def fit_knn(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, "n"],
    *,
    mirrored: Float[Tensor, "n d"] | None = None,
    seed: int,
    watch: Watcher = ignore,
) -> FittedKnn:
    """Choose the number of neighbours and the temperature on a stratified tenth of the rows; then all are neighbours.

    Args:
        features: One row an image.
        labels: One an image.
        mirrored: The same images' features in the mirror, neighbours too.
        seed: Decides the split.
        watch: Told of the search for neighbours.

    Raises:
        DataError: there are under two classes or ten rows.
    """
    rows = rows_for_choice(labels, seed=seed)
    bank = _unit(features)
    kept, targets, everyone = bank[rows.kept], rows.targets[rows.kept], rows.targets
    if mirrored is not None:
        turned = _unit(mirrored)
        kept, targets = torch.cat([kept, turned[rows.kept]]), torch.cat([targets, targets])
        everyone = torch.cat([everyone, everyone])
    similarities, found = nearest(
        bank[rows.held_out], kept, min(max(NEIGHBOURS), len(kept)), stage="neighbours for the choice", watch=watch
    )
    accuracies = dict(_accuracies(similarities, targets[found], rows))
    neighbours, temperature = max(accuracies, key=accuracies.__getitem__)  # fewest neighbours of equals, then coldest
    return FittedKnn(
        bank=bank if mirrored is None else torch.cat([bank, _unit(mirrored)]),
        targets=everyone,
        classes=rows.classes,
        neighbours=neighbours,
        temperature=temperature,
        val_accuracy=accuracies[neighbours, temperature],
    )


def _unit(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length 1, however small they were; a row of zeros stays one."""
    return F.normalize(features, dim=1, eps=torch.finfo(features.dtype).tiny)


def nearest(
    queries: Float[Tensor, "m d"],
    bank: Float[Tensor, "n d"],
    count: int,
    *,
    stage: str = "neighbours",
    watch: Watcher = ignore,
) -> tuple[Float[Tensor, "m c"], Int64[Tensor, "m c"]]:
    """The `count` rows of the bank that are most similar to each query, the most similar first.

    Args:
        queries: Of unit length.
        bank: Of unit length, at least `count` rows.
        count: How many, >= 1.
        stage: What a watcher is told.
        watch: Told of progress.

    Returns:
        Cosine similarities in [-1, 1], and rows of the bank.
    """
    similarities = queries.new_empty(len(queries), count)
    rows = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
    chunk = max(1, _SIMILARITIES // len(bank))
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        torch.topk(queries[part] @ bank.T, count, dim=1, out=(similarities[part], rows[part]))
        watch(Step(stage=stage, done=min(start + chunk, len(queries)), total=len(queries)))
    return similarities, rows


def vote_weights(similarities: Float[Tensor, "m c"], temperature: float) -> Float[Tensor, "m c"]:
    """exp(s / temperature), divided by the nearest neighbour's so that nothing overflows."""
    return ((similarities - similarities[:, :1]) / temperature).exp_()


def _accuracies(
    similarities: Float[Tensor, "m c"], targets: Int64[Tensor, "m c"], rows: Rows
) -> Iterator[tuple[tuple[int, float], float]]:
    """Held-out accuracy by (neighbours, temperature); more neighbours go on counting where fewer ended."""
    answers = rows.targets[rows.held_out]
    limit = similarities.shape[1]
    weights = {temperature: vote_weights(similarities, temperature) for temperature in TEMPERATURES}
    votes = {temperature: similarities.new_zeros(len(answers), len(rows.classes)) for temperature in TEMPERATURES}
    counted = 0
    for neighbours in sorted({min(count, limit) for count in NEIGHBOURS}):
        more = slice(counted, neighbours)
        for temperature in TEMPERATURES:
            votes[temperature].scatter_add_(1, targets[:, more], weights[temperature][:, more])
            right = votes[temperature].argmax(dim=1) == answers
            yield (neighbours, temperature), right.double().mean().item()
        counted = neighbours


def _counted(weights: Float[Tensor, "m c"], targets: Int64[Tensor, "m c"], num_classes: int) -> Float[Tensor, "m k"]:
    return weights.new_zeros(len(weights), num_classes).scatter_add_(1, targets, weights)
