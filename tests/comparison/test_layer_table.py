"""FLOPs and parameters, layer by layer, against closed forms, torchvision's networks and torchinfo."""

import pytest
import torch
import torchinfo
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import resnet18

from nndl_suite.comparison.layer_table import forward_flops, layer_table
from nndl_suite.models.backbones import build_classifier
from nndl_suite.models.small_maps import SmallMapConv2d


def tiny_vit():
    return VisionTransformer(img_size=32, patch_size=4, num_classes=10, embed_dim=64, depth=2, num_heads=2)


class Encoder(nn.Module):
    """A network of torch's own encoder, whose fused kernel the counter of torch does not see."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 64, 4, stride=4)
        self.encoder = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(self.encoder(self.embed(images).flatten(2).mT).mean(dim=1))


class Shared(nn.Module):
    """A layer that runs twice, one that has its weights, one that never runs, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 32)
        self.twice = nn.Linear(8, 8, bias=False)
        self.never = nn.Linear(8, 5)
        self.same = self.twice
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.twice.weight
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, images):
        return self.tied(self.same(self.twice(self.embed(images).flatten(1)))) * self.scale


NETWORKS = {
    "resnet18": lambda: build_classifier("resnet18", num_classes=100, image_size=32),
    "mobilenet": lambda: build_classifier("mobilenetv3_small_050", num_classes=10, image_size=32),
    "vit": tiny_vit,
    "encoder": Encoder,
    "shared": Shared,
}


def test_convolutions_count_as_written():
    """`models.small_maps` multiplies less on maps of 2 x 2 and 1 x 1; the architecture's own figure stays."""
    ours = build_classifier("resnet18", num_classes=100, stem="imagenet", image_size=32)
    assert isinstance(ours.layer4[1].conv1, SmallMapConv2d)
    assert forward_flops(ours, 32) == forward_flops(resnet18(num_classes=100), 32) == 74_125_312
    assert isinstance(ours.layer4[1].conv1, SmallMapConv2d)


def test_torchs_fused_encoder_is_counted():
    n, d, m = 64, 64, 128
    multiplications = n * 48 * d + n * (4 * d * d + 2 * d * m) + 2 * n * n * d + 10 * d
    before = torch.backends.mha.get_fastpath_enabled()
    assert forward_flops(Encoder(), 32) == 2 * multiplications
    assert torch.backends.mha.get_fastpath_enabled() == before


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "vit"])
def test_flops_are_those_of_torchinfo(name):
    """torchinfo counts a multiplication with its addition once, hence the factor of 2. The other differences:

    It adds biases and the parameters of norms as if each were a multiplication (once a pixel in convolutions, else
    once an image). It counts a linear layer once an image, though a ViT applies it to each of its tokens. It sees
    layers only, so the two products of an attention, which belong to no layer, are missing.
    """
    network = NETWORKS[name]().eval()
    found = torchinfo.summary(network, (1, 3, 32, 32), verbose=0)
    names = {layer: name for name, layer in network.named_modules()}
    flops = {row.name: row.flops for row in layer_table(network, 32)}
    total = 0
    for layer in (info for info in found.summary_list if info.is_leaf_layer and info.macs):
        pixels = layer.output_size[2:] if isinstance(layer.module, nn.Conv2d) else ()
        positions = torch.Size(pixels).numel()
        if not isinstance(layer.module, nn.Conv2d | nn.Linear):
            assert isinstance(layer.module, nn.BatchNorm2d | nn.LayerNorm)
            assert layer.macs == sum(value.numel() for value in layer.module.parameters())
            assert flops[names[layer.module]] == 0
            continue
        bias = 0 if layer.module.bias is None else layer.module.bias.numel()
        tokens = layer.output_size[1] if len(layer.output_size) == 3 else 1
        expected = 2 * tokens * (layer.macs - bias * positions)
        assert flops[names[layer.module]] == expected
        total += expected
    attention = 2 * 2 * 2 * 65 * 65 * 64 if name == "vit" else 0  # blocks, products, FLOPs of a multiplication; n² d
    assert forward_flops(network, 32) == total + attention
    assert sum(row.parameters for row in layer_table(network, 32)) == found.total_params


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rows_add_up(name):
    network = NETWORKS[name]()
    rows = layer_table(network, 32)
    assert sum(row.parameters for row in rows) == sum(value.numel() for value in network.parameters())
    assert sum(row.flops for row in rows) == forward_flops(network, 32)
    assert len({row.name for row in rows}) == len(rows)
    assert not network._forward_hooks
    assert network.training


def test_rows_of_a_vit():
    rows = {row.name: row for row in layer_table(tiny_vit(), 32)}
    assert (rows["cls_token"].kind, rows["cls_token"].parameters) == ("Parameter", 64)
    assert rows["patch_embed.proj"].output_shape == (64, 8, 8)
    assert (rows["blocks.0.attn"].parameters, rows["blocks.0.attn"].flops) == (0, 2 * 2 * 65 * 65 * 64)
    assert rows["blocks.1.mlp.fc1"].output_shape == (65, 256)
    assert rows["head"].flops == 2 * 64 * 10
    order = list(rows)
    assert order.index("patch_embed.proj") < order.index("blocks.0.norm1") < order.index("blocks.1.norm1")


def test_what_runs_twice_or_never():
    rows = {row.name: row for row in layer_table(Shared(), 32)}
    assert (rows["twice"].parameters, rows["twice"].flops) == (64, 2 * 2 * 64)
    assert (rows["never"].output_shape, rows["never"].parameters, rows["never"].flops) == ((), 45, 0)
    assert (rows["tied"].parameters, rows["tied"].flops) == (8, 2 * 64)  # its bias alone is its own
    assert rows["scale"].parameters == 8
    assert "same" not in rows
