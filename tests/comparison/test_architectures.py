import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from nndl_suite.comparison.architectures import TOLERANCE, VitShape, forward_flops, matched_vit, resolve_arms
from nndl_suite.errors import ConfigError


def _count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "shape",
    [
        VitShape(image_size=32, num_classes=100, patch=4, width=384, depth=6, head_dim=64, mlp_width=1536),
        VitShape(image_size=64, num_classes=10, patch=8, width=96, depth=7, head_dim=32, mlp_width=400),
    ],
)
def test_counts_in_closed_form(shape):
    network = shape.build().eval()
    assert _count(network) == shape.parameters
    n, d, m = (shape.image_size // shape.patch) ** 2 + 1, shape.width, shape.mlp_width
    block = n * (4 * d * d + 2 * d * m) + 2 * n * n * d
    multiplications = (n - 1) * 3 * shape.patch**2 * d + shape.depth * block + d * shape.num_classes
    assert forward_flops(network, shape.image_size) == 2 * multiplications
    assert network(torch.zeros(2, 3, shape.image_size, shape.image_size)).shape == (2, shape.num_classes)


def test_known_sizes():
    shape = VitShape(image_size=32, num_classes=100, patch=4, width=384, depth=6, head_dim=64, mlp_width=1536)
    assert shape.parameters == 10_730_212
    cnn, vit = resolve_arms("resnet18", "vit", num_classes=100, image_size=32)
    assert (cnn.parameters, cnn.flops) == (11_220_132, 1_110_937_600)
    assert (vit.parameters, vit.shape) == (11_166_180, "width 320, depth 9, 5 heads of 64, MLP 1280, patch 4")


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


@pytest.mark.parametrize(("classes", "size"), [(100, 32), (10, 96)])
def test_a_match_exists_everywhere(classes, size):
    for target in np.geomspace(150_000, 1e8, 150):
        shape = matched_vit(int(target), num_classes=classes, image_size=size)
        assert abs(shape.parameters / target - 1) <= TOLERANCE
        assert shape.width % shape.head_dim == 0
        assert shape.image_size // shape.patch == 8


@pytest.mark.parametrize("cnn", ["resnet18-slim", "mobilenetv3_small_050"])
def test_the_built_match_is_within_two_percent(cnn):
    first, second = resolve_arms(cnn, "vit", num_classes=10, image_size=32)
    assert abs(_count(second.build()) / _count(first.build()) - 1) <= 0.02
    assert second.parameters == _count(second.build())


def test_counting_leaves_the_callers_randomness():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    resolve_arms("resnet18-slim", "vit", num_classes=10, image_size=32)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arms", "size", "message"),
    [
        (("resnet18", "resnet18"), 32, "two different networks"),
        (("resnet81", "vit"), 32, "did you mean"),
        (("resnet18-slim", "vit"), 36, "multiple of 8"),
        (("resnet18-slim", "course-vit"), 34, "4 px patches"),
    ],
)
def test_what_cannot_be_compared(arms, size, message):
    with pytest.raises(ConfigError, match=message):
        resolve_arms(*arms, num_classes=10, image_size=size)


def test_too_small_to_match():
    with pytest.raises(ConfigError, match="choose a larger CNN"):
        matched_vit(2_000, num_classes=100, image_size=32)
