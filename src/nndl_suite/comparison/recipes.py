"""Recipes that have names, and recipes from JSON files."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from nndl_suite.comparison.mixing import UNCORRECTED
from nndl_suite.comparison.recipe import DEFAULT_RECIPE, Rates, Recipe
from nndl_suite.errors import ConfigError, RunError, unknown_name
from nndl_suite.training.files import Json, read_json

RECIPES: dict[str, Recipe] = {
    "default": DEFAULT_RECIPE,
    "course-2024": Recipe(
        optimiser="adam",
        cnn=Rates(rate=1e-3, decay=0.0),
        transformer=Rates(rate=4e-4, decay=1e-5),
        schedule="constant",
        warmup=0.0,
        label_smoothing=0.0,
        cutmix_probability=1.0,
        cutmix_variant=UNCORRECTED,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    "speed": Recipe(
        optimiser="muon",
        rates=Rates(rate=0.01, decay=1.0),
        batch_size=512,
        schedule="linear",
        warmup=0.2,
        label_smoothing=0.2,
        crop_padding=2,
        cutmix_probability=0.0,
        resolutions=((0.0, 20), (0.4, 24), (0.7, 32)),
        test_mirrored=True,
    ),
}
"""`default`: for both arms of a comparison. `course-2024`: the course project's, for its `course-resnet18` and
`course-vit` and 100 epochs; its batch size is not known, 256 stands in. `speed`: `whitened-cnn` or
`whitened-cnn-wide` on CIFAR in minutes; its decay keeps kernels short, so that Muon's steps go on to turn them."""


def load_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a JSON file: an object of `Recipe`'s fields, of which any may be left out.

    A file may begin from a named recipe: `{"like": "speed", "batch_size": 256}`.

    Raises:
        ConfigError: no such name, or the file says something that no recipe can have.
    """
    if name in RECIPES:
        return RECIPES[name]
    file = Path(name)
    if file.suffix != ".json":
        raise unknown_name("recipe", name, [*RECIPES, "a file FILE.json"])
    try:
        stated = read_json(file)
    except RunError as error:
        raise ConfigError(f"no recipe: {error}") from error
    try:
        start = str(stated.pop("like", "default"))
        if start not in RECIPES:
            raise unknown_name("recipe", start, RECIPES)
        _refuse_unknown(stated)
        adapter = TypeAdapter(Recipe)
        whole = cast(dict[str, object], adapter.dump_python(RECIPES[start])) | stated
        return adapter.validate_python(whole)
    except ValidationError as error:
        raise ConfigError(f"{file}: {_in_words(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _refuse_unknown(stated: Mapping[str, Json]) -> None:
    settings, rates = ([field.name for field in fields(of)] for of in (Recipe, Rates))
    for key, value in stated.items():
        if key not in settings:
            raise unknown_name("setting of a recipe", key, settings)
        for name in value if isinstance(value, dict) else ():
            if name not in rates:
                raise unknown_name(f"setting of {key}", name, rates)


def _in_words(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "value_error":  # one of our own, which says all
        return first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
