"""One process at work on a study: it takes trials, trains them, and gives back what it cannot finish."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import TrialState

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.arm import ArmTraining
from nndl_suite.comparison.budget import Budget
from nndl_suite.comparison.claims import DEATHS, REASON, claim, place, put_back, spent
from nndl_suite.comparison.lease import BEAT_SECONDS, SILENT_SECONDS, Vigil, lease
from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.search_space import SearchSpace, Settings, suggest, with_settings
from nndl_suite.comparison.splits import TrainingSplits
from nndl_suite.comparison.study_storage import check_study
from nndl_suite.comparison.tuning_result import SECONDS
from nndl_suite.errors import ConfigError, Interrupted, TrainingError
from nndl_suite.training.files import Json
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.stopping import stop_requests
from nndl_suite.training.watch import Step, Watcher

_WAIT_SECONDS = 1.0
_MOST_DEATHS = 3
"""A trial that killed so many workers (of too little memory, say) has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What is tuned, on what, and how long."""

    architecture: Architecture
    splits: TrainingSplits
    space: SearchSpace
    recipe: Recipe
    budget: Budget
    seed: int

    def described(self, dataset: str) -> dict[str, Json]:
        """What all workers must agree on; not where they run."""
        return {
            "arm": self.architecture.name,
            "shape": self.architecture.shape,
            "dataset": dataset,
            "fingerprints": [self.splits.train.fingerprint, self.splits.val.fingerprint],
            "trials": self.budget.trials,
            "epochs": self.budget.epochs,
            "space": self.space.stated(),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One process at work on a study."""

    study: Study
    about: Mapping[str, Json]
    """What the study must be about, see `Tuning.described`."""
    tuning: Tuning
    fabric: Fabric
    folder: Path
    """Each trial's log goes into a folder of its own in it."""

    def work(self, watch: Watcher) -> None:
        """Train trials until all have ended, also those of others.

        Raises:
            RunError: the study has become another one.
            Interrupted: somebody stopped this worker; its trial is queued again.
        """
        vigil, budget = Vigil(seconds=SILENT_SECONDS), self.tuning.budget.trials
        with stop_requests() as stop:
            while True:
                trials = self.study.get_trials(deepcopy=False)
                for number in vigil.silent(trials):
                    self._drop_checkpoints(number)
                    put_back(self.study, number, deaths=int(trials[number].user_attrs.get(DEATHS, 0)) + 1)
                done = len(spent(trials, budget))
                if done >= budget:
                    return
                if stop.is_set():
                    raise Interrupted(f"stopped after {done} of {budget} trials; --resume goes on")
                check_study(self.study, self.about)
                trial = claim(self.study, budget)
                if trial is not None:
                    self._train_or_put_back(trial, watch)
                else:
                    watch(Step(stage="waiting for the trials of other workers", done=done, total=budget))
                    stop.wait(_WAIT_SECONDS)

    def _train_or_put_back(self, trial: Trial, watch: Watcher) -> None:
        deaths = int(trial.user_attrs.get(DEATHS, 0))
        if deaths >= _MOST_DEATHS:
            trial.set_user_attr(REASON, f"{deaths} workers died while they trained it; it may need too much memory")
            self.study.tell(trial, state=TrialState.FAIL)
            return
        try:
            with lease(trial, every=BEAT_SECONDS):
                self._train(trial, watch)
        except UpdateFinishedTrialError:
            return  # this worker was taken for dead, and another has the trial
        except (Interrupted, KeyboardInterrupt) as stopped:
            self._drop_checkpoints(trial.number)  # a second Ctrl-C may have come while that was done
            put_back(self.study, trial.number, deaths=deaths)
            raise Interrupted(
                f"stopped in trial {self._place(trial)} of {self.tuning.budget.trials}, whose settings are queued "
                "again; all others are kept, and --resume goes on"
            ) from stopped
        except BaseException:
            put_back(self.study, trial.number, deaths=deaths + 1)
            raise

    def _train(self, trial: Trial, watch: Watcher) -> None:
        """One trial to its end, whichever that is."""
        settings = suggest(self.tuning.space, trial)
        folder = self._run_folder(trial.number)
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.checkpoints.mkdir(parents=True)
        started = time.monotonic()
        accuracy, state = None, TrialState.FAIL
        try:
            accuracy = self._accuracy(trial, settings, folder, watch)
            state = TrialState.COMPLETE
        except TrialPruned:
            state = TrialState.PRUNED
        except (TrainingError, ConfigError, torch.OutOfMemoryError) as error:
            trial.set_user_attr(REASON, str(error))
        finally:
            self._drop_checkpoints(trial.number)
        trial.set_user_attr(SECONDS, round(time.monotonic() - started, 3))
        self.study.tell(trial, accuracy, state)

    def _run_folder(self, number: int) -> RunFolder:
        return RunFolder(self.folder / f"{number:04d}")

    def _drop_checkpoints(self, number: int) -> None:
        """They are as large as networks, and nobody reads them."""
        shutil.rmtree(self._run_folder(number).checkpoints, ignore_errors=True)

    def _accuracy(self, trial: Trial, settings: Settings, folder: RunFolder, watch: Watcher) -> float:
        """Validation accuracy after the last epoch."""
        tuning = self.tuning
        recipe, epochs = with_settings(tuning.recipe, settings), tuning.budget.epochs
        training = ArmTraining(
            tuning.architecture, recipe.rates, recipe, tuning.splits, seed=tuning.seed, fabric=self.fabric
        )
        accuracies: list[float] = []

        def validate(epoch: int) -> dict[str, float]:
            accuracy, loss = training.score(tuning.splits.val)
            accuracies.append(accuracy)
            trial.report(accuracy, epoch + 1)
            if epoch + 1 < epochs and trial.should_prune():
                raise TrialPruned
            return {"epoch": epoch + 1, "val_accuracy": accuracy, "val_loss": loss}

        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in settings.items())
        steps = len(training.batches)
        loop = LoopSettings(
            stage=f"trial {self._place(trial)} of {tuning.budget.trials} ({told})",
            total_steps=epochs * steps,
            steps_per_epoch=steps,
            checkpoint_seconds=float("inf"),
        )
        run_loop(training, loop, folder, watch=watch, end_of_epoch=validate)
        return accuracies[-1]

    def _place(self, trial: Trial) -> int:
        return place(trial.number, self.study.get_trials(deepcopy=False))
