"""What pretraining leaves behind."""

from dataclasses import dataclass
from pathlib import Path, PurePath

from nndl_suite.errors import RunError
from nndl_suite.training.files import Json
from nndl_suite.training.runs import read_run


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainRun:
    """A finished pretraining run."""

    path: Path
    """The run folder."""
    checkpoint: Path
    """The backbone's weights: safetensors with torchvision's (or timm's) keys, described in its header."""
    method: str
    epochs: float
    images_per_second: float
    """Images, not views, over the training time."""
    final_loss: float
    """Of the last batch; log(2 * batch_size - 1) is chance for SimCLR."""
    effective_rank: float
    """Of the features, see `rank.effective_rank`; near 1 they have collapsed."""
    warning: str | None
    """What is wrong with the features, if something is."""
    seconds: float
    """Training time."""

    @classmethod
    def read(cls, path: Path | str) -> "PretrainRun":
        """The run in a folder.

        Raises:
            RunError: there is no pretraining run, it is unfinished, or its result is not what it should be.
        """
        folder = read_run(path, kind="pretrain")
        result = folder.result()
        if result is None:
            raise RunError(f"the pretraining in {folder.path} is unfinished; go on with --resume")
        return cls.from_result(folder.path, result)

    @classmethod
    def from_result(cls, path: Path, result: dict[str, Json]) -> "PretrainRun":
        """The run that a `result.json` describes."""
        try:
            return cls(
                path=path,
                checkpoint=path / _inside(str(result["checkpoint"])),
                method=str(result["method"]),
                epochs=_number(result["epochs"]),
                images_per_second=_number(result["images_per_second"]),
                final_loss=_number(result["final_loss"]),
                effective_rank=_number(result["effective_rank"]),
                warning=None if result.get("warning") is None else str(result["warning"]),
                seconds=_number(result["seconds"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path / 'result.json'} is not a pretraining result ({error})") from error


def _inside(name: str) -> str:
    """The name of a file of the run, and not of one elsewhere."""
    place = PurePath(name)
    if place.is_absolute() or ".." in place.parts or "\0" in name:
        raise ValueError(f"checkpoint {name!r} leads out of the run")
    return name


def _number(node: Json) -> float:
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise TypeError(f"expected a number, got {node!r}")
    return float(node)
