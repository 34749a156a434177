"""Convolutions of small maps are the convolutions that they stand for."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.small_maps import SmallMapConv2d, replace_convolutions


def after_backward(network: nn.Module, maps: Tensor) -> list[Tensor]:
    maps = maps.clone().requires_grad_()
    out = network(maps)
    network.zero_grad()
    (out * torch.arange(out.numel(), dtype=out.dtype).view_as(out).sin()).sum().backward()
    return [out, *(value.grad for value in (maps, *network.parameters()) if value.grad is not None)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 2), (4, 4)])
def test_values_and_gradients_are_torchs(size: tuple[int, int], stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(5, 7, 3, stride=stride, padding=1, bias=bias)).double()
    maps = torch.randn(4, 5, *size, dtype=torch.float64)
    expected = after_backward(network, maps)
    replace_convolutions(network)
    assert isinstance(network[0], SmallMapConv2d)
    for found, wanted in zip(after_backward(network, maps), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [32, 64])
def test_a_resnet_is_the_same_network(size: int) -> None:
    torch.manual_seed(0)
    plain = resnet18().double()
    plain.fc = nn.Identity()
    trunk = build_backbone("resnet18", stem="imagenet", image_size=size).trunk.double()
    trunk.load_state_dict(plain.state_dict())
    images = torch.randn(8, 3, size, size, dtype=torch.float64)
    for found, wanted in zip(after_backward(trunk, images), after_backward(plain, images), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 5, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, stride=3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    network = nn.Sequential(conv)
    replace_convolutions(network)
    assert network[0] is conv


def test_nothing_is_drawn_and_nothing_copied() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    network, before = nn.Sequential(conv), torch.get_rng_state()
    replace_convolutions(network)
    assert torch.equal(torch.get_rng_state(), before)
    assert network[0].weight is conv.weight
    assert network[0].bias is conv.bias


def test_half_precision_gives_half_precision() -> None:
    network = nn.Sequential(nn.Conv2d(64, 32, 3, padding=1))
    maps = torch.randn(16, 64, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = network(maps)
        replace_convolutions(network)
        found = network(maps)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
