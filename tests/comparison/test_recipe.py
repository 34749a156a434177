import math

import pytest
import torch

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.comparison.optimisers import make_optimiser
from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.errors import ConfigError


def _generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_only_matrices_and_kernels_are_decayed(name):
    for arm in resolve_arms("resnet18-slim", "vit", num_classes=10, image_size=32):
        network = arm.build()
        optimiser = make_optimiser(network, name, Rates(rate=0.3, decay=0.02))
        decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
        assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0, 0.02}
        assert {group["lr"] for group in optimiser.param_groups} == {0.3}
        for key, parameter in network.named_parameters():
            expected = parameter.ndim > 1 and key not in ("cls_token", "pos_embed")
            assert (id(parameter) in decayed) == expected, key


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"optimiser": "adamax"}, "did you mean 'adam' or 'adamw'"),
        ({"batch_size": 0}, "batch_size"),
        ({"warmup": 1.0}, "warmup"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"cutmix_alpha": math.inf}, "cutmix_alpha"),
        ({"cutmix_probability": 1.1}, "cutmix_probability"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean and std together"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.0, 0.2)}, "std must be"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**setting)


@pytest.mark.parametrize("setting", [{"rate": 0.0}, {"rate": math.nan}, {"decay": -1.0}])
def test_rates_are_checked(setting):
    with pytest.raises(ConfigError):
        Rates(**setting)
