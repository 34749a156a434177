import colorsys
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from nndl_suite.comparison.corruptions import CORRUPTIONS, blur, brightness, contrast, noise, pixelation


def _images(n=3, size=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


def _draw(seed=0):
    return partial(torch.randn, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_bytes_in_bytes_out_each_image_for_itself(name):
    images = _images()
    done = CORRUPTIONS[name](images, _draw())
    assert (done.dtype, done.shape) == (torch.uint8, images.shape)
    assert torch.equal(images, _images())
    assert not torch.equal(done, images)
    if name != "noise":
        assert torch.equal(done[1:2], CORRUPTIONS[name](images[1:2], _draw()))


def test_noise_has_the_stated_deviation_and_is_drawn_from_the_draw():
    grey = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    off = noise(grey, _draw()).double() - 128
    assert off.std().item() == pytest.approx(0.08 * 255, rel=0.02)
    assert off.mean().item() == pytest.approx(0, abs=0.5)
    assert torch.equal(noise(grey, _draw(1)), noise(grey, _draw(1)))
    assert not torch.equal(noise(grey, _draw(1)), noise(grey, _draw(2)))


def test_blur_beside_scipys_gaussian():
    images = _images()
    expected = images.numpy().astype(float)
    for axis in (2, 3):
        expected = gaussian_filter1d(expected, 0.7, axis=axis, mode="mirror", truncate=6)
    assert np.abs(blur(images, _draw()).numpy() - expected).max() <= 0.6  # rounded to bytes


def test_contrast_keeps_the_mean_of_each_channel():
    images = _images()
    mean = images.double().mean(dim=(2, 3), keepdim=True)
    expected = mean + 0.4 * (images - mean)
    assert (contrast(images, _draw()) - expected).abs().max() <= 0.51


def test_brightness_is_v_of_hsv_pixel_by_pixel():
    images = _images(1, 8)
    images[0, :, 0, 0] = 0
    done = brightness(images, _draw())
    for y in range(8):
        for x in range(8):
            h, s, v = colorsys.rgb_to_hsv(*(images[0, :, y, x].double() / 255).tolist())
            expected = 255 * np.array(colorsys.hsv_to_rgb(h, s, min(1, v + 0.15)))
            assert done[0, :, y, x].numpy() == pytest.approx(expected, abs=0.51)


def test_pixelation_keeps_flat_parts_and_the_mean():
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    assert torch.equal(pixelation(flat, _draw()), flat)
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255
    done = pixelation(stripes, _draw()).double()
    assert done.mean().item() == pytest.approx(127.5, abs=8)
    assert done.std() < 0.8 * stripes.double().std()
