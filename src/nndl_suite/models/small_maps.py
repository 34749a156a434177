"""Convolutions that do no work on the padding around maps of a few pixels.

A ResNet-18 with its own first layer turns an image of 32 pixels into maps of 2 x 2 and 1 x 1, where most taps of a
3 x 3 kernel only ever touch zeros: eight of nine on 1 x 1. There a convolution is a dense layer, made of those taps
that see a pixel. The function is the same, and so are its gradients; only the multiplications by zero are gone.
"""

import copy
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class SmallMapConv2d(nn.Conv2d):
    """A 3 x 3 `nn.Conv2d` with a padding of 1 that is a dense layer wherever its input is at most 2 x 2 pixels."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch's name
        if input.ndim == 4 and max(input.shape[2:]) <= 2:
            return _dense(input, weight, bias, stride=self.stride[0])
        return super()._conv_forward(input, weight, bias)


def replace_convolutions(network: nn.Module) -> None:
    """Put a `SmallMapConv2d` with the same weights in the place of each convolution that it can stand for."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _can_be_dense(child):
                setattr(module, name, _with_weights_of(child, SmallMapConv2d))


def as_written(network: nn.Module) -> nn.Module:
    """A twin on the same weights whose convolutions are plain again, so that its operations can be counted."""
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    twin = copy.deepcopy(network, shared)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, SmallMapConv2d):
                setattr(module, name, _with_weights_of(child, nn.Conv2d))
    return twin


def _can_be_dense(conv: nn.Conv2d) -> bool:
    return (
        (conv.kernel_size, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and conv.stride in ((1, 1), (2, 2))
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )


def _with_weights_of(conv: nn.Conv2d, kind: type[nn.Conv2d]) -> nn.Conv2d:
    with torch.device("meta"):  # draws nothing
        made = kind(conv.in_channels, conv.out_channels, 3, stride=conv.stride[0], padding=1)
    made.weight, made.bias = conv.weight, conv.bias
    return made.train(conv.training)


def _dense(
    maps: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"], bias: Float[Tensor, "d"] | None, *, stride: int
) -> Float[Tensor, "b d y x"]:
    b, c, h, w = maps.shape
    rows, columns = (h - 1) // stride + 1, (w - 1) // stride + 1
    device = maps.device.type
    if torch.is_autocast_enabled(device):
        weight = weight.to(torch.get_autocast_dtype(device))  # before it is taken apart: half the bytes
    # what each output pixel sees of the map, in taps: from the middle one it reaches one pixel to every side
    seen = [weight[:, :, 1 - y : 1 - y + h, 1 - x : 1 - x + w] for y in range(rows) for x in range(columns)]
    matrix = torch.stack(seen).permute(0, 1, 3, 4, 2).reshape(rows * columns * len(weight), h * w * c)
    flat = maps.permute(0, 2, 3, 1).reshape(b, h * w * c)  # a view where the memory is channels-last
    out = F.linear(flat, matrix, None if bias is None else bias.repeat(rows * columns))
    return out.reshape(b, rows, columns, len(weight)).permute(0, 3, 1, 2)
