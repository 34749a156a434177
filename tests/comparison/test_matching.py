import numpy as np
import pytest

from nndl_suite.comparison.matching import TOLERANCE, matched_vit
from nndl_suite.errors import ConfigError

KINDS = ("vit", "vit-patch2", "vit-pool", "vit-spt-lsa", "vit-conv")


@pytest.mark.parametrize(("classes", "size"), [(100, 32), (10, 96)])
def test_a_match_of_parameters_exists_everywhere(classes, size):
    for target in np.geomspace(150_000, 1e8, 100):
        shape = matched_vit(int(target), num_classes=classes, image_size=size)
        assert abs(shape.parameters / target - 1) <= TOLERANCE
        assert shape.width % shape.head_dim == 0
        assert shape.image_size // shape.patch == 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("match", ["parameters", "flops"])
def test_a_match_of_each_kind_exists_everywhere(kind, match):
    smallest = {"parameters": 200_000, "flops": 80_000_000}[match]
    for target in np.geomspace(smallest, 300 * smallest, 40):
        shape = matched_vit(int(target), match=match, kind=kind, num_classes=100, image_size=32)
        assert abs(getattr(shape, match) / target - 1) <= TOLERANCE


def test_the_nearest_of_the_widest_heads_wins():
    shape = matched_vit(10_730_212, num_classes=100, image_size=32)
    assert (shape.width, shape.depth, shape.head_dim, shape.mlp_width) == (384, 6, 64, 1536)


@pytest.mark.parametrize(
    ("target", "match", "message"),
    [
        (
            2_000,
            "parameters",
            r"of 2,000 parameters, the nearest has [\d,]+ \(\+[\d.]+%\); choose a larger CNN",
        ),
        (
            1_000_000,
            "flops",
            r"of 1,000,000 FLOPs, the nearest has [\d,]+ \(\+[\d.]+%\); choose a larger CNN",
        ),
        (10_000_000, "flop", "did you mean 'flops'"),
    ],
)
def test_what_cannot_be_matched_says_how_near_it_gets(target, match, message):
    with pytest.raises(ConfigError, match=message):
        matched_vit(target, match=match, num_classes=100, image_size=32)
