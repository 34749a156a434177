"""How much a tuning may try: the same for every arm, or their comparison says nothing."""

from dataclasses import asdict, dataclass

from optuna.pruners import BasePruner, MedianPruner

from nndl_suite.errors import ConfigError
from nndl_suite.training.files import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Trials and their length. A trial that is pruned, or whose loss stops being a number, has used up its place."""

    trials: int = 20
    epochs: int = 10
    """Of each trial: a whole training, with its own warm-up and decay of the rate."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ConfigError(f"{name} must be >= 1, got {value}")

    @property
    def random_trials(self) -> int:
        """How many first trials are drawn at random, before TPE has anything to go by."""
        return max(1, min(10, self.trials // 3))

    @property
    def unpruned_trials(self) -> int:
        """How many trials must have ended before any is pruned."""
        return max(1, min(5, self.trials // 4))

    @property
    def unpruned_epochs(self) -> int:
        """No trial is pruned before its epoch of this number."""
        return max(1, self.epochs // 3)

    def stated(self) -> dict[str, Json]:
        """For `result.json`."""
        return {
            "trials": self.trials,
            "epochs": self.epochs,
            "sampler": f"TPE, the first {self.random_trials} at random",
            "pruner": f"median of {self.unpruned_trials} or more complete trials, from epoch {self.unpruned_epochs} on",
        }

    def make_pruner(self) -> BasePruner:
        """Stops a trial whose best accuracy so far is below the median of the others' at the same epoch.

        Successive halving and Hyperband keep a quarter or a third of the trials by their first epochs. With a warm-up
        and a cosine, that order is not the order at the end: large rates pay late. The median is milder, and needs no
        brackets, for which some ten to forty trials are too few.
        """
        return MedianPruner(n_startup_trials=self.unpruned_trials, n_warmup_steps=self.unpruned_epochs)
