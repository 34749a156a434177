"""How engines tell the outside what they are doing: they call a watcher, they never print."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One report of progress."""

    stage: str
    """What is being done, for a person: "pretraining", "matching photos"."""
    done: float
    total: float
    """In the stage's own unit (steps, photos, seconds); done == total ends the stage."""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """The newest figures, few enough to show beside a bar."""


Watcher = Callable[[Step], None]


def ignore(_: Step) -> None:
    """The watcher of a run that nobody watches."""


def within(watch: Watcher, what: str) -> Watcher:
    """A watcher that is told of stages as parts of something: "row 2 of 9, byol on cifar10: pretraining"."""
    return lambda step: watch(replace(step, stage=f"{what}: {step.stage}"))
