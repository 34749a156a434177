"""What are learned features worth beside ImageNet's, random ones, and labels from the start? One table for all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.cifar100_superclasses import superclass_indices
from nndl_suite.data.image_set import ImageSet
from nndl_suite.errors import TrainingError
from nndl_suite.report.confusion import Confusion, worst_confusions
from nndl_suite.representation.embedding_map import write_map
from nndl_suite.representation.features import load_feature_source
from nndl_suite.representation.pretrain_config import SPEED_ONLY
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.representation.study_plan import StudyConfig, StudyPlan, plan_study
from nndl_suite.representation.study_rows import Row
from nndl_suite.representation.study_scores import SeedScore, StudyScore, best_row, score_rows
from nndl_suite.training.fabric import make_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.locks import only_writer
from nndl_suite.training.predictions import read_predictions
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore, within

_ROWS_OWN = ("method", "seed", *SPEED_ONLY)
_CONFUSIONS = 15
_MAP_IMAGES = 1000

Features = str | Path | PretrainRun
Scores = Mapping[tuple[str, str], Sequence[SeedScore]]
"""By the row's name and the protocol: seed by seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """The table of a study, and what its best row mixes up."""

    path: Path
    rows: tuple[StudyScore, ...]
    """Row by row, protocol by protocol."""
    absent: dict[str, str]
    """Rows that could not be had, and why: no weights, or a training that went astray."""
    best: StudyScore
    """By validation accuracy under the first protocol, scratch aside."""
    best_ssl: StudyScore
    confusions: tuple[Confusion, ...]
    """Of the best row, the commonest first."""
    seconds: float
    """Training and probing time of all rows."""


def run_study(
    config: StudyConfig,
    *,
    out: Path | str,
    resume: bool = False,
    data_root: Path | str | None = None,
    watch: Watcher = ignore,
) -> StudyResult:
    """Train every row that is trained, probe all of them by the same protocols, and put them into one table.

    Each pretraining and each probe is a run of its own below `out`, so a study goes on where it stopped. The test
    split is read once by each probe; the map of test images is drawn after everything is chosen.

    Args:
        config: What to compare.
        out: The run folder.
        resume: Go on with the study in `out`.
        data_root: Where named sets lie.
        watch: Told of progress.

    Raises:
        ConfigError: a setting does not fit.
        DataError: images or weights are missing or unusable.
        RunError: `out` holds another run.
        TrainingError: no method could be trained.
        Interrupted: somebody stopped the study; `resume` goes on.
    """
    plan = plan_study(config, data_root=data_root, watch=watch)
    run = open_run(out, kind="study", settings=_settings(config, plan), resume=resume)
    with only_writer(run.path):
        return _study(config, plan, run, data_root, watch)


def _study(
    config: StudyConfig, plan: StudyPlan, run: RunFolder, data_root: Path | str | None, watch: Watcher
) -> StudyResult:
    work = _Work(config, run.path.resolve(), data_root, plan.image_size)  # a probe's settings name the folder it reads
    present = [planned.row for planned in plan.rows if planned.absent is None]
    absent = {planned.row.name: planned.absent for planned in plan.rows if planned.absent is not None}
    scores: dict[tuple[str, str], list[SeedScore]] = {}
    seconds = 0.0
    # seed by seed, so that a study that is stopped early has pairs
    todo = [(seed, row) for seed in config.seeds for row in present]
    for count, (seed, row) in enumerate(todo, start=1):
        told = within(watch, f"row {count} of {len(todo)}, {row.name}, seed {seed}")
        if row.name in absent:
            continue
        try:
            features = work.features(row, seed, told)
        except TrainingError as error:
            absent[row.name] = str(error)
            continue
        seconds += features.seconds if isinstance(features, PretrainRun) else 0.0
        for protocol in config.protocols:
            score = work.probe(row, features, seed, protocol, told)
            scores.setdefault((row.name, protocol), []).append(score)
            seconds += score.seconds
    test = load_image_set(config.downstream, "test", data_root=data_root, watch=watch)
    result = _summary(config, absent, scores, test, run.path, seconds)
    work.draw_map((result.best_ssl.name, "random"), test, watch)
    _write_result(run, config, result, test)
    return result


def _settings(config: StudyConfig, plan: StudyPlan) -> dict[str, Json]:
    shared = {name: value for name, value in asdict(config.pretraining).items() if name not in _ROWS_OWN}
    return {
        "datasets": list(config.datasets),
        "downstream": config.downstream,
        "methods": list(config.methods),
        "protocols": list(config.protocols),
        "resolutions": list(config.resolutions),
        "imagenet": str(config.imagenet),
        "seeds": list(config.seeds),
        "fingerprints": cast(dict[str, Json], plan.fingerprints),
        "pretraining": shared,
    }


