import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from nndl_suite.comparison.architectures import count_layers, resolve_arm, resolve_arms
from nndl_suite.comparison.cifar_resnet import CIFAR_RESNETS, HalvedShortcut, cifar_resnet
from nndl_suite.comparison.layer_table import forward_flops, layer_table
from nndl_suite.errors import ConfigError


def _count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_known_sizes():
    cnn, vit = resolve_arms("resnet18", "vit", num_classes=100, image_size=32)
    assert (cnn.parameters, cnn.flops) == (11_220_132, 1_110_937_600)
    assert (vit.parameters, vit.shape) == (11_166_180, "width 320, depth 9, 5 heads of 64, MLP 1280, patch 4")


def test_an_arm_alone_is_the_arm_of_the_pair():
    cnn, vit = resolve_arms("resnet18-slim", "vit-pool", num_classes=10, image_size=16, match="flops")
    for arm in (cnn, vit):
        alone = resolve_arm(arm.name, cnn="resnet18-slim", num_classes=10, image_size=16, match="flops")
        assert (alone.shape, alone.parameters, alone.flops) == (arm.shape, arm.parameters, arm.flops)
    for arm in (cnn.name, vit.name):
        with pytest.raises(ConfigError, match="at least 2 classes, the set has 1"):
            resolve_arm(arm, cnn="resnet18-slim", num_classes=1, image_size=16)


def test_the_course_models():
    cnn, vit = resolve_arms("course-resnet18", "course-vit", num_classes=100, image_size=32)
    assert (cnn.parameters, vit.parameters) == (11_227_812, 11_139_844)
    assert cnn.flops == 74_125_312
    network = vit.build()
    assert sum(parameter.numel() for parameter in network.blocks[1].parameters()) == 443_904
    assert network.pos_embed.shape == (1, 65, 192)
    assert network.blocks[1].qkv.bias is None
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    assert list(cnn.build().state_dict()) == list(resnet18(num_classes=100).state_dict())


def test_the_course_vit_reads_patches_in_place():
    """Each token must see its own 4 x 4 patch: moving a mark by one patch moves the change by one token."""
    vit = resolve_arms("resnet18-slim", "course-vit", num_classes=10, image_size=32)[1].build().eval()
    tokens = []
    vit.blocks.register_forward_hook(lambda _module, inputs, _output: tokens.append(inputs[0] - vit.pos_embed))
    images = torch.zeros(3, 3, 32, 32)
    images[1, :, 4, 0], images[2, :, 0, 8] = 1, 1  # patches 8 and 2
    with torch.no_grad():
        vit(images)
    changed = (tokens[0] - tokens[0][:1]).abs().amax(dim=2) > 1e-6
    assert changed.nonzero().tolist() == [[1, 1 + 8], [2, 1 + 2]]


@pytest.mark.parametrize("cnn", ["resnet18-slim", "resnet18-1m", "resnet56", "mobilenetv3_small_050"])
def test_the_built_match_is_within_two_percent(cnn):
    first, second = resolve_arms(cnn, "vit", num_classes=100, image_size=32)
    assert abs(_count(second.build()) / _count(first.build()) - 1) <= 0.02
    assert second.parameters == _count(second.build())


@pytest.mark.parametrize("kind", ["vit", "vit-patch2", "vit-pool", "vit-spt-lsa", "vit-conv"])
def test_equal_flops(kind):
    first, second = resolve_arms("resnet18-slim", kind, num_classes=10, image_size=32, match="flops")
    assert abs(second.flops / first.flops - 1) <= 0.02
    assert forward_flops(second.build(), 32) == second.flops
    assert (second.name, second.parameters) == (kind, _count(second.build()))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
    ],
)
def test_the_resnets_of_cifar(name, parameters):
    """The paper's table 6 says 0.27, 0.46, 0.66, 0.85 and 1.7 M."""
    layers = CIFAR_RESNETS[name]
    network = cifar_resnet(layers, 10)
    assert _count(network) == parameters
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    rows = {row.name: row.output_shape for row in layer_table(network, 32)}
    blocks = (layers - 2) // 6
    assert [rows[f"stages.{i}.{blocks - 1}.bn2"] for i in range(3)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_shortcut_between_stages_has_no_parameters():
    maps = torch.arange(32.0).reshape(1, 2, 4, 4)
    halved = HalvedShortcut()(maps)
    assert halved[0, :2].tolist() == [[[0, 2], [8, 10]], [[16, 18], [24, 26]]]
    assert halved.shape == (1, 4, 2, 2)
    assert not halved[0, 2:].any()


@pytest.mark.parametrize(
    ("name", "width", "parameters"), [("resnet18-slim", 16, 713_076), ("resnet18-1m", 20, 1_109_240)]
)
def test_narrow_resnets(name, width, parameters):
    arm, _ = resolve_arms(name, "vit", num_classes=100, image_size=32)
    kernels, norms, classifier = 2724 * width**2 + 27 * width, 150 * width, 800 * width + 100
    assert arm.parameters == kernels + norms + classifier == parameters
    assert arm.flops == 2 * (32 * 32 * (27 * width + 132 * width**2) + 800 * width)


def test_counting_leaves_the_callers_randomness():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for arm in resolve_arms("resnet18-slim", "vit", num_classes=10, image_size=32):
        rows = count_layers(arm, 32)
        assert (sum(row.parameters for row in rows), sum(row.flops for row in rows)) == (arm.parameters, arm.flops)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arms", "size", "message"),
    [
        (("resnet18", "resnet18"), 32, "two different networks"),
        (("vit", "vit-pool"), 32, "a network of a size of its own"),
        (("resnet81", "vit"), 32, "did you mean 'resnet18'"),
        (("resnet18-slim", "vit-pol"), 32, "did you mean 'vit-pool'"),
        (("resnet18-slim", "vit_tiny_patch16_242"), 32, "did you mean 'vit_tiny_patch16_224'"),
        (("resnet18-slim", "vit"), 36, "multiple of 8"),
        (("resnet18-slim", "vit-patch2"), 33, "multiple of 2"),
        (("resnet18-slim", "course-vit"), 34, "4 px patches"),
        (("resnet18-slim", "vit_tiny_patch16_224"), 36, "16 px patches"),
        (("resnet18-slim", "mixer_s32_224"), 40, "32 px patches"),
    ],
)
def test_what_cannot_be_compared(arms, size, message):
    with pytest.raises(ConfigError, match=message):
        resolve_arms(*arms, num_classes=10, image_size=size)


def test_a_network_that_images_are_too_small_for():
    with pytest.raises(ConfigError, match="cannot take 8 px images"):
        resolve_arms("test_convnext", "vit", num_classes=10, image_size=8)


def test_one_class_is_no_comparison():
    with pytest.raises(ConfigError, match="at least 2 classes, the set has 1"):
        resolve_arms("resnet18-slim", "vit", num_classes=1, image_size=32)
