"""Event files for TensorBoard, beside each metrics log."""

from pathlib import Path
from typing import TYPE_CHECKING

from nndl_suite.errors import ConfigError
from nndl_suite.logs.rows import Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SUFFIX = ".nndl-suite"
"""Tells our event files from others in the folder."""


class TensorBoard:
    """A sink that writes event files into the run: `tensorboard --logdir runs` shows each by its folder's name.

    They are written anew from the log's beginning each time, so a resumed run has every step once. A step's time is
    that of the run's start and its seconds of training, so that TensorBoard's relative time is training time.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                'TensorBoard is not installed, which writes its event files: pip install "nndl-suite[tensorboard]"'
            ) from error
        self._folder, self._make = folder, SummaryWriter
        self._writers: dict[str, tuple[SummaryWriter, float]] = {}

    def __call__(self, row: Row) -> None:
        """Each figure as a scalar."""
        if row.run not in self._writers:
            self._writers[row.run] = self._open(self._folder / row.run)
        writer, start = self._writers[row.run]
        for name, value in row.figures.items():
            writer.add_scalar(name, value, row.step, walltime=start + row.figures.get("seconds", 0.0))

    def close(self) -> None:
        """Write what is not yet on the disk."""
        for writer, _ in self._writers.values():
            writer.close()

    def _open(self, run: Path) -> "tuple[SummaryWriter, float]":
        for old in run.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        config = run / "config.json"
        start = (config if config.exists() else run).stat().st_mtime
        return self._make(str(run), filename_suffix=_SUFFIX, flush_secs=5), start
