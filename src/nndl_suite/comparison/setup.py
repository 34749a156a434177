"""What one comparison compares, and under what circumstances."""

from dataclasses import dataclass

from nndl_suite.comparison.architectures import Architecture
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.tuned import Tuned


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Both arms with their rates, and what they share."""

    arms: tuple[Architecture, Architecture]
    """The CNN, then the Transformer."""
    rates: tuple[Rates, Rates]
    recipe: Recipe
    epochs: int
    seeds: tuple[int, ...]
    """One training of each arm per seed."""
    dataset: str
    class_names: tuple[str, ...]
    train_images: int
    test_images: int
    tuned: Tuned | None
    """How the rates were chosen; None where the recipe states them."""
