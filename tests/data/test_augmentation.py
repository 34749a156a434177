"""Crops and mirror images against torchvision's, and evenly spread."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from nndl_suite.data.augmentation import crop_and_flip


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
