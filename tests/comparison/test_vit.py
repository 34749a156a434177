"""Each kind of ViT: its counts in closed form, and what sets it apart against plain loops."""

from dataclasses import replace

import pytest
import torch
from timm.layers.attention import Attention
from torch.nn import functional as F

from nndl_suite.comparison.layer_table import forward_flops
from nndl_suite.comparison.vit import VitShape, vit_of_kind
from nndl_suite.comparison.vit_parts import ConvolutionalStem, LocalSelfAttention, ShiftedPatches
from nndl_suite.errors import ConfigError

SIZES = {"width": 64, "depth": 2, "head_dim": 32, "mlp_width": 200}
KINDS = ("vit", "vit-patch2", "vit-pool", "vit-spt-lsa", "vit-conv")


def shape_of(kind, *, image_size=32, num_classes=10):
    return vit_of_kind(kind, num_classes=num_classes, image_size=image_size)(**SIZES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image_size", [32, 64])
def test_counts_in_closed_form(kind, image_size):
    shape = shape_of(kind, image_size=image_size if kind != "vit-patch2" else 16)
    network = shape.build().eval()
    assert sum(value.numel() for value in network.parameters()) == shape.parameters
    assert forward_flops(network, shape.image_size) == shape.flops
    assert network(torch.zeros(2, 3, shape.image_size, shape.image_size)).shape == (2, 10)


def test_sizes_at_32_pixels():
    shape = VitShape(image_size=32, num_classes=100, patch=4, width=384, depth=6, head_dim=64, mlp_width=1536)
    assert shape.parameters == 10_730_212
    found = {kind: shape_of(kind) for kind in KINDS}
    assert {kind: shape.tokens for kind, shape in found.items()} == {
        "vit": 65,
        "vit-patch2": 257,
        "vit-pool": 64,
        "vit-spt-lsa": 65,
        "vit-conv": 65,
    }
    plain = found["vit"].parameters
    assert found["vit-patch2"].parameters - plain == (257 - 65) * 64 - (48 - 12) * 64
    assert plain - found["vit-pool"].parameters == 64 + 64  # the class token and its position
    assert found["vit-spt-lsa"].parameters - plain == 4 * 48 * 64 + 2 * 240 + 2 * 2  # four copies, a norm, temperatures
    stem = 9 * 3 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64 + 64 * 64 + 64
    assert found["vit-conv"].parameters - plain == stem - (48 * 64 + 64)
    shown = "width 64, depth 2, 2 heads of 32, MLP 200, patch 4, shifted patches, local attention"
    assert str(found["vit-spt-lsa"]) == shown


def test_the_mean_is_over_all_tokens():
    network = shape_of("vit-pool").build().eval().double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    assert network.cls_token is None
    with torch.no_grad():
        tokens = network.forward_features(images)
        pooled = torch.stack([sum(image) / 64 for image in tokens])
        expected = network.head(F.layer_norm(pooled, (64,), eps=network.fc_norm.eps))  # a fresh norm scales by 1
        torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(("size", "patch"), [(8, 4), (6, 2), (9, 3)])
def test_shifted_patches_by_loops(size, patch):
    torch.manual_seed(0)
    layer = ShiftedPatches(image_size=size, patch=patch, width=5).double()
    torch.nn.init.normal_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    image = torch.rand(3, size, size, dtype=torch.float64)
    by, tokens = patch // 2, []
    for top in range(0, size, patch):
        for left in range(0, size, patch):
            values = []
            for dy, dx in ((0, 0), (-by, -by), (-by, by), (by, -by), (by, by)):  # what a copy shows at a pixel
                for channel in image:
                    for y in range(top + dy, top + dy + patch):
                        for x in range(left + dx, left + dx + patch):
                            inside = 0 <= y < size and 0 <= x < size
                            values.append(channel[y, x].item() if inside else 0.0)
            row = torch.tensor(values, dtype=torch.float64)
            row = (row - row.mean()) / (row.var(correction=0) + layer.norm.eps).sqrt()
            tokens.append(layer.proj.weight @ (row * layer.norm.weight + layer.norm.bias) + layer.proj.bias)
    torch.testing.assert_close(layer(image[None]), torch.stack(tokens)[None])


def test_local_attention_by_loops():
    torch.manual_seed(0)
    layer = LocalSelfAttention(Attention(12, num_heads=3, qkv_bias=True)).double()
    torch.nn.init.uniform_(layer.inverse_temperature, 0.1, 2)
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    q, k, v = layer.qkv(tokens).reshape(2, 5, 3, 3, 4).unbind(2)  # [b, n, heads, head dim]
    mixed = torch.zeros(2, 5, 3, 4, dtype=torch.float64)
    for b in range(2):
        for head in range(3):
            for i in range(5):
                others = [j for j in range(5) if j != i]
                scores = torch.stack([layer.inverse_temperature[head] * q[b, i, head] @ k[b, j, head] for j in others])
                weights = scores.exp() / scores.exp().sum()
                mixed[b, i, head] = sum(w * v[b, j, head] for w, j in zip(weights, others, strict=True))
    torch.testing.assert_close(layer(tokens), layer.proj(mixed.flatten(2)))


def test_local_attention_begins_at_the_usual_temperature_and_learns_it():
    network = shape_of("vit-spt-lsa").build()
    temperature = network.blocks[1].attn.inverse_temperature
    assert temperature.tolist() == pytest.approx([32**-0.5] * 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network(torch.rand(2, 3, 32, 32)).square().sum()
    loss.backward()
    assert temperature.grad is not None
    assert (temperature.grad != 0).all()


def test_the_convolutional_stem():
    """Maps halve while channels double; a token sees the pixels about its own patch, and no others."""
    torch.manual_seed(0)
    stem = ConvolutionalStem(image_size=32, patch=8, width=64).eval()
    convolutions = [halving[0] for halving in stem.halvings]
    assert [(c.in_channels, c.out_channels, c.stride) for c in convolutions] == [
        (3, 16, (2, 2)),
        (16, 32, (2, 2)),
        (32, 64, (2, 2)),
    ]
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    stem(image)[0, 5].sum().backward()  # the token of row 1, column 1
    assert image.grad is not None
    seen = image.grad[0].abs().amax(dim=0).nonzero()
    assert seen.min().item() >= 8 - 7
    assert seen.max().item() < 16 + 7


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("vit-patch2", 33, "multiple of 2, got 33 px"),
        ("vit", 36, "multiple of 8, got 36 px"),
        ("vit-pool", 4, "multiple of 8, got 4 px"),
        ("vit-conv", 96, "12 px is no such patch"),
        ("vit-conv", 8, "1 px is no such patch"),
        ("vit-pol", 32, "did you mean 'vit-pool'"),
    ],
)
def test_what_cannot_be_cut(kind, size, message):
    with pytest.raises(ConfigError, match=message):
        shape_of(kind, image_size=size)


def test_heads_fill_the_width():
    shape = VitShape(image_size=32, num_classes=10, patch=4, **SIZES)
    with pytest.raises(ConfigError, match="multiple of the heads' 32"):
        replace(shape, width=80)
