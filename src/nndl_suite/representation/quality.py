"""How good features are, without training anything on them, and whether they have collapsed.

The figures are for a person to watch while a backbone learns. Each is a pure function of features; none looks at a test
split, and labels, where there are any, serve the report alone.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from nndl_suite.data.splits import stratified_split
from nndl_suite.errors import ConfigError
from nndl_suite.representation.knn import FittedKnn
from nndl_suite.representation.rank import effective_rank

NEIGHBOURS = 20
KNN_TEMPERATURE = 0.1
"""Fixed, not chosen: this accuracy is to be compared along a run, not to be reported as a score."""

COLLAPSED_SPREAD = 0.05
COLLAPSED_RANK = 1.5
LOW_RANK_SHARE = 0.03
RANK_FALL = 0.5
"""See `collapse_warning`."""

_QUERIES = 4
"""One row in this many asks, the others are the bank."""
_CHUNK = 512
"""Rows whose similarities to all others are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Figures of the features of a sample of images; NaN where features are not finite.

    "On the sphere" means of features brought to length 1.
    """

    spread: float
    """In [0, 1]: 0 where all features point the same way, 1 where they point everywhere alike."""
    effective_rank: float
    """In [1, min(images, feature_dim)]: how many directions they use."""
    alignment: float
    """In [0, 4]: mean squared distance between two views of an image, on the sphere; less is better."""
    uniformity: float
    """In [-8, 0]: log of the mean Gaussian potential of pairs, on the sphere; less is better."""
    embedding_spread: float | None
    """As `spread`, of what the method compares: the features after its projector. None where it has none."""
    embedding_rank: float | None
    """Likewise, in [1, min(images, embedding_dim)]."""
    knn_accuracy: float | None
    """A share in [0, 1], of training images that were left out of the bank, not a test score; None without labels."""
    images: int
    feature_dim: int
    embedding_dim: int | None

    def figures(self) -> dict[str, float]:
        """What a metrics log takes: numbers under the names of the fields."""
        counts = ("images", "feature_dim", "embedding_dim")
        return {name: value for name, value in asdict(self).items() if value is not None and name not in counts}


def measure_quality(
    plain: Float[Tensor, "n d"],
    view_one: Float[Tensor, "n d"],
    view_two: Float[Tensor, "n d"],
    *,
    embeddings: Float[Tensor, "n e"] | None = None,
    labels: Int64[Tensor, "n"] | None = None,
) -> Quality:
    """All figures of one sample.

    Args:
        plain: Features of the images as they are, as a probe will see them: spread, rank and neighbours are of these.
        view_one: Of a random view of each image; uniformity is of these, as in its paper.
        view_two: Of another random view of each; alignment is between the two.
        embeddings: Of the images as they are, where the method has a projector.
        labels: Where there are any; a quarter of the rows, each class in proportion, asks the other three quarters.

    Raises:
        ConfigError: fewer than two images.
    """
    n, dim = plain.shape
    if n < 2:
        raise ConfigError(f"the quality of features is a matter of >= 2 images, got {n}")
    return Quality(
        spread=spread(plain),
        effective_rank=_rank(plain),
        alignment=alignment(view_one, view_two),
        uniformity=uniformity(view_one),
        embedding_spread=None if embeddings is None else spread(embeddings),
        embedding_rank=None if embeddings is None else _rank(embeddings),
        knn_accuracy=None if labels is None or n < _QUERIES else _left_out_accuracy(plain, labels),
        images=n,
        feature_dim=dim,
        embedding_dim=None if embeddings is None else embeddings.shape[1],
    )


def _rank(features: Float[Tensor, "n d"]) -> float:
    finite = bool(features.isfinite().all())  # the decomposition ends in an exception otherwise
    return effective_rank(features) if finite else math.nan


def spread(features: Float[Tensor, "n d"]) -> float:
    """Mean over dimensions of the standard deviation of L2-normalised features, times sqrt(d): SimSiam's watch.

    From arXiv 2011.10566, section 4.1, there without the sqrt(d). It is at most sqrt(1 - |m|^2), m the mean of the
    normalised features.

    Returns:
        A value in [0, 1]: 0 where all features are positive multiples of one, 1 for an isotropic cloud about 0.
    """
    unit = F.normalize(features.float(), dim=1)
    return unit.std(dim=0, correction=0).mean().item() * math.sqrt(features.shape[1])


def alignment(view_one: Float[Tensor, "n d"], view_two: Float[Tensor, "n d"]) -> float:
    """Mean squared distance between L2-normalised features of two views (arXiv 2005.10242, eq. 3 with alpha 2).

    Returns:
        A value in [0, 4]; 2 is what unrelated directions have, less is better, and 0 also means collapse.
    """
    total = view_one.new_zeros((), dtype=torch.float64)
    for one, two in zip(view_one.float().split(_CHUNK), view_two.float().split(_CHUNK), strict=True):
        total += (F.normalize(one, dim=1) - F.normalize(two, dim=1)).square().sum(dtype=torch.float64)
    return total.item() / len(view_one)


def uniformity(features: Float[Tensor, "n d"]) -> float:
    """Log of the mean of exp(-2 |x - y|^2) over all pairs, L2-normalised (arXiv 2005.10242, eq. 4 with t 2).

    Returns:
        A value in [-8, 0]; about -4 + 8 / d for directions drawn uniformly in many dimensions, 0 for a single one.
    """
    unit = F.normalize(features.float(), dim=1)
    n, squares = len(unit), unit.square().sum(dim=1)  # 1 each, but 0 for a feature of zeros
    total = unit.new_zeros((), dtype=torch.float64)
    for start in range(0, n, _CHUNK):
        rows = unit[start : start + _CHUNK]
        distances = (squares[start : start + _CHUNK, None] + squares - 2 * rows @ unit.T).clamp_min_(0)  # squared
        potentials = distances.mul_(-2).exp_()
        potentials.diagonal(start).zero_()  # no row is its own pair
        total += potentials.sum(dtype=torch.float64)
    return math.log(total.item() / (n * (n - 1)))


def knn_accuracy(
    bank: Float[Tensor, "n d"],
    bank_labels: Int64[Tensor, "n"],
    queries: Float[Tensor, "q d"],
    query_labels: Int64[Tensor, "q"],
) -> float:
    """The share of queries that their `NEIGHBOURS` nearest rows of the bank name rightly, see `knn`."""
    classes, targets = torch.unique(bank_labels, return_inverse=True)
    voters = FittedKnn(
        bank=F.normalize(bank.float(), dim=1),
        targets=targets,
        classes=classes,
        neighbours=min(NEIGHBOURS, len(bank)),
        temperature=KNN_TEMPERATURE,
        val_accuracy=math.nan,  # nothing was chosen
    )
    return (voters.predict(queries.float()) == query_labels).double().mean().item()


def _left_out_accuracy(features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"]) -> float:
    bank, queries = stratified_split(labels.cpu(), held_out=len(labels) // _QUERIES, seed=0)
    bank, queries, labels = bank.to(features.device), queries.to(features.device), labels.to(features.device)
    return knn_accuracy(features[bank], labels[bank], features[queries], labels[queries])


@dataclass(frozen=True, slots=True)
class _Cloud:
    """Spread and rank at one time, of features or of embeddings."""

    spread: float
    rank: float
    most: int
    """The highest rank there could be."""


def collapse_warning(history: Sequence[Quality]) -> str | None:
    """A sentence where the newest features, or the embeddings that the method compares, have collapsed; else None.

    Embeddings collapse first: batch norm keeps a backbone's features apart, while the projector's last layer takes away
    all gradient and what learning there was stops.

    Completely, if either holds:
    - Their spread is under `COLLAPSED_SPREAD` and no longer rises. At 0.05 the mean cosine of two images is about
      0.998. Measured with a ResNet-18 of a quarter of the width: when only alike views were asked for, embeddings went
      from 0.09 through 0.04 (80 steps) to 0.02 (400 steps), where SimCLR's went to 0.88 and SimSiam's to 0.6. Untrained
      features lie at 0.08 to 0.24 (ResNets), 0.8 (a vision transformer). Rounding to bf16 alone makes 0.001 to 0.002.
    - Their effective rank is under `COLLAPSED_RANK`: nine tenths of the singular values' sum are one direction's.

    In dimension, if all hold:
    - Their effective rank is under `LOW_RANK_SHARE` of what it could be. The collapsed embeddings above were at 2 to
      3 %, healthy ones at 14 to 23 %, healthy features at 25 to 30 %.
    - It has fallen to `RANK_FALL` of its highest or less. Few directions can be good ones: ten classes need ten.
    - Where labels tell, the neighbours' accuracy is below its highest: a fall that costs nothing lost nothing.

    Args:
        history: The figures of one run, oldest first.
    """
    if not history:
        return None
    features = [_Cloud(q.spread, q.effective_rank, min(q.images, q.feature_dim)) for q in history]
    embeddings = [
        _Cloud(q.embedding_spread, q.embedding_rank, min(q.images, q.embedding_dim))
        for q in history
        if q.embedding_spread is not None and q.embedding_rank is not None and q.embedding_dim is not None
    ]
    accuracies = [q.knn_accuracy for q in history if q.knn_accuracy is not None]
    still_learns = bool(accuracies) and accuracies[-1] >= max(accuracies)
    for name, clouds in (("features", features), ("embeddings", embeddings)):
        told = _collapse(clouds, still_learns=still_learns)
        if told is not None:
            return f"the {name} have collapsed {told}; try a lower learning rate, a larger batch or another method"
    return None


def _collapse(clouds: Sequence[_Cloud], *, still_learns: bool) -> str | None:
    """How, to follow "have collapsed"; None where they have not."""
    if not clouds:
        return None
    now, before = clouds[-1], clouds[-2] if len(clouds) > 1 else None
    figures = f"spread {now.spread:.2g}, effective rank {now.rank:.1f} of {now.most}"
    flat = now.spread < COLLAPSED_SPREAD and (before is None or now.spread <= before.spread)
    if flat or now.rank < COLLAPSED_RANK:
        return f"to one direction ({figures}; spread is 1 where they point everywhere alike)"
    highest = max(cloud.rank for cloud in clouds)
    if now.rank < LOW_RANK_SHARE * now.most and now.rank <= RANK_FALL * highest and not still_learns:
        return f"to few directions ({figures}, it was {highest:.1f})"
    return None
