"""Per-image colour operations equal torchvision's, one image at a time, and kornia's."""

import kornia.enhance
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import functional as tv

from nndl_suite.representation.colour import blend, luma, shift_hue, solarise, to_grey

B = 6
NONE, ALL = torch.zeros(B, dtype=torch.bool), torch.ones(B, dtype=torch.bool)


def _images(seed: int) -> torch.Tensor:
    images = torch.rand(B, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    images[0] = images[0, :1]  # grey: no hue
    images[1] = images[1].round()  # ties between channels, black and white
    return images


def _strengths(seed: int, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(B, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 2**31))
def test_brightness_contrast_saturation_are_torchvisions(seed):
    images, strengths = _images(seed), _strengths(seed, 0.0, 2.0)
    for adjust, contrast, saturation in (
        (tv.adjust_brightness, NONE, NONE),
        (tv.adjust_contrast, ALL, NONE),
        (tv.adjust_saturation, NONE, ALL),
    ):
        expected = torch.stack([adjust(i, f) for i, f in zip(images, strengths.tolist(), strict=True)])
        torch.testing.assert_close(blend(images, strengths, contrast=contrast, saturation=saturation), expected)


def test_each_image_may_take_another_operation():
    images, strengths = _images(0), _strengths(0, 0.5, 1.5)
    contrast, saturation = torch.arange(B) % 3 == 1, torch.arange(B) % 3 == 2
    mixed = blend(images, strengths, contrast=contrast, saturation=saturation)
    adjusts = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for i in range(B):
        torch.testing.assert_close(mixed[i], adjusts[i % 3](images[i], strengths[i].item()))


@given(st.integers(0, 2**31))
def test_hue_is_torchvisions(seed):
    images, shifts = _images(seed), _strengths(seed, -0.5, 0.5)
    expected = torch.stack([tv.adjust_hue(i, s) for i, s in zip(images, shifts.tolist(), strict=True)])
    torch.testing.assert_close(shift_hue(images, shifts), expected, atol=2e-6, rtol=0)


def test_hue_is_kornias():
    images, shifts = _images(1), _strengths(1, -0.5, 0.5)
    expected = kornia.enhance.adjust_hue(images, shifts * 2 * torch.pi)  # its unit is the radian
    torch.testing.assert_close(shift_hue(images, shifts), expected, atol=1e-5, rtol=0)


def test_blends_are_kornias():
    """It weights the luma by three digits, 0.299, 0.587 and 0.114, which counts for up to 1e-4."""
    images, strengths = _images(6), _strengths(6, 0.3, 1.7)
    for adjust, contrast, saturation in (
        (kornia.enhance.adjust_brightness_accumulative, NONE, NONE),
        (kornia.enhance.adjust_contrast_with_mean_subtraction, ALL, NONE),
        (kornia.enhance.adjust_saturation_with_gray_subtraction, NONE, ALL),
    ):
        ours = blend(images, strengths, contrast=contrast, saturation=saturation)
        torch.testing.assert_close(ours, adjust(images, strengths), atol=2e-4, rtol=0)


def test_solarising_inverts_the_bright_where_chosen():
    images, chosen = _images(7), torch.arange(B) < 3
    images[0, 0, 0, 0] = 0.5
    ours = solarise(images, chosen)
    assert torch.equal(ours[:3], tv.solarize(images[:3], 0.5))
    assert torch.equal(ours[:3], kornia.enhance.solarize(images[:3], 0.5))
    assert torch.equal(ours[3:], images[3:])


def test_hue_goes_round_and_keeps_value_and_chroma():
    images = _images(2)
    shifted = shift_hue(images, torch.full((B,), 0.3))
    torch.testing.assert_close(shifted.amax(1), images.amax(1))
    torch.testing.assert_close(shifted.amin(1), images.amin(1))
    torch.testing.assert_close(shift_hue(shifted, torch.full((B,), -0.3)), images, atol=2e-6, rtol=0)


def test_strength_one_and_shift_zero_change_nothing():
    images = _images(3)
    one = torch.ones(B)
    for contrast, saturation in ((NONE, NONE), (ALL, NONE), (NONE, ALL)):
        torch.testing.assert_close(blend(images, one, contrast=contrast, saturation=saturation), images)
    torch.testing.assert_close(shift_hue(images, torch.zeros(B)), images, atol=1e-6, rtol=0)


def test_grey_only_where_chosen_and_arguments_stay():
    images = _images(4)
    before = images.clone()
    chosen = torch.arange(B) < 2
    grey = to_grey(images, chosen)
    torch.testing.assert_close(grey[:2], tv.rgb_to_grayscale(images[:2], 3))
    assert torch.equal(grey[2:], images[2:])
    torch.testing.assert_close(luma(images), tv.rgb_to_grayscale(images))
    shift_hue(images, torch.full((B,), 0.1))
    assert torch.equal(images, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_cuda():
    images, shifts = _images(5), _strengths(5, -0.5, 0.5)
    torch.testing.assert_close(
        shift_hue(images.cuda(), shifts.cuda()).cpu(), shift_hue(images, shifts), atol=1e-5, rtol=0
    )
