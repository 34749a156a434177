import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.comparison.recipe import Rates, Recipe, crop_and_flip, make_optimiser
from nndl_suite.errors import ConfigError


def _generator(seed):
    return torch.Generator().manual_seed(seed)


@given(
    b=st.integers(1, 6),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    padding=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 999),
)
def test_each_image_is_some_crop_of_its_padded_self(b, h, w, padding, flip, seed):
    images = torch.randint(1, 256, (b, 3, h, w), dtype=torch.uint8, generator=_generator(seed))
    before = images.clone()
    cropped = crop_and_flip(images, _generator(seed), padding=padding, flip=flip)
    assert torch.equal(images, before)
    draws = _generator(seed)
    shift = torch.randint(2 * padding + 1, (2, b, 1), generator=draws).squeeze(2)
    mirrored = torch.rand(b, 1, generator=draws).squeeze(1) < 0.5
    for i in range(b):
        expected = tv.crop(tv.pad(images[i], [padding]), int(shift[0, i]), int(shift[1, i]), h, w)
        if flip and mirrored[i]:
            expected = tv.horizontal_flip(expected)
        assert torch.equal(cropped[i], expected)


def test_crops_and_mirrors_are_even():
    images = torch.zeros(90_000, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4], images[:, :, 4, 5] = 1, 2  # a mark, and which side is right
    out = crop_and_flip(images, _generator(0), padding=4, flip=True)
    mark = (out == 1).flatten(1).float().argmax(dim=1)
    counts = torch.bincount(mark, minlength=81).reshape(9, 9).double()
    assert (counts / 90_000 - 1 / 81).abs().max() < 0.002
    mirrored = (out[:, :, :, :-1] == 2) & (out[:, :, :, 1:] == 1)
    assert mirrored.flatten(1).any(dim=1).double().mean().item() == pytest.approx(0.5 * 8 / 9, abs=0.01)


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
        ({"optimiser": "adam"}, "did you mean 'adamw'"),
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
