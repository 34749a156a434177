"""The folder that a run leaves behind: what was asked, how it went, what came out."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nndl_suite.errors import RunError
from nndl_suite.training import metrics_log
from nndl_suite.training.changes import told_changes
from nndl_suite.training.command import command
from nndl_suite.training.files import Json, append_line, read_json, write_json
from nndl_suite.training.locks import held

_BEGIN_SECONDS = 10.0
_PACKAGES = ("nndl-suite", "torch", "torchvision", "timm", "lightly", "numba", "pycolmap")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run on disk: `config.json`, `metrics.jsonl`, `result.json`, `checkpoints/`."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.path / "checkpoints"

    def config(self) -> dict[str, Json]:
        """What was asked, as `open_run` wrote it."""
        return read_json(self.path / "config.json")

    def result(self) -> dict[str, Json] | None:
        """What came out; None while the run is unfinished, for `result.json` is written last."""
        file = self.path / "result.json"
        return read_json(file) if file.exists() else None

    def settings(self) -> dict[str, Json] | None:
        """What decides the outcome, as `open_run` wrote it; None in a folder without `config.json`.

        Raises:
            RunError: `config.json` is damaged.
        """
        file = self.path / "config.json"
        if not file.exists():
            return None
        settings = read_json(file).get("settings")
        if not isinstance(settings, dict):
            raise RunError(f"{file} has no settings; choose another --out")
        return settings

    @property
    def metrics_file(self) -> Path:
        """The metrics log."""
        return self.path / "metrics.jsonl"

    def log(self, record: Mapping[str, float | int | str]) -> None:
        """Append one line to `metrics.jsonl`; of several processes only the first does.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        from nndl_suite.training.processes import is_first  # noqa: PLC0415 - brings torch, which no reader of runs needs

        if not is_first():
            return
        file = self.metrics_file
        if file.is_symlink():
            raise RunError(f"{file} is a link, which is not written through; put the file itself there")
        try:
            append_line(file, json.dumps(record))
        except OSError as error:
            raise RunError(
                f"cannot write {file}: {error.strerror or error}; free some space, then go on with --resume"
            ) from error

    def metrics(self) -> list[dict[str, float]]:
        """The whole metrics log in step order, see `metrics_log.read_whole`; a long one takes long."""
        return metrics_log.read_whole(self.metrics_file)

    def overview(self, *rare: str) -> list[dict[str, float]]:
        """The metrics log; of a long one a sample, and all records with a rare figure: see `metrics_log.overview`."""
        return metrics_log.overview(self.metrics_file, rare)

    def newest(self, name: str) -> float | None:
        """The last value of a figure in the metrics log; None where it has none."""
        return metrics_log.newest(self.metrics_file, name)

    def finish(self, kind: str, *, seconds: float, seed: int, fields: Mapping[str, Json]) -> dict[str, Json]:
        """Write `result.json`, atomically and last, and return its content."""
        result: dict[str, Json] = {"kind": kind, "seconds": round(seconds, 3), "seed": seed, **fields}
        write_json(self.path / "result.json", result)
        return result


def open_run(path: Path | str, *, kind: str, settings: Mapping[str, Json], resume: bool) -> RunFolder:
    """Start a run in a new or empty folder, or go on with the one that is there.

    Of several processes the first does it, and the others take the folder as it is then.

    Args:
        path: The run folder; made if missing.
        kind: What sort of run it is, as in `result.json`.
        settings: Everything that decides the outcome. A resumed run must ask for exactly the same.
        resume: Go on with a run that is already in the folder. In a new folder this starts one.

    Raises:
        RunError: the folder holds a run and `resume` is off, holds another kind of run or other settings, or holds
            other files.
    """
    from nndl_suite.training.processes import from_first  # noqa: PLC0415 - as in `log`

    return from_first(lambda: _open(RunFolder(Path(path)), kind, settings, resume=resume))


def _open(run: RunFolder, kind: str, settings: Mapping[str, Json], *, resume: bool) -> RunFolder:
    if run.path.is_file():
        raise RunError(f"{run.path} is a file; --out wants the name of a new folder")
    if not _is_begun(run):
        with held(run.path, patience=_BEGIN_SECONDS):  # two commands may begin it at once
            if not _is_begun(run):
                _begin(run, kind, settings)
                return run
    if not resume:
        raise RunError(f"{run.path} already holds a run; add --resume to go on with it or choose another --out")
    _check_same(run, kind, settings)
    return run


def _is_begun(run: RunFolder) -> bool:
    """Whether the folder holds a run; refuses one that holds other things."""
    if (run.path / "config.json").exists():
        return True
    if run.path.exists() and any(not item.name.startswith(".") for item in run.path.iterdir()):
        raise RunError(f"{run.path} is not empty and holds no run (no config.json); choose another --out")
    return False


def _begin(run: RunFolder, kind: str, settings: Mapping[str, Json]) -> None:
    write_json(
        run.path / "config.json",
        {
            "kind": kind,
            "settings": dict(settings),
            "command": list[Json](command()),
            "versions": package_versions(),
            "machine": machine(),
        },
    )
    run.checkpoints.mkdir(exist_ok=True)  # not before: a kill would leave a folder that is no run, and not empty


def find_run(path: Path) -> RunFolder:
    """The run in a folder, of any kind.

    Raises:
        RunError: there is none; runs in the folder's folders are named.
    """
    if (path / "config.json").is_file():
        return RunFolder(path)
    inner = sorted(str(config.parent) for config in path.glob("*/config.json"))
    advice = f"there are runs in it: {', '.join(inner[:3])}{' ...' if inner[3:] else ''}" if inner else ""
    raise RunError(f"{path} holds no run (no config.json in it); {advice or 'give the --out folder of a run'}")


def read_run(path: Path | str, *, kind: str) -> RunFolder:
    """The run in a folder, which must be of the given kind.

    Raises:
        RunError: there is no run, or one of another kind.
    """
    run = RunFolder(Path(path))
    if not (run.path / "config.json").exists():
        raise RunError(f"{run.path} holds no run (no config.json in it); give the --out folder of a {kind} run")
    found = run.config().get("kind")
    if found != kind:
        raise RunError(f"{run.path} is a {found} run, expected a {kind} run")
    return run


def _check_same(run: RunFolder, kind: str, settings: Mapping[str, Json]) -> None:
    config = run.config()
    if config.get("kind") != kind:
        raise RunError(f"{run.path} is a {config.get('kind')} run, not a {kind} run; choose another --out")
    asked: Json = json.loads(json.dumps(dict(settings)))
    saved = run.settings()
    if saved is None or not isinstance(asked, dict):
        raise RunError(f"{run.path / 'config.json'} has no settings; choose another --out")
    if told := told_changes(saved, asked):
        raise RunError(
            f"{run.path} was started with other settings or data ({told}); resume with the same or choose another --out"
        )


def package_versions() -> dict[str, Json]:
    """The versions that decide the numbers."""
    found: dict[str, Json] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Json]:
    """What the run ran on, as far as seconds depend on it."""
    return {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()}


def _processor() -> str:
    """The processor's own name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
