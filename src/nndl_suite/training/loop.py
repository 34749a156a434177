"""The one training loop: steps, metrics log, checkpoints, resume, and a clean stop.

It knows nothing of models or data. What is trained is a `Trainable`: an object that can do a step, say all its state,
and take that state back.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nndl_suite.errors import ConfigError, Interrupted, RunError
from nndl_suite.training.agreement import Agreement
from nndl_suite.training.changes import told_changes
from nndl_suite.training.checkpoints import Checkpoint, State, save_checkpoint, take_up
from nndl_suite.training.finite import broken_tensors, went_astray
from nndl_suite.training.memory import lacks_memory
from nndl_suite.training.processes import averaged, everywhere, from_first, is_first, world_size
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.stopping import stop_requests
from nndl_suite.training.watch import Step, Watcher, ignore

_TELL_SECONDS = 0.2
Metrics = Mapping[str, Tensor | float]


class Trainable(Protocol):
    """Something that learns step by step."""

    def step(self, index: int, fraction: float) -> Metrics:
        """Do step `index`.

        Args:
            index: 0-based; whatever is random in a step is drawn from it (see `seeds`).
            fraction: Share of the run that is done, in [0, 1), by steps or by time, whichever is further.

        Returns:
            Figures of the step, as detached 0-d tensors, so that no step waits for the device.
        """
        ...

    def state(self) -> dict[str, State]:
        """Everything that steps change."""
        ...

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to a state."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How long to train, and how often to say and save."""

    stage: str
    """What a watcher shows: "pretraining"."""
    total_steps: int
    max_seconds: float | None = None
    """Stop after this much training time, if that comes before `total_steps`."""
    steps_per_epoch: int | None = None
    log_every: int = 20
    """Steps between lines of the metrics log; each line waits for the device once."""
    checkpoint_seconds: float = 60.0
    """Training time between checkpoints; the most that a kill can cost."""
    remedy: str = "lower the learning rate, or use --precision 32-true"
    """What to do where a loss or a weight is no number any more."""

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ConfigError(f"total_steps must be >= 1, got {self.total_steps}; train at least one step")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ConfigError(f"the time to train must be > 0 seconds, got {self.max_seconds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """How long it took."""

    steps: int
    seconds: float
    """Training time over all sittings of the run, without what was repeated after a kill."""


def run_loop(
    trainable: Trainable,
    settings: LoopSettings,
    run: RunFolder,
    *,
    watch: Watcher = ignore,
    end_of_epoch: Callable[[int], Mapping[str, float]] | None = None,
) -> LoopResult:
    """Train to the end, from the newest checkpoint in the run folder if there is one.

    Ctrl-C or SIGTERM ends the run after the step at hand, with a checkpoint; a second Ctrl-C ends it at once.

    Of several processes each does this. The first logs, saves and tells the watcher, and what it found in the run
    folder is where all begin; they agree on when to stop, wherever the wish came from.

    Args:
        trainable: What learns.
        settings: How long, and how often to log and save.
        run: Where the metrics log and the checkpoints go.
        watch: Told of each logged step.
        end_of_epoch: Called with the 0-based epoch after its last step; what it returns is logged.

    Raises:
        RunError: no checkpoint of the run is whole, or the newest is of other settings, other data or another version.
        Interrupted: somebody stopped the run; `--resume` goes on from the checkpoint.
        TrainingError: a figure or a tensor of the state is not finite. Checkpoints written before stay, and none is
            written of such a state. On the CPU figures are looked at in each step, elsewhere when a line of the log or
            a checkpoint is due.
    """
    index, before = _resume(trainable, run)
    asked = run.settings() if is_first() else None
    start = saved_at = told_at = time.monotonic()
    seconds = before
    metrics: Metrics = {}
    figures: dict[str, float] = {}
    agreement = Agreement()

    def save() -> None:
        state = _sound_state(trainable, settings, index)
        save_checkpoint(run.checkpoints, Checkpoint(step=index, seconds=seconds, state=state, settings=asked))

    with stop_requests() as stop:
        while index < settings.total_steps and seconds < (settings.max_seconds or math.inf):
            metrics = trainable.step(index, _fraction(index, seconds, settings))
            index += 1
            _check(trainable, settings, index, _at_hand(metrics))
            epoch_ends = settings.steps_per_epoch is not None and index % settings.steps_per_epoch == 0
            if epoch_ends or index % settings.log_every == 0 or index == settings.total_steps:
                figures = averaged(metrics)
                if epoch_ends and end_of_epoch is not None and settings.steps_per_epoch is not None:
                    figures |= end_of_epoch(index // settings.steps_per_epoch - 1)
                _check(trainable, settings, index, figures)
                run.log({"step": index, "seconds": round(before + time.monotonic() - start, 3), **figures})
            clock = before + time.monotonic() - start
            if is_first() and index < settings.total_steps and time.monotonic() - told_at >= _TELL_SECONDS:
                watch(_progress(index, clock, settings, figures))
                told_at = time.monotonic()
            saves = time.monotonic() - saved_at >= settings.checkpoint_seconds
            stops, saves, seconds = agreement.of(index, stops=stop.is_set(), saves=saves, seconds=clock)
            if stops or saves:
                _check(trainable, settings, index, averaged(metrics))
                from_first(save)
                saved_at = time.monotonic()
            if stops:
                raise everywhere(
                    Interrupted(f"stopped after step {index} of {settings.total_steps}; --resume goes on from there")
                )
    seconds = agreement.at_the_end(seconds)
    _check(trainable, settings, index, averaged(metrics))
    from_first(save)
    if is_first():
        watch(Step(stage=settings.stage, done=1, total=1, metrics=figures))
    return LoopResult(steps=index, seconds=seconds)


def _check(trainable: Trainable, settings: LoopSettings, index: int, figures: Mapping[str, float]) -> None:
    if not all(map(math.isfinite, figures.values())):
        raise everywhere(went_astray(settings.stage, index, figures, trainable.state(), settings.remedy))


def _sound_state(trainable: Trainable, settings: LoopSettings, index: int) -> dict[str, State]:
    """The state, whose tensors are all numbers."""
    state = trainable.state()
    if broken_tensors(state):  # the loss of the step that broke them may have been a number still
        raise went_astray(settings.stage, index, {}, state, settings.remedy)
    return state


def _resume(trainable: Trainable, run: RunFolder) -> tuple[int, float]:
    checkpoint = from_first(lambda: _own_checkpoint(run))
    if checkpoint is None:
        return 0, 0.0
    try:
        trainable.load_state(checkpoint.state)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        began = f"nndl-suite {checkpoint.package}" if checkpoint.package else "the version that began it"
        raise everywhere(
            RunError(
                f"the checkpoint of step {checkpoint.step} in {run.path} does not fit what is trained now "
                f"({(str(error) or repr(error)).splitlines()[0]}); finish the run with {began}, or start anew in "
                "another --out"
            )
        ) from error
    return checkpoint.step, checkpoint.seconds


def _own_checkpoint(run: RunFolder) -> Checkpoint | None:
    """The newest one, which must have been trained as `config.json` says, on the same data."""
    checkpoint, settings = take_up(run.checkpoints), run.settings()
    if checkpoint is None or checkpoint.settings is None or settings is None:
        return checkpoint
    if told := told_changes(checkpoint.settings, settings):
        raise RunError(
            f"the checkpoint of step {checkpoint.step} in {run.path} was made with other settings or data than its "
            f"config.json says ({told}); put back what was changed, or start anew in another --out"
        )
    return checkpoint


def _fraction(index: int, seconds: float, settings: LoopSettings) -> float:
    by_steps = index / settings.total_steps
    return by_steps if settings.max_seconds is None else max(by_steps, min(1.0, seconds / settings.max_seconds))


def _at_hand(metrics: Metrics) -> dict[str, float]:
    """Those figures of a step that can be read without waiting for a device or for other processes."""
    if world_size() > 1:
        return {}
    return {name: float(value) for name, value in metrics.items() if _costs_nothing(value)}


def _costs_nothing(value: Tensor | float) -> bool:
    return not isinstance(value, Tensor) or value.device.type == "cpu"


def _progress(index: int, seconds: float, settings: LoopSettings, figures: Mapping[str, float]) -> Step:
    """Progress in steps or in seconds, whichever ends the run first."""
    done, total = float(index), float(settings.total_steps)
    if settings.max_seconds is not None and seconds / settings.max_seconds > done / total:
        done, total = min(seconds, settings.max_seconds), settings.max_seconds
    return Step(stage=settings.stage, done=done, total=total, metrics=figures)
