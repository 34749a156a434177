import json
from dataclasses import replace

import pytest

from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.comparison.recipes import RECIPES, load_recipe
from nndl_suite.errors import ConfigError


def _file(folder, content):
    file = folder / "recipe.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_the_course_projects_recipe_to_the_letter():
    recipe = load_recipe("course-2024")
    assert recipe.optimiser == "adam"
    assert (recipe.cnn, recipe.transformer) == (Rates(rate=1e-3, decay=0.0), Rates(rate=4e-4, decay=1e-5))
    assert (recipe.schedule, recipe.warmup, recipe.label_smoothing) == ("constant", 0.0, 0.0)
    assert (recipe.cutmix_alpha, recipe.cutmix_probability, recipe.cutmix_variant) == (1.0, 1.0, "uncorrected")
    assert (recipe.crop_padding, recipe.flip) == (4, True)
    assert (recipe.mean, recipe.std) == ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def test_a_file_says_what_differs(tmp_path):
    file = _file(tmp_path, {"like": "speed", "batch_size": 64, "cnn": {"rate": 0.1, "decay": 0}})
    assert load_recipe(file) == replace(RECIPES["speed"], batch_size=64, cnn=Rates(rate=0.1, decay=0.0))
    assert load_recipe(_file(tmp_path, {"resolutions": [[0, 16], [0.5, 32]]})) == Recipe(
        resolutions=((0.0, 16), (0.5, 32))
    )
    assert load_recipe(_file(tmp_path, {})) == RECIPES["default"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"warm_up": 0.1}, "unknown setting of a recipe 'warm_up'; did you mean 'warmup'"),
        ({"cnn": {"rat": 0.1}}, "unknown setting of cnn 'rat'; did you mean 'rate'"),
        ({"like": "sped"}, "unknown recipe 'sped'; did you mean 'speed'"),
        ({"batch_size": "many"}, r"recipe.json: batch_size: .*integer.*got 'many'"),
        ({"warmup": 2}, r"recipe.json: warmup is a share of the run in \[0, 1\), got 2.0$"),
        ({"cnn": {"rate": -1}}, "rate must be a number > 0"),
        ({"resolutions": [[0, 16, 3]]}, "resolutions.0"),
        ([1], "expected an object"),
    ],
)
def test_a_file_with_a_fault_is_refused_in_a_sentence(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message) as told:
        load_recipe(_file(tmp_path, content))
    assert len(str(told.value)) < 300 + len(str(tmp_path))


def test_no_such_recipe(tmp_path):
    with pytest.raises(ConfigError, match="unknown recipe 'zzz'; known: a file FILE.json, course-2024"):
        load_recipe("zzz")
    with pytest.raises(ConfigError, match="no recipe: cannot read"):
        load_recipe(str(tmp_path / "none.json"))
