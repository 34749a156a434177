"""Backbones are torchvision's and timm's own networks, cut before the classifier."""

import pytest
import timm
import torch
from torchvision.models import resnet18, resnet50

from nndl_suite.errors import ConfigError
from nndl_suite.models.backbones import build_backbone, build_classifier


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_resnet18_with_imagenet_stem_is_torchvisions():
    reference = resnet18().eval()
    backbone = build_backbone("resnet18", stem="imagenet", image_size=64).eval()
    assert backbone.trunk.load_state_dict(reference.state_dict(), strict=False).unexpected_keys == [
        "fc.weight",
        "fc.bias",
    ]
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(reference.fc(backbone(images)), reference(images))
    assert backbone.feature_dim == 512


def test_cifar_stem_is_a_stride_1_convolution_without_pooling():
    reference = resnet18()
    reference.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    backbone = build_backbone("resnet18", image_size=32).eval()
    assert backbone.stem == "cifar"
    reference.load_state_dict(backbone.trunk.state_dict(), strict=False)
    reference.eval()
    images = torch.randn(2, 3, 32, 32)
    x = reference.relu(reference.bn1(reference.conv1(images)))  # and no max-pool
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        x = layer(x)
    assert x.shape[-2:] == (4, 4)
    torch.testing.assert_close(backbone(images), x.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("stem", "count"),
    [("cifar", 11_220_132), ("imagenet", 11_227_812)],
)
def test_parameter_counts_of_resnet18_with_100_classes(stem, count):
    assert _parameters(build_classifier("resnet18", num_classes=100, stem=stem, image_size=32)) == count


def test_auto_stem_goes_by_image_size():
    assert build_backbone("resnet18-slim", image_size=64).stem == "cifar"
    assert build_backbone("resnet18-slim", image_size=96).stem == "imagenet"


def test_slim_resnet_has_the_keys_of_torchvisions():
    slim = build_classifier("resnet18-slim", num_classes=10, stem="imagenet", image_size=32)
    assert list(slim.state_dict()) == list(resnet18().state_dict())
    assert _parameters(slim) < 0.75e6
    assert slim(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_resnet50_features():
    backbone = build_backbone("resnet50", image_size=32)
    assert backbone.feature_dim == 2048
    assert set(backbone.trunk.state_dict()) == {k for k in resnet50().state_dict() if not k.startswith("fc.")}


def test_a_timm_vit_takes_the_image_size_and_its_own_stem():
    backbone = build_backbone("vit_tiny_patch16_224", image_size=32).eval()
    assert (backbone.stem, backbone.feature_dim) == ("imagenet", 192)
    reference = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32).eval()
    reference.load_state_dict(backbone.trunk.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone(images), reference(images))


def test_building_leaves_the_network_in_training_mode():
    assert build_backbone("resnet18-slim", image_size=32).trunk.training


@pytest.mark.parametrize(
    ("name", "stem", "image_size", "told"),
    [
        ("resnet81", "auto", 32, "did you mean"),
        ("xyzzy", "auto", 32, "known: resnet18"),
        ("vit_tiny_patch16_224", "cifar", 32, "imagenet"),
        ("vit_tiny_patch16_224", "auto", 8, "8 px"),
        ("resnet18", "cifra", 32, "cifar"),
        ("resnet18", "auto", 0, "image_size"),
    ],
)
def test_what_cannot_be_built_is_told_kindly(name, stem, image_size, told):
    with pytest.raises(ConfigError, match=told):
        build_backbone(name, stem=stem, image_size=image_size)
