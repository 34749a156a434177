"""The Optuna study that workers share: where it lies, what it is about, and how it draws."""

import glob
import json
import os
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from nndl_suite.comparison.claims import place
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.training.files import Json
from nndl_suite.training.seeds import derived_seed

_ABOUT = "about"
_SETTLE_SECONDS = 0.3
"""How long a starter waits before it reads back what it wrote: another may have written at the same moment."""
_TABLE_TRIES = 5


@contextmanager
def quiet_optuna() -> Generator[None, None, None]:
    """Keep Optuna from announcing each study, and what it calls experimental; its other warnings stay."""
    found = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(found)


@contextmanager
def reachable(where: Path | str) -> Generator[None, None, None]:
    """Say in a sentence that a database went away.

    Raises:
        RunError: it did; Optuna's error is the cause.
    """
    try:
        yield
    except StorageInternalError as error:
        why = str(error.__cause__ or error).partition("\n")[0]  # SQLAlchemy adds the statement and a link
        raise RunError(
            f"{shown_storage(where)} cannot be used any more: {why}; "
            "what it holds is kept, and --resume goes on once it is back"
        ) from error


def open_storage(where: Path | str) -> BaseStorage:
    """A journal file, or a database by its URL (`sqlite:///FILE`, `postgresql://…`); made if missing.

    Raises:
        ConfigError: the URL is none, or wants a driver that is not installed.
        RunError: the file or database cannot be used.
    """
    return _database(str(where)) if "://" in str(where) else _journal(Path(where))


def shown_storage(where: Path | str) -> str:
    """A storage's name without a password in it."""
    return make_url(str(where)).render_as_string(hide_password=True) if "://" in str(where) else str(where)


def _journal(file: Path) -> BaseStorage:
    file = file.resolve()  # the lock is a link to it, and a relative one would point elsewhere
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_journal(file)
        for left in file.parent.glob(f"{glob.escape(file.name)}.lock*.rename"):
            left.unlink(missing_ok=True)  # by a worker that was killed while it gave a lock back
        return JournalStorage(_Journal(file))
    except OSError as error:
        raise RunError(f"cannot use {file} as a study: {error.strerror or error}; choose another --storage") from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise RunError(
            f"{file} is no journal of Optuna, or a damaged one ({error}); choose another --storage"
        ) from error


