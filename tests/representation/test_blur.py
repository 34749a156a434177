"""Blur with one width per image equals torchvision's, one image at a time, and kornia's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d
from torchvision.transforms import functional as tv

from nndl_suite.representation.blur import blur, blur_radius, gaussian_taps


def _images(size: int, b: int = 5) -> torch.Tensor:
    return torch.rand(b, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))


@given(st.integers(2, 50), st.integers(0, 2**31))
def test_it_is_torchvisions_and_kornias(size, seed):
    images, taps = _images(size), 2 * blur_radius(size) + 1
    sigma = 0.1 + 1.9 * torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = blur(images, sigma)
    theirs = [tv.gaussian_blur(i, [taps, taps], [s, s]) for i, s in zip(images, sigma.tolist(), strict=True)]
    torch.testing.assert_close(ours, torch.stack(theirs), atol=1e-12, rtol=0)
    torch.testing.assert_close(ours, gaussian_blur2d(images, taps, sigma[:, None].expand(-1, 2)), atol=1e-12, rtol=0)


def test_sigma_zero_changes_nothing():
    images = _images(32).float()
    assert torch.equal(blur(images, torch.zeros(5)), images)


def test_the_kernel_is_simclrs():
    """Its code: height // 10 for the kernel, made odd by 2 * (kernel // 2) + 1."""
    for size in range(20, 300):
        assert blur_radius(size) == size // 10 // 2
    assert [2 * blur_radius(size) + 1 for size in (32, 64, 96, 224)] == [3, 7, 9, 23]
    assert [blur_radius(size) for size in (1, 2, 8)] == [0, 1, 1]


def test_weights_sum_to_one_and_fall_by_the_gaussian():
    taps = gaussian_taps(torch.tensor([0.5, 1.3], dtype=torch.float64), 4)
    torch.testing.assert_close(taps.sum(1), torch.ones(2, dtype=torch.float64))
    ratio = (taps[:, 6] / taps[:, 4]).log()
    torch.testing.assert_close(ratio, -0.5 * (2 / torch.tensor([0.5, 1.3], dtype=torch.float64)) ** 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_cuda():
    images, sigma = _images(96).float(), torch.tensor([0.0, 0.3, 0.9, 1.4, 2.0])
    torch.testing.assert_close(blur(images.cuda(), sigma.cuda()).cpu(), blur(images, sigma), atol=1e-5, rtol=0)
