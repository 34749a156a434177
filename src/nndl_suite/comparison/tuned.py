"""The rates of both arms of a comparison from tuning runs, which must have been equal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.splits import TrainingSplits
from nndl_suite.errors import ConfigError, RunError
from nndl_suite.training.files import Json
from nndl_suite.training.runs import read_run

_KINDS = {
    "arm": str,
    "shape": str,
    "best": dict,
    "budget": dict,
    "space": dict,
    "recipe": dict,
    "fingerprints": list,
    "at_edge": list,
}
"""What a result holds, by its type in JSON."""
_OF_ARMS = ("rates", "cnn", "transformer")
"""Fields of the recipe that a tuning replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedArm:
    """What one tuning chose."""

    arm: str
    rates: Rates
    val_accuracy: float
    """Of the best trial; it flatters, being the best of many."""
    space: Mapping[str, Json]
    at_edge: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Both arms, tuned with the same budget on the same images by the same recipe."""

    trials: int
    """Of each arm."""
    epochs: int
    """Of each trial; the comparison may train longer."""
    arms: tuple[TunedArm, TunedArm]
    """The CNN, then the Transformer."""

    def within(self, recipe: Recipe) -> Recipe:
        """The recipe with each arm's rates in it."""
        return replace(recipe, cnn=self.arms[0].rates, transformer=self.arms[1].rates)


def read_tuned(
    runs: Sequence[Path | str], arms: tuple[Architecture, Architecture], splits: TrainingSplits, recipe: Recipe
) -> Tuned:
    """The best rates of two finished tunings, one of each arm, in any order.

    Raises:
        ConfigError: there are not two runs, or they are of other arms than these.
        RunError: a run is no finished tuning, or the two, or they and the comparison, are not of the same budget,
            images, recipe or settings; the message says which.
    """
    if len(runs) != 2:
        raise ConfigError(f"--tuned wants two tuning runs, one of each arm, got {len(runs)}")
    results = [_read(run) for run in runs]
    found = {str(result["arm"]): result for result in results}
    if set(found) != {arm.name for arm in arms}:
        told = " and ".join(str(result["arm"]) for result in results)
        raise ConfigError(f"--tuned names runs of {told}; this comparison wants {arms[0].name} and {arms[1].name}")
    first, second = (found[arm.name] for arm in arms)
    for arm, result in zip(arms, (first, second), strict=True):
        _check_fits(arm, result, splits, recipe)
    _check_equal(first, second)
    budget = first["budget"]
    return Tuned(trials=budget["trials"], epochs=budget["epochs"], arms=(_arm(first), _arm(second)))


def _read(path: Path | str) -> dict[str, Any]:
    result = read_run(path, kind="tuning").result()
    if result is None:
        raise RunError(f"the tuning in {path} is unfinished; `nndl-suite tune` with --resume goes on with it")
    missing = set(_KINDS) - set(result)
    if missing:
        raise RunError(f"{path}/result.json lacks {', '.join(sorted(missing))}; tune again")
    wrong = [name for name, kind in _KINDS.items() if not isinstance(result[name], kind)]
    if not wrong:
        wrong = [name for name, fits in _inner(result).items() if not fits]
    if wrong:
        raise RunError(f"{path}/result.json has no {', '.join(wrong)} that a tuning writes; tune again")
    return result


def _inner(result: Mapping[str, Any]) -> dict[str, bool]:
    """Whether what is taken out of a result's objects is there, and of its kind."""
    best, budget, recipe = result["best"], result["budget"], result["recipe"]
    return {
        "best.settings": isinstance(best.get("settings"), dict),
        "best.val_accuracy": type(best.get("val_accuracy")) in (int, float),
        "budget.trials": type(budget.get("trials")) is int,
        "budget.epochs": type(budget.get("epochs")) is int,
        "recipe.rates": isinstance(recipe.get("rates"), dict),
    }


def _check_fits(arm: Architecture, result: Mapping[str, Any], splits: TrainingSplits, recipe: Recipe) -> None:
    """One tuning and the comparison."""
    if result["shape"] != arm.shape:
        raise RunError(
            f"the tuned {arm.name} has {result['shape']}, that of this comparison {arm.shape}; tune this one"
        )
    if result["fingerprints"] != [splits.train.fingerprint, splits.val.fingerprint]:
        raise RunError(
            f"{arm.name} was tuned on other images ({result['dataset']}); tune it on those of this comparison"
        )
    rates = [field.name for field in fields(Rates)]
    others = [name for name in result["space"] if name not in rates]
    if others:
        raise RunError(
            f"the tuning of {arm.name} chose {', '.join(others)} too, and both arms share a recipe; "
            "tune rate and decay alone, with the others fixed in the recipe"
        )
    here = cast(dict[str, Json], json.loads(json.dumps(asdict(recipe))))
    there = result["recipe"]
    differing = [name for name in here | there if name not in _OF_ARMS and here.get(name) != there.get(name)]
    if differing:
        told = ", ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in differing[:3])
        raise RunError(f"{arm.name} was tuned by another recipe ({told}); tune it by that of this comparison")


def _check_equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """The two tunings; ranges may differ, as arms do, and are stated."""
    for what in ("trials", "epochs"):
        counts = [result["budget"][what] for result in (first, second)]
        if counts[0] != counts[1]:
            raise RunError(
                f"the arms were not tuned equally: {first['arm']} with {counts[0]} {what}, {second['arm']} with "
                f"{counts[1]}; tune one of them again"
            )
    if set(first["space"]) != set(second["space"]):
        raise RunError(
            f"the arms were not tuned equally: {', '.join(first['space'])} of {first['arm']}, "
            f"{', '.join(second['space'])} of {second['arm']}; tune one of them again"
        )


def _arm(result: Mapping[str, Any]) -> TunedArm:
    best = result["best"]
    try:
        rates = Rates(**{**result["recipe"]["rates"], **best["settings"]})
    except (TypeError, ConfigError) as error:
        raise RunError(f"result.json of the tuning of {result['arm']} has rates that cannot be ({error})") from error
    return TunedArm(
        arm=result["arm"],
        rates=rates,
        val_accuracy=best["val_accuracy"],
        space=result["space"],
        at_edge=tuple(result["at_edge"]),
    )
