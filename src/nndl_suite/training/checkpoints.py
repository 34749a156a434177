"""Checkpoints: one safetensors file each, tensors in its body and everything else as JSON in its header.

One file means one rename: a checkpoint is there whole or not at all, whenever the process dies. A checksum of all that
it says tells what disks and copies do to it afterwards. Nothing is pickled.
"""

import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nndl_suite.errors import DamagedFile, NndlWarning, RunError
from nndl_suite.training.files import Json
from nndl_suite.training.memory import lacks_memory
from nndl_suite.training.packed_state import State as State
from nndl_suite.training.packed_state import equal_states as equal_states
from nndl_suite.training.packed_state import put_tensors, take_tensors
from nndl_suite.training.tensor_files import CHECKSUM, checksum, sealed, tensors_of, write_tensors

_KIND = "nndl-suite checkpoint"
_VERSION = 2
"""1 had no checksum and no settings, and is read still."""
_KEPT = 2
_DAMAGED = (
    OSError,
    SafetensorError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,  # also of torch, and of JSON that is nested too deep
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A run's state after `step` steps and `seconds` of training."""

    step: int
    seconds: float
    state: dict[str, State]
    settings: dict[str, Json] | None = None
    """Those of its run, with the fingerprints of the data; None where it has none, and in version 1."""
    package: str = ""
    """The version of this package that wrote it; empty where it does not say."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder`, atomically, and delete all but the newest two."""
    tensors: dict[str, Tensor] = {}
    state = {key: take_tensors(node, key, tensors) for key, node in checkpoint.state.items()}
    header = {
        "format": f"{_KIND} {_VERSION}",
        "version": str(_VERSION),  # said twice: a changed bit must not make another version of it
        "package": _package(),
        "step": str(checkpoint.step),
        "seconds": repr(checkpoint.seconds),
        "settings": json.dumps(checkpoint.settings),
        "state": json.dumps(state),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"step-{checkpoint.step:09d}.safetensors"
    write_tensors(file, tensors, sealed(header, tensors))
    for old in checkpoint_files(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return file


def checkpoint_files(folder: Path) -> list[Path]:
    """A folder's checkpoints, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a folder that is whole, or None where there is none at all.

    A newer one that is damaged is named in an `NndlWarning`.

    Raises:
        RunError: none is whole, or the newest was written by a newer version of this package.
    """
    return _newest(folder, lambda damaged: f"{damaged.name} is left as it is")


def take_up(folder: Path) -> Checkpoint | None:
    """What `load_newest` gives, for a run that goes on: damaged files are put out of the way of those to come.

    Raises:
        RunError: as `load_newest`; or the folder cannot be written in.
    """
    return _newest(folder, _set_aside)


def _newest(folder: Path, deal_with: Callable[[Path], str]) -> Checkpoint | None:
    damaged: list[DamagedFile] = []
    for file in reversed(checkpoint_files(folder)):
        try:
            found = load_checkpoint(file)
        except DamagedFile as error:
            damaged.append(error)
            continue
        if damaged:
            dealt = [deal_with(other) for other in checkpoint_files(folder) if other > file]
            told = "; ".join([*map(str, damaged), *dealt])
            warnings.warn(f"{told}; the one before it, of step {found.step}, is used", NndlWarning, stacklevel=3)
        return found
    if damaged:
        told = "; ".join(map(str, damaged))
        raise RunError(f"no checkpoint in {folder} is whole: {told}; delete that folder to begin at step 0 again")
    return None


def _set_aside(file: Path) -> str:
    """Keep a damaged file under a name that no checkpoint has."""
    aside = file.with_suffix(".damaged")
    try:
        file.replace(aside)
    except OSError as error:
        raise RunError(f"cannot rename {file}, which is damaged: {error.strerror or error}; delete it") from error
    return f"it is kept as {aside.name}"


def load_checkpoint(file: Path) -> Checkpoint:
    """Read one checkpoint; tensors come back on the CPU.

    Raises:
        DamagedFile: the file is missing, cut off, changed, or was not written by this package.
        RunError: it was written by a newer version of this package.
        MemoryError, RuntimeError: there is no room to read it (see `lacks_memory`); the file is not judged.
    """
    try:
        with safe_open(file, framework="pt") as content:
            header = content.metadata() or {}
            _check_version(file, header)
            tensors = tensors_of(content)
        if CHECKSUM in header and header[CHECKSUM] != checksum(header, tensors):
            raise DamagedFile(f"{file} is damaged (what it holds does not fit its checksum)")
        nodes: dict[str, object] = json.loads(header["state"])
        state = {key: put_tensors(node, tensors) for key, node in nodes.items()}
        step, seconds = int(header["step"]), float(header["seconds"])
        if step < 0 or not 0 <= seconds < math.inf:
            raise ValueError(f"it says that it is of step {step} after {seconds} s")
        return Checkpoint(
            step=step,
            seconds=seconds,
            state=state,
            settings=json.loads(header.get("settings", "null")),
            package=header.get("package", ""),
        )
    except _DAMAGED as error:
        if lacks_memory(error):  # which is no fault of the file's
            raise
        raise DamagedFile(f"{file} is damaged ({error})") from error


def _check_version(file: Path, header: Mapping[str, str]) -> None:
    """Refuse what is no checkpoint, and what only a newer version can read; version 1 says less of itself."""
    named = re.fullmatch(rf"{_KIND} (\d+)", header.get("format", ""))
    if named is None:
        raise DamagedFile(f"{file} is not a checkpoint of this package (format {header.get('format')!r})")
    said = int(named[1])
    if said != int(header.get("version", "1")) or (said == 1) == (CHECKSUM in header):
        raise DamagedFile(f"{file} is damaged (it does not agree with itself on its version)")
    if said > _VERSION:
        raise RunError(
            f"{file} was made by a newer nndl-suite ({header.get('package') or 'version unknown'}; checkpoints of "
            f"version {said}, this one reads up to {_VERSION}); update: pip install --upgrade nndl-suite"
        )


def _package() -> str:
    try:
        return version("nndl-suite")
    except PackageNotFoundError:  # the source alone
        return ""