class _Journal(JournalFileBackend):
    """Optuna's journal file, of which a full disk takes the last entry and no other.

    Optuna writes its next entry behind one that was cut short, and can read neither then, nor anything after them.
    """

    def __init__(self, file: Path) -> None:
        # links need rights on Windows
        lock = JournalFileOpenLock(str(file)) if os.name == "nt" else JournalFileSymlinkLock(str(file))
        super().__init__(str(file), lock_obj=_Mending(lock, file))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries.

        Raises:
            StorageInternalError: the disk is full, or the file is gone.
        """
        try:
            super().append_logs(logs)
        except OSError as error:
            raise StorageInternalError(f"cannot write: {error.strerror or error}") from error


class _Mending(JournalFileOpenLock):
    """Another lock of the journal, whose holder finds whole lines."""

    def __init__(self, lock: JournalFileOpenLock | JournalFileSymlinkLock, file: Path) -> None:
        super().__init__(str(file))
        self._lock, self._file = lock, file

    def acquire(self) -> bool:
        """Wait for the lock, then cut off what was not written to its end."""
        taken = self._lock.acquire()
        try:
            _cut_to_whole_lines(self._file)
        except BaseException:
            self._lock.release()
            raise
        return taken

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def _cut_to_whole_lines(file: Path) -> None:
    with file.open("rb+") as lines:
        size = lines.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            lines.seek(end - 1)
            if lines.read(1) == b"\n":
                break
            end -= 1
        if end < size:
            lines.truncate(end)


def _check_journal(file: Path) -> None:
    """Optuna would append to any file; what begins otherwise than a journal is somebody's else.

    Raises:
        ValueError: it does.
    """
    if file.exists():
        with file.open("rb") as lines:
            first = lines.readline()
        cut_short = first.startswith(b'{"op_code"') and not first.endswith(b"\n")
        if first and not cut_short and "op_code" not in json.loads(first):
            raise ValueError("its first line has no op_code")


def _database(url: str) -> BaseStorage:
    sqlite = url.startswith("sqlite")
    for tries_left in reversed(range(_TABLE_TRIES)):
        try:
            storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else None)
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigError(f"{url!r} names no database ({error}); as in sqlite:///study.db") from error
        except ImportError as error:
            raise ConfigError(f"the driver of {shown_storage(url)} is not installed: {error}") from error
        except OperationalError as error:
            if sqlite and tries_left and "exists" in str(error):  # two starters make its tables at once
                time.sleep(_SETTLE_SECONDS)
                continue
            raise RunError(f"cannot use {shown_storage(url)}: {error.orig}") from error
        except SQLAlchemyError as error:
            raise RunError(f"cannot use {shown_storage(url)}: {error.args[0]}") from error
        if sqlite:
            _lock_on_begin(storage)
        return storage
    raise AssertionError


def _lock_on_begin(storage: RDBStorage) -> None:
    """Let SQLite lock when a transaction begins: it has no SELECT FOR UPDATE, and two workers could claim one trial."""

    def no_own_begin(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", no_own_begin)
    event.listen(storage.engine, "begin", begin)
    storage.engine.dispose()  # connections that were opened before know nothing of it


def join_study(
    storage: BaseStorage, name: str, about: Mapping[str, Json], *, sampler: BaseSampler, pruner: BasePruner
) -> Study:
    """The study of that name, made if missing; one that is about something else is refused.

    Raises:
        RunError: the study there is about something else; the message names what differs.
    """
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, sampler=sampler, pruner=pruner
    )
    if _ABOUT not in study.user_attrs:
        if study.directions != [StudyDirection.MAXIMIZE] or study.get_trials(deepcopy=False):
            raise RunError(
                f"the study {name!r} in that storage is another program's; choose another --storage or --study"
            )
        study.set_user_attr(_ABOUT, json.loads(json.dumps(about)))
        time.sleep(_SETTLE_SECONDS)
    check_study(study, about)
    return study


def check_study(study: Study, about: Mapping[str, Json]) -> None:
    """Refuse a study that is about something else: of two starters at once, the one that wrote last has it.

    Raises:
        RunError: it is; the message names what differs.
    """
    there = cast(dict[str, Json], study.user_attrs[_ABOUT])
    here = cast(dict[str, Json], json.loads(json.dumps(about)))
    keys = [key for key in here | there if here.get(key) != there.get(key)]
    if "fingerprints" not in keys:
        keys = [key for key in keys if key != "dataset"]  # the same images may lie elsewhere on another machine
    elif "dataset" in keys:
        keys = [key for key in keys if key != "fingerprints"]
    if keys:
        told = "; ".join(_differing(key, there.get(key), here.get(key)) for key in keys[:3])
        raise RunError(
            f"the study {study.study_name!r} in that storage has another {told}; "
            "ask for the same, or choose another --storage or --study"
        )


def _differing(key: str, there: Json, here: Json) -> str:
    """ "recipe: batch_size 64 there, 128 here"; of a dict its differing entries alone."""
    if isinstance(there, dict) and isinstance(here, dict):
        inner = [name for name in there | here if there.get(name) != here.get(name)]
        return f"{key}: " + ", ".join(
            f"{name} {_brief(there.get(name))} there, {_brief(here.get(name))} here" for name in inner
        )
    if key == "fingerprints":
        return "data set: its images are not the same, though the name is"
    return f"{key}: {_brief(there)} there, {_brief(here)} here"


def _brief(value: Json) -> str:
    return "absent" if value is None else json.dumps(value).replace('"', "")


class CountedTPE(BaseSampler):
    """TPE whose draws depend on the seed, the trial's place in the budget and the trials before, and on nothing else.

    Workers with the same seed thus draw different first trials; one that is started again draws as if it had run on.
    """

    def __init__(self, seed: int, random_trials: int) -> None:
        self._seed, self._random_trials = seed, random_trials
        self._number, self._tpe = -1, TPESampler(seed=0)

    def _of(self, study: Study, trial: FrozenTrial) -> TPESampler:
        if trial.number != self._number:
            at = place(trial.number, study.get_trials(deepcopy=False))
            seed = derived_seed(self._seed, "tpe", at) % 2**32
            self._tpe = TPESampler(seed=seed, n_startup_trials=self._random_trials, multivariate=True)
            self._number = trial.number
        return self._tpe

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn jointly."""
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A joint draw."""
        return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A draw of one setting."""
        return self._of(study, trial).sample_independent(study, trial, param_name, param_distribution)
