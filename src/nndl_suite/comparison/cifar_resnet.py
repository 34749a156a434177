"""The ResNets that were made for CIFAR (arXiv 1512.03385, section 4.2): small enough to train on a laptop."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

CIFAR_RESNETS = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56, "resnet110": 110}
"""Layers by name: 0.27, 0.46, 0.66, 0.85 and 1.73 M parameters at 10 classes."""

_WIDTH = 16


def cifar_resnet(layers: int, num_classes: int) -> nn.Module:
    """Three stages of 16, 32 and 64 channels, on maps of 32, 16 and 8 pixels where images have 32.

    Fresh weights from torch's global generator. Shortcuts have no parameters (the paper's option A).

    Args:
        layers: 6n + 2 for n blocks a stage.
        num_classes: Outputs.
    """
    blocks, rest = divmod(layers - 2, 6)
    assert not rest
    stages = nn.Sequential(*(_stage(_WIDTH << i, blocks, halve=i > 0) for i in range(3)))
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, _WIDTH, 3, padding=1, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(_WIDTH))
    network.add_module("relu", nn.ReLU(inplace=True))
    network.add_module("stages", stages)
    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(4 * _WIDTH, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _stage(channels: int, blocks: int, *, halve: bool) -> nn.Sequential:
    first = BasicBlock(channels // 2, channels, 2, HalvedShortcut()) if halve else BasicBlock(channels, channels)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


class HalvedShortcut(nn.Module):
    """Every other pixel of every other row, with as many channels of zeros added (option A)."""

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2*c y x"]:
        """Maps of half the size with twice the channels."""
        return F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 0, maps.shape[1]))
