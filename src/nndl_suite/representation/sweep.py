"""Which hyper-parameters? Every combination pretrained, the best chosen on validation images, that one alone tested."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import ConfigError, TrainingError, unknown_name
from nndl_suite.representation.budget import planned_steps, split_for
from nndl_suite.representation.pretrain_config import SPEED_ONLY
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.probe import LinearProbe, ProbeResult
from nndl_suite.representation.validation import Validated, validate
from nndl_suite.training.files import Json
from nndl_suite.training.intervals import Interval, share_interval
from nndl_suite.training.locks import only_writer
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore, within

Design = Literal["product", "one-at-a-time"]

VARIED = ("temperature", "projector_dim", "batch_size", "learning_rate", "augmentation")
"""Settings of `PretrainConfig` that can be swept over."""
_ROWS_OWN = ("seed", *SPEED_ONLY)
_WHOLE = ("projector_dim", "batch_size")

Combination = Mapping[str, float]
"""Values by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vary:
    """One setting and the values to try."""

    name: str
    values: tuple[float, ...]
    """Different ones; the first is where `one-at-a-time` stays while another setting is varied."""

    def __post_init__(self) -> None:
        if self.name not in VARIED:
            raise unknown_name("setting to vary", self.name, VARIED)
        if not self.values or len(set(self.values)) != len(self.values):
            raise ConfigError(f"{self.name} wants one or more different values, got {list(self.values)}")
        for value in self.values:
            if not math.isfinite(value) or (self.name in _WHOLE and value != int(value)):
                raise ConfigError(
                    f"{self.name} must be a {'whole' if self.name in _WHOLE else 'finite'} number, got {value}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """What to try."""

    dataset: str
    """Pretraining set."""
    downstream: str
    """A labelled set; a tenth of its training images chooses, by the linear probe."""
    vary: tuple[Vary, ...]
    design: Design = "product"
    """All combinations, or one setting at a time off the first value of each."""
    pretraining: SSLPretrainer = field(default_factory=SSLPretrainer)
    """All that is not varied; the seed is the row's."""
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.design not in get_args(Design):
            raise unknown_name("design", self.design, get_args(Design))
        self.pretraining.check_alone()
        names = [vary.name for vary in self.vary]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a sweep varies one or more different settings, got {names}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds must be one or more different numbers, got {list(self.seeds)}")
        for combination in self.combinations:
            self.pretrainer(combination, seed=0)  # refuses what the method does not have

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """What is tried, in the order of the table."""
        tried = {
            vary.name: [int(value) if vary.name in _WHOLE else value for value in vary.values] for vary in self.vary
        }
        if self.design == "product":
            return tuple(dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values()))
        centre: Combination = {name: values[0] for name, values in tried.items()}
        return (centre, *({**centre, name: value} for name, values in tried.items() for value in values[1:]))

    def pretrainer(self, combination: Combination, *, seed: int) -> SSLPretrainer:
        """What trains a combination."""
        own = self.pretraining
        width = combination.get("projector_dim", own.projector_dim)
        return replace(
            own,
            temperature=combination.get("temperature", own.temperature),
            projector_dim=None if width is None else int(width),
            batch_size=int(combination.get("batch_size", own.batch_size)),
            learning_rate=combination.get("learning_rate", own.learning_rate),
            augmentation=combination.get("augmentation", own.augmentation),
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCombination:
    """A combination and what it costs."""

    settings: Combination
    steps: int
    """For each seed."""

    @property
    def folder(self) -> str:
        """Without the seed."""
        return "_".join(f"{name}-{value!r}" for name, value in self.settings.items())

    @property
    def told(self) -> str:
        """For a person."""
        return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self.settings.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What will be trained, before any of it is."""

    rows: tuple[PlannedCombination, ...]
    images: int
    fingerprints: tuple[str, str]
    """Of the pretraining images and the downstream training images."""
    seeds: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Of all rows and seeds."""
        return len(self.seeds) * sum(row.steps for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """A combination and how its features do on validation images."""

    settings: Combination
    val_accuracy: tuple[float, ...]
    """By seed. Each is the best of the probe's penalties, so it flatters a little, alike in all rows."""
    mean: float
    ci95: Interval | None
    """Of the mean over seeds (Student's t); None for one seed."""
    final_loss: float
    """Mean over seeds; not comparable across temperatures, batch sizes or widths."""
    effective_rank: float
    steps: int
    seconds: float
    """Pretraining time of one seed, mean over seeds."""
    warning: str | None
    """What is wrong with the features of some seed, if something is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """A combination that cannot be trained."""

    settings: Combination
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """Which combination, and what it is worth on images that had no part in the choice."""

    path: Path
    rows: tuple[SweepRow, ...]
    """Test images are looked at for none of them."""
    diverged: tuple[Diverged, ...]
    """Of them at least one seed ended in a loss that is no number."""
    chosen: int
    """Which row: the best mean validation accuracy, the first of equals."""
    test_accuracy: tuple[float, ...]
    """Of the chosen row, by seed."""
    test_mean: float
    test_ci95: Interval
    """Student's t over seeds, or for one seed Wilson's over test images."""
    seconds: float
    """Training and probing time of all rows."""


def plan_sweep(config: SweepConfig, *, data_root: Path | str | None = None, watch: Watcher = ignore) -> SweepPlan:
    """Count steps, and train nothing.

    Raises:
        ConfigError: a batch size is larger than the set.
        DataError: a set is missing, or the downstream set has no labels.
    """
    images = load_image_set(config.dataset, split_for(config.pretraining.method), data_root=data_root, watch=watch)
    train = load_image_set(config.downstream, "train", data_root=data_root, watch=watch)
    train.required_labels()
    rows = tuple(
        PlannedCombination(
            settings=combination,
            steps=planned_steps(config.pretrainer(combination, seed=0), len(images), config.dataset),
        )
        for combination in config.combinations
    )
    return SweepPlan(
        rows=rows, images=len(images), fingerprints=(images.fingerprint, train.fingerprint), seeds=config.seeds
    )


def run_sweep(
    config: SweepConfig,
    *,
    out: Path | str,
    resume: bool = False,
    data_root: Path | str | None = None,
    watch: Watcher = ignore,
) -> SweepResult:
    """Pretrain every combination, choose by the validation accuracy of its linear probe, and test the chosen one.

    Each pretraining and each validation is a run of its own below `out`, so that a sweep goes on where it stopped.

    Args:
        config: What to try.
        out: The run folder.
        resume: Go on with the sweep in `out`.
        data_root: Where named sets lie.
        watch: Told of progress.

    Raises:
        ConfigError: a batch size is larger than the set, or another setting does not fit.
        DataError: a set is missing, or the downstream set has no labels.
        RunError: `out` holds another run.
        TrainingError: no combination can be trained.
        Interrupted: somebody stopped the sweep; `resume` goes on.
    """
    plan = plan_sweep(config, data_root=data_root, watch=watch)
    run = open_run(out, kind="sweep", settings=_settings(config, plan), resume=resume)
    with only_writer(run.path):
        return _sweep(config, plan, run, data_root, watch)


def _sweep(
    config: SweepConfig, plan: SweepPlan, run: RunFolder, data_root: Path | str | None, watch: Watcher
) -> SweepResult:
    train = load_image_set(config.downstream, "train", data_root=data_root, watch=watch)
    place_of_runs = run.path.resolve()  # a probe's settings name the folder that it reads
    found: list[list[tuple[PretrainRun, Validated]]] = [[] for _ in plan.rows]
    diverged: dict[int, str] = {}
    todo = [(seed, place) for seed in config.seeds for place in range(len(plan.rows))]
    for count, (seed, place) in enumerate(todo, start=1):
        if place in diverged:
            continue
        planned = plan.rows[place]
        told = within(watch, f"row {count} of {len(todo)}, {planned.told}, seed {seed}")
        name = f"{planned.folder}_seed{seed}"
        pretrainer, folder = config.pretrainer(planned.settings, seed=seed), place_of_runs / "pretrain" / name
        try:
            pretrained = pretrainer.fit(config.dataset, out=folder, resume=True, data_root=data_root, watch=told)
        except TrainingError as error:
            diverged[place] = str(error)
            continue
        scored = validate(
            pretrained,
            train,
            out=place_of_runs / "validation" / name,
            seed=seed,
            device=config.pretraining.device,
            watch=told,
        )
        found[place].append((pretrained, scored))
    if len(diverged) == len(plan.rows):
        raise TrainingError(f"no combination can be trained; the first: {diverged[0]}")
    trained = [place for place in range(len(plan.rows)) if place not in diverged]
    rows = tuple(_row(plan.rows[place], found[place]) for place in trained)
    chosen = max(range(len(rows)), key=lambda row: rows[row].mean)
    best = trained[chosen]
    tests: list[ProbeResult] = []
    for seed, (pretrained, _) in zip(config.seeds, found[best], strict=True):
        told = within(watch, f"testing the chosen row, seed {seed}")
        probe = LinearProbe(features=pretrained, seed=seed, device=config.pretraining.device)
        folder = place_of_runs / "probe" / f"{plan.rows[best].folder}_seed{seed}"
        tests.append(probe.evaluate(config.downstream, out=folder, resume=True, data_root=data_root, watch=told))
    accuracies = [test.test_accuracy for test in tests]
    result = SweepResult(
        path=run.path,
        rows=rows,
        diverged=tuple(Diverged(settings=plan.rows[place].settings, why=why) for place, why in diverged.items()),
        chosen=chosen,
        test_accuracy=tuple(accuracies),
        test_mean=_mean(accuracies),
        test_ci95=share_interval(accuracies) if len(tests) > 1 else tests[0].test_accuracy_ci95,
        seconds=sum(part.seconds for row in found for scored in row for part in scored)
        + sum(test.seconds for test in tests),
    )
    _write_result(run, config, result)
    return result


def _settings(config: SweepConfig, plan: SweepPlan) -> dict[str, Json]:
    pretraining = {name: value for name, value in asdict(config.pretraining).items() if name not in _ROWS_OWN}
    return {
        "dataset": config.dataset,
        "downstream": config.downstream,
        "vary": {vary.name: list(vary.values) for vary in config.vary},
        "design": config.design,
        "seeds": list(config.seeds),
        "fingerprints": list(plan.fingerprints),
        "pretraining": pretraining,
    }


def _row(planned: PlannedCombination, scores: Sequence[tuple[PretrainRun, Validated]]) -> SweepRow:
    accuracies = [scored.val_accuracy for _, scored in scores]
    return SweepRow(
        settings=planned.settings,
        val_accuracy=tuple(accuracies),
        mean=_mean(accuracies),
        ci95=share_interval(accuracies) if len(accuracies) > 1 else None,
        final_loss=_mean([run.final_loss for run, _ in scores]),
        effective_rank=_mean([run.effective_rank for run, _ in scores]),
        steps=planned.steps,
        seconds=_mean([run.seconds for run, _ in scores]),
        warning=next((run.warning for run, _ in scores if run.warning), None),
    )


def _write_result(run: RunFolder, config: SweepConfig, result: SweepResult) -> None:
    rows: list[Json] = [asdict(row) for row in result.rows]
    run.finish(
        "sweep",
        seconds=result.seconds,
        seed=config.seeds[0],
        fields={
            "dataset": config.dataset,
            "downstream": config.downstream,
            "method": config.pretraining.method,
            "backbone": config.pretraining.backbone,
            "design": config.design,
            "vary": {vary.name: list(vary.values) for vary in config.vary},
            "seeds": list(config.seeds),
            "rows": rows,
            "diverged": [asdict(one) for one in result.diverged],
            "chosen": result.chosen,
            "chosen_by": "mean validation accuracy of the linear probe",
            "test_accuracy": list(result.test_accuracy),
            "test_mean": result.test_mean,
            "test_ci95": list(result.test_ci95),
            "interval": "student-t over seeds" if len(config.seeds) > 1 else "wilson over test images",
        },
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
