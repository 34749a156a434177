"""What words make of numbers and names."""

import pytest

from nndl_suite.report import words


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("random", "random"),
        ("/data/runs/simclr", "simclr"),
        ("runs/simclr/", "simclr"),
        (r"C:\runs\simclr", "simclr"),
        ("/", "/"),
    ],
)
def test_last_name_of_a_path_on_either_system(place, name):
    assert words.last_name(place) == name
