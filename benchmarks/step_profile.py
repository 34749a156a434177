"""Where the time of a training step goes, and the work that is in it.

Every compiled kernel and every function of the sampling module that the trainer calls is wrapped where the trainer
looks it up, so that kernels which come, go or change their names are found without a list of them here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from statistics import median
from unittest.mock import patch

import numpy as np

from nndl_suite.nerf import trainer as trainer_module
from nndl_suite.nerf.kernels import nets
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.trainer import FieldTrainer, TrainSettings

WRAPPED_MODULES = ("nndl_suite.nerf.kernels", "nndl_suite.nerf.sampling")
BYTES_PER_ROW = 8
"""Two float32 features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one step must do, from the sizes."""

    rays: int
    samples: int
    """Of all rays."""
    net_gflop: float
    """Multiply-adds of the layers count twice; the backward pass costs two forward ones."""
    gathers: int
    """Table rows that the encoding reads: eight corners a level and sample."""
    scatter_rows: int
    """Table rows that the backward pass reads and writes, at most: samples without a gradient are passed over."""
    touched_rows: int
    """Distinct rows that changed in the step; Adam reads and writes these, and their two moments."""

    @property
    def table_gb(self) -> float:
        """Bytes of the table's traffic if each row came alone: gathered, read and written by the scatter, by Adam."""
        return 1e-9 * BYTES_PER_ROW * (self.gathers + 2 * self.scatter_rows + 8 * self.touched_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Median seconds of a step and of what it calls."""

    step_seconds: float
    parts: dict[str, float]
    """By the name of the function, and `other` for the rest of the step."""
    work: Work


def _callees() -> dict[str, Callable[..., object]]:
    """Functions of the wrapped modules by the name under which the trainer calls them."""
    found = vars(trainer_module).items()
    return {
        name: value
        for name, value in found
        if callable(value) and not isinstance(value, type) and value.__module__.startswith(WRAPPED_MODULES)
    }


@contextmanager
def timed_callees(spent: dict[str, float]) -> Iterator[None]:
    """While it lasts, the seconds of every call are added up in `spent`."""

    def timed(name: str, call: Callable[..., object]) -> Callable[..., object]:
        @wraps(call)
        def timing(*args: object, **options: object) -> object:
            start = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return timing

    with ExitStack() as stack:
        for name, call in _callees().items():
            stack.enter_context(patch.object(trainer_module, name, timed(name, call)))
        yield


def work_of_a_step(trainer: FieldTrainer, index: int) -> Work:
    """Does one step, to see which rows it changes."""
    settings, field = trainer.settings, trainer.field
    before = field.table.copy()
    trainer.step(index, 0.5)
    rays, levels = settings.rays, len(field.layout.cells)
    samples = rays * settings.samples
    per_sample = sum(rows * columns for rows, columns in nets.SHAPES[:-1])
    per_ray = nets.SHAPES[-1][0] * nets.SHAPES[-1][1]
    return Work(
        rays=rays,
        samples=samples,
        net_gflop=6e-9 * (samples * per_sample + rays * per_ray),
        gathers=8 * levels * samples,
        scatter_rows=8 * levels * samples,
        touched_rows=int((field.table != before).any(axis=1).sum()),
    )


def profile(photos: PosedPhotos, settings: TrainSettings, *, warmup: int, steps: int) -> Profile:
    """Train `warmup` steps, so that the density grid knows where the scene is, then time `steps` of them."""
    trainer = FieldTrainer(photos, settings)
    for index in range(warmup):
        trainer.step(index, 0.1)
    seconds, parts = [], []
    for index in range(warmup, warmup + steps):
        spent: dict[str, float] = {}
        with timed_callees(spent):
            start = time.perf_counter()
            trainer.step(index, 0.1)
            seconds.append(time.perf_counter() - start)
        parts.append({**spent, "other": seconds[-1] - sum(spent.values())})
    names = sorted({name for part in parts for name in part})
    return Profile(
        step_seconds=median(seconds),
        parts={name: float(np.median([part.get(name, 0.0) for part in parts])) for name in names},
        work=work_of_a_step(trainer, warmup + steps),
    )


def step_seconds(photos: PosedPhotos, settings: TrainSettings, *, steps: int) -> float:
    """Median seconds of the first steps of a new field, the very first not counted."""
    trainer, seconds = FieldTrainer(photos, settings), []
    for index in range(steps + 1):
        start = time.perf_counter()
        trainer.step(index, 0.1)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])