@dataclass(frozen=True, slots=True)
class _Work:
    """The runs of single rows, below the study's own folder."""

    config: StudyConfig
    out: Path
    data_root: Path | str | None
    image_size: int
    """Pixels, of the downstream images."""

    def features(self, row: Row, seed: int, watch: Watcher) -> Features:
        """What the probe reads: a run, trained now if it is not yet, or a name."""
        if row.kind == "random":
            return "random"
        if row.kind == "imagenet":
            return self.config.imagenet
        assert row.dataset is not None
        pretrainer = self.config.pretrainer(row, seed)
        folder = self._pretraining(row, seed)
        return pretrainer.fit(row.dataset, out=folder, resume=True, data_root=self.data_root, watch=watch)

    def probe(self, row: Row, features: Features, seed: int, protocol: str, watch: Watcher) -> SeedScore:
        """One protocol on a row's features."""
        probe = LinearProbe(
            features=features,
            protocol=protocol,
            backbone=self.config.pretraining.backbone,
            stem="auto" if row.kind == "imagenet" else self.config.pretraining.stem,
            resolution=self._resolution(row),
            seed=seed,
            device=self.config.pretraining.device,
        )
        folder = self.out / "probe" / f"{row.folder}-seed{seed}-{protocol}"
        found = probe.evaluate(self.config.downstream, out=folder, resume=True, data_root=self.data_root, watch=watch)
        return SeedScore(
            seed=seed,
            test_accuracy=found.test_accuracy,
            val_accuracy=found.val_accuracy,
            predictions=read_predictions(folder),
            resolution=found.resolution,
            feature_dim=found.feature_dim,
            seconds=found.seconds,
            warning=features.warning if isinstance(features, PretrainRun) else None,
        )

    def draw_map(self, names: Sequence[str], test: ImageSet, watch: Watcher) -> None:
        """Where evenly spaced test images lie by the features of some rows, first seed."""
        seed, pretraining = self.config.seeds[0], self.config.pretraining
        count = min(_MAP_IMAGES, len(test))
        sample = test.subset(torch.arange(count) * len(test) // count)
        train = load_image_set(self.config.downstream, "train", data_root=self.data_root, watch=watch)
        sources = {
            row.name: load_feature_source(
                "random" if row.kind == "random" else self._pretraining(row, seed),
                train,
                backbone=pretraining.backbone,
                stem=pretraining.stem,
                resolution=self._resolution(row),
                seed=seed,
            )
            for row in self.config.rows
            if row.name in names
        }
        write_map(self.out, sources, sample, make_fabric(pretraining.device, "32-true"), watch=watch)

    def _resolution(self, row: Row) -> int | None:
        """Untrained weights do not say what they want to see: what those see that are trained here."""
        return self.image_size if row.kind == "random" else row.resolution

    def _pretraining(self, row: Row, seed: int) -> Path:
        return self.out / "pretrain" / f"{row.folder}-seed{seed}"


def _summary(
    config: StudyConfig, absent: dict[str, str], scores: Scores, test: ImageSet, path: Path, seconds: float
) -> StudyResult:
    lines = [
        (row, protocol, scores[row.name, protocol])
        for row in config.rows
        if row.name not in absent
        for protocol in config.protocols
    ]
    if all(row.kind != "ssl" for row, _, _ in lines):
        raise TrainingError(f"no method could be trained: {'; '.join(absent.values())}")
    table = score_rows(lines, num_classes=test.num_classes, superclasses=superclass_indices(test.class_names))
    best = best_row(table, config.protocols[0], ("ssl", "imagenet", "random"))
    confused = [score.predictions for score in scores[best.name, best.protocol]]
    return StudyResult(
        path=path,
        rows=table,
        absent=absent,
        best=best,
        best_ssl=best_row(table, config.protocols[0], ("ssl",)),
        confusions=worst_confusions(confused, test.class_names, most=_CONFUSIONS),
        seconds=seconds,
    )


def _write_result(run: RunFolder, config: StudyConfig, result: StudyResult, test: ImageSet) -> None:
    superclasses = superclass_indices(test.class_names)
    run.finish(
        "study",
        seconds=result.seconds,
        seed=config.seeds[0],
        fields={
            "downstream": config.downstream,
            "datasets": list(config.datasets),
            "methods": list(config.methods),
            "protocols": list(config.protocols),
            "seeds": list(config.seeds),
            "backbone": config.pretraining.backbone,
            "test_images": len(test),
            "class_names": list(test.class_names),
            "superclasses": {name: list(labels) for name, labels in superclasses.items()},
            "rows": [asdict(score) for score in result.rows],
            "absent": cast(dict[str, Json], result.absent),
            "best": {"name": result.best.name, "protocol": result.best.protocol},
            "best_ssl": {"name": result.best_ssl.name, "protocol": result.best_ssl.protocol},
            "confusions": [asdict(confusion) for confusion in result.confusions],
        },
    )
