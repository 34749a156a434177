import pytest
import torch
from torch.nn import functional as F

from nndl_suite.comparison.architectures import resolve_arm
from nndl_suite.comparison.whitened_cnn import WIDE, FitsImages, WhitenedCNN, whitening_kernels


def _images(seed=0):
    """Neighbouring pixels and channels are alike, as in photos."""
    noise = torch.randn(200, 3, 20, 20, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise + noise.mean(dim=1, keepdim=True), 3, stride=1)


def test_responses_to_patches_are_white():
    images = _images()
    kernels = whitening_kernels(images, 2)
    assert kernels.shape == (24, 3, 2, 2)
    assert torch.equal(kernels[:12], -kernels[12:])
    responses = F.conv2d(images, kernels[:12]).transpose(0, 1).flatten(1)
    raw = torch.corrcoef(F.unfold(images, 2).transpose(0, 1).flatten(1))
    assert (raw - torch.eye(12)).abs().max() > 0.5  # or there were nothing to whiten
    assert torch.cov(responses) == pytest.approx(torch.eye(12).numpy(), abs=0.05)


def test_a_flat_colour_has_kernels_too():
    assert whitening_kernels(torch.ones(4, 3, 8, 8), 2).isfinite().all()


def test_the_first_layer_is_fitted_and_never_trained():
    network = WhitenedCNN(10)
    assert isinstance(network, FitsImages)
    before = network.whiten.weight.clone()
    network.fit_images(_images())
    assert not torch.equal(before, network.whiten.weight)
    assert not network.whiten.weight.requires_grad
    assert network.whiten.bias is not None
    assert network.whiten.bias.requires_grad


def test_kernels_begin_as_identities():
    for name, kernel in WhitenedCNN(10).named_parameters():
        if kernel.ndim == 4 and "stages" in name:
            out, into = kernel.shape[:2]
            same = min(out, into)
            images = torch.randn(2, into, 6, 6)
            assert torch.allclose(F.conv2d(images, kernel, padding=1)[:, :same], images[:, :same], atol=1e-5), name


@pytest.mark.parametrize("size", [16, 20, 24, 32, 64])
def test_any_size_goes_in(size):
    assert WhitenedCNN(7).eval()(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_parameters_in_closed_form():
    widths = (24, 64, 256, 512)
    stages = sum(9 * (a * b + 2 * b * b) + 3 * 2 * b for a, b in zip(widths, widths[1:], strict=False))
    assert sum(p.numel() for p in WhitenedCNN(100).parameters()) == 24 * 12 + 24 + stages + 1024 * 100 == 7_420_600


def test_the_wide_one_has_wider_stages():
    arm = resolve_arm("whitened-cnn-wide", cnn="resnet18", num_classes=100, image_size=32)
    assert [stage.conv3.out_channels for stage in arm.build().stages] == [128, 384, 512]
    assert arm.parameters == sum(p.numel() for p in WhitenedCNN(100, WIDE).parameters()) == 10_016_056
