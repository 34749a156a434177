"""A study before it is run: which rows it has, what each costs, and what cannot be had."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.image_set import ImageSet
from nndl_suite.data.splits import Split
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.representation.budget import planned_steps, split_for
from nndl_suite.representation.features import load_feature_source
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.pretrainer import SSLPretrainer
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.representation.study_rows import Row, study_rows
from nndl_suite.training.watch import Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """What to compare. Every row has every seed, and every seed of a row every protocol."""

    datasets: tuple[str, ...]
    """Pretraining sets, without their labels."""
    downstream: str
    """A labelled set; what the features are worth is read on it."""
    methods: tuple[str, ...] = ("simclr",)
    """See `methods.METHODS`."""
    pretraining: SSLPretrainer = field(default_factory=SSLPretrainer)
    """How all rows are trained, from scratch too; method and seed are the row's."""
    protocols: tuple[str, ...] = ("linear", "knn")
    """See `probe.LinearProbe`; the first one chooses the best row, on validation images."""
    resolutions: tuple[int, ...] = ()
    """Pixels that ImageNet's network sees, one row each; none takes its default."""
    imagenet: str | Path = "imagenet"
    """torchvision's weights by the name "imagenet", or a state-dict file."""
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for what, values in (
            ("datasets", self.datasets),
            ("methods", self.methods),
            ("protocols", self.protocols),
            ("seeds", self.seeds),
        ):
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{what} must be one or more different ones, got {list(values)}")
        if len(set(self.resolutions)) != len(self.resolutions):
            raise ConfigError(f"resolutions must be different ones, got {list(self.resolutions)}")
        self.pretraining.check_alone()
        for method in self.methods:
            replace(self.pretraining, method=method)  # refuses what is no method, or does not fit it
            if METHODS[method].labels:
                raise ConfigError(f"{method} learns from labels, as the row scratch does; leave it out of methods")
        for protocol in self.protocols:
            LinearProbe(protocol=protocol)

    @property
    def rows(self) -> tuple[Row, ...]:
        """In the order of the table."""
        return study_rows(self.methods, self.datasets, self.downstream, self.resolutions)

    def pretrainer(self, row: Row, seed: int) -> SSLPretrainer:
        """What trains a row."""
        assert row.method is not None
        if row.kind == "scratch":  # it has no projector and no temperature
            return replace(
                self.pretraining, method=row.method, seed=seed, temperature=None, projector_dim=None, views=None
            )
        return replace(self.pretraining, method=row.method, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """A row and what it costs."""

    row: Row
    images: int
    """Pretrained on; 0 where nothing is trained."""
    steps: int
    """For each seed."""
    absent: str | None = None
    """Why the row cannot be had; None where it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a study will do, before it does any of it."""

    rows: tuple[PlannedRow, ...]
    fingerprints: dict[str, str]
    """Of the pretraining sets and the downstream training images."""
    image_size: int
    """Pixels, of the downstream images."""
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Of all rows and seeds."""
        return len(self.seeds) * sum(planned.steps for planned in self.rows)


def plan_study(config: StudyConfig, *, data_root: Path | str | None = None, watch: Watcher = ignore) -> StudyPlan:
    """Look at the data and the weights, and train nothing.

    Raises:
        ConfigError: a set is smaller than a batch.
        DataError: a set is missing, the downstream set has no labels, or the file of ImageNet weights is unusable.
    """
    downstream = load_image_set(config.downstream, "train", data_root=data_root, watch=watch)
    downstream.required_labels()
    sets: dict[tuple[str, Split], ImageSet] = {(config.downstream, "train"): downstream}
    for row in config.rows:
        if row.method is not None and row.dataset is not None:
            split = split_for(row.method)
            if (row.dataset, split) not in sets:
                sets[row.dataset, split] = load_image_set(row.dataset, split, data_root=data_root, watch=watch)
    return StudyPlan(
        rows=tuple(_planned(config, row, sets, downstream) for row in config.rows),
        fingerprints={f"{name}, {split}": images.fingerprint for (name, split), images in sets.items()},
        image_size=downstream.image_size,
        seeds=config.seeds,
        protocols=config.protocols,
    )


def _planned(
    config: StudyConfig, row: Row, sets: Mapping[tuple[str, Split], ImageSet], downstream: ImageSet
) -> PlannedRow:
    if row.method is None or row.dataset is None:
        absent = _why_absent(config, row, downstream) if row.kind == "imagenet" else None
        return PlannedRow(row=row, images=0, steps=0, absent=absent)
    images = len(sets[row.dataset, split_for(row.method)])
    return PlannedRow(row=row, images=images, steps=planned_steps(config.pretraining, images, row.dataset))


def _why_absent(config: StudyConfig, row: Row, downstream: ImageSet) -> str | None:
    """Torchvision's weights may be out of reach; a file that somebody named may not."""
    try:
        load_feature_source(
            config.imagenet, downstream, backbone=config.pretraining.backbone, resolution=row.resolution
        )
    except (ConfigError, DataError) as error:
        if config.imagenet != "imagenet":
            raise
        return str(error)
    return None
