"""Which numbers of a recipe are tuned, and between what: stated, so that both arms get the same."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints

from optuna import Trial

from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.training.files import Json

Settings = Mapping[str, float]
"""Values by the name of the setting."""

_RATES = tuple(field.name for field in fields(Rates))
"""The settings in which the arms of a comparison may differ."""
_EDGE = 0.05
"""Within this share of a span a value lies at its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Any number from `low` to `high`; whole ones where the recipe wants them."""

    name: str
    low: float
    high: float
    log: bool = False
    """Draw its logarithm evenly, not the number."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(
                f"{self.name} is tuned from a number to a larger one, got {self.low:g} to {self.high:g}; "
                f"write {self.name}=LOW..HIGH"
            )
        if self.log and self.low <= 0:
            raise ConfigError(
                f"{self.name} is drawn on a logarithmic scale, which begins above 0, got {self.low:g}; "
                f"for 0 list the values, as {self.name}=0,1e-4,1e-3"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several numbers."""

    name: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ConfigError(f"{self.name} is tuned among two different values or more, got {list(self.values)}")


Varied = Span | Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What is tuned; every other setting stays as the recipe has it."""

    varied: tuple[Varied, ...]

    def __post_init__(self) -> None:
        names, known = [one.name for one in self.varied], tunable()
        if not names:
            raise ConfigError("a search space wants one setting at least, as rate or decay")
        for one in self.varied:
            if one.name not in known:
                raise unknown_name("setting", one.name, known)
            if names.count(one.name) > 1:
                raise ConfigError(f"{one.name} is named twice; say each setting once")
            if known[one.name] is int and not all(float(end).is_integer() for end in _ends(one)):
                raise ConfigError(f"{one.name} is a whole number, got {', '.join(f'{end:g}' for end in _ends(one))}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tuned settings, in order."""
        return tuple(one.name for one in self.varied)

    def stated(self) -> dict[str, Json]:
        """For `config.json`, `result.json` and the study."""
        return {
            one.name: {"values": list(one.values)}
            if isinstance(one, Choice)
            else {"low": one.low, "high": one.high, "log": one.log}
            for one in self.varied
        }

    def ends(self) -> dict[str, tuple[float, ...]]:
        """All that a choice may be, and how far a span goes, by name."""
        return {one.name: _ends(one) for one in self.varied}

    def at_edge(self, settings: Settings) -> tuple[str, ...]:
        """Names of the spans that these settings lie at an end of: better ones may lie outside."""
        return tuple(one.name for one in self.varied if isinstance(one, Span) and _is_at_edge(one, settings[one.name]))


def tunable() -> dict[str, type[int] | type[float]]:
    """What may be tuned: rate and decay, and every field of `Recipe` that is a number; with the kind of number."""
    hints = get_type_hints(Rates) | get_type_hints(Recipe)
    kinds = {name: _number(hint) for name, hint in hints.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _number(hint: object) -> type[int] | type[float] | None:
    """`int` or `float` where a value of this type is one, or may be; yes and no are no numbers."""
    among = set(get_args(hint)) - {NoneType} if get_origin(hint) in (Union, UnionType) else {hint}
    if among == {int}:
        return int
    return float if among and among <= {int, float} else None


def usual_space(recipe: Recipe) -> SearchSpace:
    """Rate and decay, what differs most between architectures: a decade and more about those of the recipe.

    Optimisers want rates of different sizes; the recipe's own is of the right one.
    """
    rate, decay = recipe.rates.rate, recipe.rates.decay
    return SearchSpace(
        varied=(
            Span(name="rate", low=_brief(rate / 10), high=_brief(10 * rate), log=True),
            Span(name="decay", low=_brief(decay / 50) or 1e-5, high=_brief(10 * decay) or 1e-2, log=True),
        )
    )


def _brief(number: float) -> float:
    return float(f"{number:.6g}")


def parse_space(words: Sequence[str], recipe: Recipe) -> SearchSpace:
    """`usual_space` with words like `rate=1e-4..1e-2`, `label-smoothing=0..0.3` and `batch-size=64,128` in it.

    Args:
        words: `NAME=LOW..HIGH` (rate and decay on a logarithmic scale) or `NAME=VALUE,VALUE,…`. Rate and decay are
            tuned whether they are named or not.
        recipe: What the space is for.

    Raises:
        ConfigError: a name is unknown or named twice, or a range is none.
    """
    named: dict[str, Varied] = {}
    for word in words:
        name, _, told = word.partition("=")
        name = name.strip().replace("-", "_")
        name = {"learning_rate": "rate", "weight_decay": "decay"}.get(name, name)
        if name in named:
            raise ConfigError(f"{name} is named twice; say each setting once")
        named[name] = _parse(name, told)
    usual = {one.name: one for one in usual_space(recipe).varied}
    return SearchSpace(varied=tuple((usual | named).values()))


def _parse(name: str, told: str) -> Varied:
    known = tunable()
    if name not in known:
        raise unknown_name("setting", name, known)
    try:
        values = [float(number) for number in (told.split("..") if ".." in told else told.split(","))]
    except ValueError:
        values = []
    if not values or (".." in told and len(values) != 2):
        raise ConfigError(f"{name}={told} is no range; write {name}=LOW..HIGH or {name}=VALUE,VALUE")
    if ".." in told:
        return Span(name=name, low=values[0], high=values[1], log=name in _RATES)
    return Choice(name=name, values=tuple(values))


def check_space(space: SearchSpace, recipe: Recipe) -> None:
    """Refuse a space that leaves what the recipe may be, in any corner: later it would cost a trial.

    Raises:
        ConfigError: it does; the message is the recipe's.
    """
    for corner in product(*({min(_ends(one)), max(_ends(one))} for one in space.varied)):
        with_settings(recipe, dict(zip(space.names, corner, strict=True)))


def suggest(space: SearchSpace, trial: Trial) -> dict[str, float]:
    """This trial's settings, as the study's sampler draws them."""
    known = tunable()
    return {one.name: _draw(one, trial, known[one.name]) for one in space.varied}


def _draw(varied: Varied, trial: Trial, number: type[int] | type[float]) -> float:
    if isinstance(varied, Choice):
        return trial.suggest_categorical(varied.name, [number(value) for value in varied.values])
    if number is int:
        return trial.suggest_int(varied.name, int(varied.low), int(varied.high), log=varied.log)
    return trial.suggest_float(varied.name, varied.low, varied.high, log=varied.log)


def with_settings(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with tuned settings in it; rate and decay become its only rates.

    Raises:
        ConfigError: a value is none that the recipe takes.
    """
    known = tunable()
    typed = {name: known[name](value) for name, value in settings.items()}
    rates = {name: value for name, value in typed.items() if name in _RATES}
    others = {name: value for name, value in typed.items() if name not in _RATES}
    return replace(recipe, rates=replace(recipe.rates, **rates), cnn=None, transformer=None, **others)


def _ends(varied: Varied) -> tuple[float, ...]:
    return varied.values if isinstance(varied, Choice) else (varied.low, varied.high)


def _is_at_edge(span: Span, value: float) -> bool:
    low, high, at = (math.log(x) if span.log else x for x in (span.low, span.high, value))
    return not _EDGE <= (at - low) / (high - low) <= 1 - _EDGE
