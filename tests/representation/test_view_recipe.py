import pytest

from nndl_suite.errors import ConfigError
from nndl_suite.representation.view_recipe import ViewRecipe


def test_strength_scales_colours_up_to_their_limits():
    assert ViewRecipe().strengthened(1.0) == ViewRecipe()
    assert ViewRecipe().strengthened(0.5) == ViewRecipe(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    assert ViewRecipe().strengthened(9) == ViewRecipe(brightness=1, contrast=1, saturation=1, hue=0.5)
    assert ViewRecipe(blur=0.5, solarise=0.2).strengthened(0).blur == 0.5


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"ratio": (1.5, 2.0)}, "ratio"),
        ({"flip": 1.5}, "flip"),
        ({"blur": -0.5}, "blur is a probability"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma must be 0 < low <= high"),
        ({"blur_sigma": (2.0, 1.0)}, "blur_sigma"),
        ({"blur_sigma": (1.0, float("inf"))}, "blur_sigma"),
        ({"solarise": 1.1}, "solarise"),
        ({"brightness": -0.1}, "brightness"),
        ({"hue": 0.6}, "hue"),
    ],
)
def test_a_recipe_out_of_range_is_refused(setting, told):
    with pytest.raises(ConfigError, match=told):
        ViewRecipe(**setting)
