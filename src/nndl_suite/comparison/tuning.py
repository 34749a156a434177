"""The rates of one arm, chosen on validation images by TPE; any number of processes and machines may share the work."""

import time
from collections.abc import Mapping
from pathlib import Path

from nndl_suite.comparison.architectures import check_sizes, resolve_arm
from nndl_suite.comparison.budget import Budget
from nndl_suite.comparison.matching import Match
from nndl_suite.comparison.recipe import DEFAULT_RECIPE, Recipe
from nndl_suite.comparison.search_space import SearchSpace, check_space, usual_space
from nndl_suite.comparison.splits import TrainingSplits, training_splits
from nndl_suite.comparison.study_storage import (
    CountedTPE,
    join_study,
    open_storage,
    quiet_optuna,
    reachable,
    shown_storage,
)
from nndl_suite.comparison.tuning_result import TuningResult, summarise_study, write_tuning
from nndl_suite.comparison.tuning_worker import Tuning, Worker
from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.training.fabric import Device, Precision, make_fabric
from nndl_suite.training.files import Json
from nndl_suite.training.parts import tidy_folder
from nndl_suite.training.runs import RunFolder, open_run
from nndl_suite.training.watch import Watcher, ignore

_JOURNAL = "study.journal"
_JOIN_SECONDS = 1.0


def tune_architecture(  # noqa: PLR0913 - the public contract: each is a choice of the person who tunes
    arm: str = "resnet18",
    dataset: str = "cifar100",
    *,
    trials: int = 20,
    epochs: int = 10,
    out: Path | str,
    space: SearchSpace | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
    cnn: str = "resnet18",
    match: Match = "parameters",
    storage: Path | str | None = None,
    study: str | None = None,
    seed: int = 0,
    data_root: Path | str | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    watch: Watcher = ignore,
) -> TuningResult:
    """Tune one arm of a comparison on the tenth of the training images that the comparison too holds out.

    The test split is not read. Every process that calls this with the same storage works on the same trials, and each
    returns when all have ended. What a stopped or killed worker was training is trained again from the beginning, by
    another or by the next that joins; that a worker was killed shows after a minute without a sign of life.

    Args:
        arm: A network as in `compare_architectures`, CNN or Transformer.
        dataset: A data name with labels.
        trials: How many settings are tried, over all workers; one that is pruned or diverges is one of them.
        epochs: Passes over the training images in each trial.
        out: The run folder, shared by workers or each worker's own.
        space: What is tuned, and between what; None takes the `usual_space` about the recipe's rates.
        recipe: Everything else. Rates that it states for a CNN or Transformer alone do not count here.
        cnn: What a transformer that is made to measure is as large as.
        match: In parameters, or in FLOPs.
        storage: A journal file, or a database by its URL (`sqlite:///FILE`, `postgresql://…`); None keeps
            `study.journal` in `out`.
        study: The study's name there; None takes the arm's, so that one storage holds all arms.
        seed: Decides the draws of the settings, and is the one that each trial trains with.
        data_root: Where named sets lie; else `NNDL_SUITE_DATA`, else the user's cache.
        device: "auto" takes a CUDA device where there is one.
        precision: "auto" takes bf16 autocast where the hardware has it.
        resume: Go on with the tuning in `out`, or join those who work on it.
        watch: Told of progress.

    Raises:
        ConfigError: a name or setting is unusable.
        DataError: the data set is missing or has no labels.
        RunError: `out` holds a run while `resume` is off, or it or the storage holds something else.
        TrainingError: every trial failed.
        Interrupted: somebody stopped this worker; its trial is queued again.
    """
    budget, space = Budget(trials=trials, epochs=epochs), space or usual_space(recipe)
    check_space(space, recipe)
    splits = training_splits(load_image_set(dataset, "train", data_root=data_root, watch=watch), recipe)
    _check_batches(space, recipe, splits)
    size = {"num_classes": splits.train.num_classes, "image_size": splits.train.image_size}
    architecture = resolve_arm(arm, cnn=cnn, match=match, **size)
    check_sizes(architecture, recipe.resolutions)
    tuning = Tuning(architecture=architecture, splits=splits, space=space, recipe=recipe, budget=budget, seed=seed)
    about = tuning.described(dataset)
    # A storage elsewhere is asked first: what it refuses shall leave no folder.
    run = _open_folder(out, about, resume=resume) if storage is None else None
    where = Path(out) / _JOURNAL if storage is None else storage
    with quiet_optuna(), reachable(where):
        sampler, pruner = CountedTPE(seed, budget.random_trials), budget.make_pruner()
        shared = join_study(open_storage(where), study or architecture.name, about, sampler=sampler, pruner=pruner)
        run = run or _open_folder(out, about, resume=resume)
        tidy_folder(run.path)  # no lock: any number of workers write here
        fabric = make_fabric(device, precision)
        Worker(study=shared, about=about, tuning=tuning, fabric=fabric, folder=run.path / "trials").work(watch)
        result = summarise_study(
            shared,
            arm=architecture,
            dataset=dataset,
            space=space,
            budget=budget,
            storage=shown_storage(where),
            out=run.path,
        )
    write_tuning(run, result, seed=seed, comparable={name: about[name] for name in ("fingerprints", "recipe")})
    return result


def _check_batches(space: SearchSpace, recipe: Recipe, splits: TrainingSplits) -> None:
    largest = max(space.ends().get("batch_size", (recipe.batch_size,)))
    if largest > len(splits.train):
        raise ConfigError(
            f"there are {len(splits.train)} images to train on, less than one batch of {largest:g}; "
            "choose a smaller batch_size"
        )


def _open_folder(out: Path | str, settings: Mapping[str, Json], *, resume: bool) -> RunFolder:
    """The run folder, new or of this very tuning, also where another worker is making it at this moment."""
    try:
        return open_run(out, kind="tuning", settings=settings, resume=resume)
    except RunError:
        config = Path(out) / "config.json"
        if not resume or config.exists():
            raise
        time.sleep(_JOIN_SECONDS)
        if not config.exists():
            raise
        return open_run(out, kind="tuning", settings=settings, resume=resume)
