"""Figures over seeds: what networks score beside accuracy, each by seed, with its mean and its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from nndl_suite.comparison.scores import NetworkScores
from nndl_suite.training.intervals import Interval, share_interval, student_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure over seeds."""

    by_seed: tuple[float, ...]
    mean: float
    ci95: Interval | None
    """Student's t over seeds; None for one seed, which says nothing about seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Of an arm, or of one arm minus the other; `NetworkScores` says what each is."""

    top5: Measure | None
    """None below six classes."""
    ece: Measure
    nll: Measure
    train_accuracy: Measure
    gap: Measure
    """Training minus test accuracy."""
    corrupted: Measure
    """Mean accuracy over the corruptions."""


def share(values: Sequence[float]) -> Measure:
    """Of figures that lie in [0, 1]."""
    return Measure(by_seed=tuple(values), mean=fmean(values), ci95=share_interval(values) if values[1:] else None)


def signed(values: Sequence[float]) -> Measure:
    """Of figures with no bounds."""
    return Measure(by_seed=tuple(values), mean=fmean(values), ci95=student_interval(values) if values[1:] else None)


def measures(networks: Sequence[NetworkScores]) -> Measures:
    """Of one arm, from its networks in the order of their seeds."""
    top5 = [network.top5 for network in networks if network.top5 is not None]
    return Measures(
        top5=share(top5) if top5 else None,
        ece=share([network.ece for network in networks]),
        nll=signed([network.nll for network in networks]),
        train_accuracy=share([network.train_accuracy for network in networks]),
        gap=signed([network.gap for network in networks]),
        corrupted=share([network.corrupted for network in networks]),
    )


def paired_measures(pairs: Sequence[tuple[NetworkScores, NetworkScores]]) -> Measures:
    """Second minus first, pair by pair; each pair is of one seed."""

    def difference(of: Callable[[NetworkScores], float]) -> Measure:
        return signed([of(second) - of(first) for first, second in pairs])

    top5 = [second.top5 - first.top5 for first, second in pairs if first.top5 is not None and second.top5 is not None]
    return Measures(
        top5=signed(top5) if top5 else None,
        ece=difference(lambda network: network.ece),
        nll=difference(lambda network: network.nll),
        train_accuracy=difference(lambda network: network.train_accuracy),
        gap=difference(lambda network: network.gap),
        corrupted=difference(lambda network: network.corrupted),
    )
