"""Networks that turn a batch of images into one feature vector each, with a first layer that fits the image size."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Literal

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock

from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.small_maps import replace_convolutions

Stem = Literal["auto", "cifar", "imagenet"]
"""How a ResNet begins. `cifar`: a 3x3 convolution of stride 1 and no pooling, so that a 32 px image keeps a 4x4 last
map. `imagenet`: the architecture's own first layers. `auto`: `cifar` up to `LARGEST_CIFAR_STEM` pixels, where the
network has such a first layer to exchange."""

LARGEST_CIFAR_STEM = 64
"""Pixels. At 64 the ImageNet stem would leave a 2x2 last map."""


def _narrow_resnet18(width: int) -> nn.Module:
    """ResNet-18 with `width` channels in its first stage, not 64, in torchvision's key layout: trains on a laptop."""

    def stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(resnet.conv1x1(channels_in, channels, stride), nn.BatchNorm2d(channels))
        return nn.Sequential(BasicBlock(channels_in, channels, stride, shortcut), BasicBlock(channels, channels))

    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(width))
    network.add_module("relu", nn.ReLU(inplace=True))
    network.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
    network.add_module("layer1", stage(width, width, 1))
    network.add_module("layer2", stage(width, 2 * width, 2))
    network.add_module("layer3", stage(2 * width, 4 * width, 2))
    network.add_module("layer4", stage(4 * width, 8 * width, 2))
    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(8 * width, 1000))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            _initialise(module)
    return network


_RESNETS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet18-slim": partial(_narrow_resnet18, 16),  # a quarter as wide: 0.7 M parameters
    "resnet18-1m": partial(_narrow_resnet18, 20),  # 1.1 M
}


class Backbone(nn.Module):
    """A network without its classifier: normalised images in, features out.

    `trunk` is the bare network, and its `state_dict` has torchvision's (or timm's) own keys.
    """

    def __init__(self, trunk: nn.Module, *, name: str, stem: Literal["cifar", "imagenet"], feature_dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.name = name
        self.stem: Literal["cifar", "imagenet"] = stem
        self.feature_dim = feature_dim

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of normalised images."""
        return self.trunk(images)


def build_backbone(name: str, *, stem: Stem = "auto", image_size: int) -> Backbone:
    """A backbone with fresh weights, drawn from torch's global generator (see `training.seeds.isolated_rng`).

    Args:
        name: `resnet18`, `resnet34`, `resnet50` (torchvision's), `resnet18-slim` (a quarter as wide), `resnet18-1m`
            (1.1 M parameters) or any timm model.
        stem: How a ResNet begins, see `Stem`.
        image_size: Height and width, in pixels, of the images it will see.

    Raises:
        ConfigError: the name is unknown, the stem does not exist for it, or it cannot take images of this size.
    """
    trunk, fixed_stem = _network(name, num_classes=0, stem=stem, image_size=image_size)
    return Backbone(trunk, name=name, stem=fixed_stem, feature_dim=_feature_dim(trunk, name, image_size))


def build_classifier(name: str, *, num_classes: int, stem: Stem = "auto", image_size: int) -> nn.Module:
    """The same networks with a linear classifier on top: normalised images [b, 3, h, w] in, logits [b, k] out.

    Raises:
        ConfigError: as `build_backbone`, or `num_classes` is not positive.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes must be >= 1, got {num_classes}")
    return _network(name, num_classes=num_classes, stem=stem, image_size=image_size)[0]


def backbones_like(name: str) -> list[str]:
    """The ResNets by name, and those of timm's models whose names resemble this one."""
    return [*_RESNETS, *get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)]


def _network(
    name: str, *, num_classes: int, stem: Stem, image_size: int
) -> tuple[nn.Module, Literal["cifar", "imagenet"]]:
    """The network and the stem that it got; `num_classes` 0 leaves the classifier out."""
    if image_size < 1:
        raise ConfigError(f"image_size must be >= 1 pixel, got {image_size}")
    if stem not in ("auto", "cifar", "imagenet"):
        raise unknown_name("stem", stem, ("auto", "cifar", "imagenet"))
    network = _resnet(name, num_classes) if name in _RESNETS else _timm(name, num_classes, image_size)
    replace_convolutions(network)
    first = getattr(network, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not hasattr(network, "maxpool"):
        if stem == "cifar":
            raise ConfigError(f"{name} has no first convolution and pooling to exchange; use stem 'imagenet' for it")
        return network, "imagenet"
    if stem == "imagenet" or (stem == "auto" and image_size > LARGEST_CIFAR_STEM):
        return network, "imagenet"
    narrow = nn.Conv2d(3, first.out_channels, 3, padding=1, bias=False)
    _initialise(narrow)
    network.conv1, network.maxpool = narrow, nn.Identity()
    return network, "cifar"


def _resnet(name: str, num_classes: int) -> nn.Module:
    network = _RESNETS[name]()
    assert isinstance(network.fc, nn.Linear)
    network.fc = nn.Linear(network.fc.in_features, num_classes) if num_classes else nn.Identity()
    return network


def _timm(name: str, num_classes: int, image_size: int) -> nn.Module:
    if not timm.is_model(name):
        raise unknown_name("backbone", name, backbones_like(name))
    described = timm.get_pretrained_cfg(name)
    try:
        if described is not None and described.fixed_input_size:  # such a network is built for one image size
            return timm.create_model(name, num_classes=num_classes, img_size=image_size)
        return timm.create_model(name, num_classes=num_classes)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be built for {image_size} px images: {error}") from error


def _feature_dim(trunk: nn.Module, name: str, image_size: int) -> int:
    """Asked of the network itself: timm's models name this number in several ways."""
    training = trunk.training
    try:
        with torch.no_grad():
            features = trunk.eval()(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{name} cannot take {image_size} px images: {error}") from error
    finally:
        trunk.train(training)
    if features.ndim != 2:
        raise ConfigError(
            f"{name} gives features of shape {list(features.shape)}, expected [1, d]; choose another backbone"
        )
    return features.shape[1]


def _initialise(convolution: nn.Conv2d) -> None:
    """As every convolution of a torchvision ResNet is (arXiv 1502.01852, fan-out)."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
