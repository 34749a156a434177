"""Parameters and floating-point operations of a network: the whole, and layer by layer."""

from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nndl_suite.models.small_maps import as_written

_UNSEEN = (nn.Identity, nn.Dropout, nn.Sequential)  # without children a Sequential is an identity


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """What one layer has and does of its own; its parts have rows of their own."""

    name: str
    """As in `named_modules`; "" is the network itself."""
    kind: str
    """The layer's class; "Parameter" for one that belongs to no layer, as a class token."""
    output_shape: tuple[int, ...]
    """Of one image, without the batch; empty where the layer was not called or gives no tensor."""
    parameters: int
    flops: int
    """A multiplication and an addition are two."""


def forward_flops(network: nn.Module, image_size: int) -> int:
    """Floating-point operations of one image's forward pass, 2 x multiply-accumulate, by torch's own counter.

    Convolutions count as they are written, padding included, as everyone's do: also those that `models.small_maps`
    computes with fewer. Additions of biases, norms, activations and softmax are not counted.
    """
    plain, image = as_written(network).eval(), _black_image(network, image_size)
    with _counting() as counter:
        plain(image)
    return counter.get_total_flops()


def layer_table(network: nn.Module, image_size: int) -> tuple[LayerRow, ...]:
    """What each layer holds and computes for one image, in the order of the forward pass.

    The rows add up to the whole: a parameter that layers share is counted at the first, and what a layer computes
    besides its parts (the two products of an attention) is a row of its own. Layers that hold no parameters and whose
    work is not counted (activations, pooling) have a row too; identities and dropout have none.

    Args:
        network: Takes images [1, 3, image_size, image_size]; it is not changed.
        image_size: Height and width, in pixels.
    """
    plain, image = as_written(network).eval(), _black_image(network, image_size)
    own_flops: defaultdict[str, int] = defaultdict(int)
    shapes: dict[str, tuple[int, ...]] = {}  # in the order of the first call
    open_calls: list[tuple[int, int]] = []  # operations before the call, and those of the parts called since
    with _counting() as counter:

        def enter(name: str, _layer: nn.Module, _inputs: object) -> None:
            shapes.setdefault(name, ())
            open_calls.append((counter.get_total_flops(), 0))

        def leave(name: str, _layer: nn.Module, _inputs: object, output: object) -> None:
            before, of_parts = open_calls.pop()
            spent = counter.get_total_flops() - before
            own_flops[name] += spent - of_parts
            if open_calls:
                outer_before, outer_parts = open_calls.pop()
                open_calls.append((outer_before, outer_parts + spent))
            first = output[0] if isinstance(output, tuple) and output else output  # an attention also gives its weights
            shapes[name] = tuple(first.shape[1:]) if isinstance(first, Tensor) else ()

        for name, layer in plain.named_modules():
            layer.register_forward_pre_hook(partial(enter, name))
            layer.register_forward_hook(partial(leave, name))
        plain(image)
    return tuple(_rows(plain, shapes, own_flops))


def _rows(
    network: nn.Module, shapes: dict[str, tuple[int, ...]], own_flops: dict[str, int]
) -> Generator[LayerRow, None, None]:
    counted: set[nn.Parameter] = set()
    layers = dict(network.named_modules())
    for name in dict.fromkeys([*shapes, *layers]):  # those that were never called come last
        layer = layers[name]
        own = {part: value for part, value in layer.named_parameters(recurse=False) if value not in counted}
        counted.update(own.values())
        whole = next(layer.children(), None) is None
        held = sum(value.numel() for value in own.values()) if whole else 0
        if held or own_flops.get(name) or (whole and name in shapes and not isinstance(layer, _UNSEEN)):
            yield LayerRow(
                name=name,
                kind=type(layer).__name__,
                output_shape=shapes.get(name, ()),
                parameters=held,
                flops=own_flops.get(name, 0),
            )
        if not whole:
            for part, value in own.items():
                yield LayerRow(
                    name=f"{name}.{part}".lstrip("."),
                    kind="Parameter",
                    output_shape=tuple(value.shape),
                    parameters=value.numel(),
                    flops=0,
                )


def _black_image(network: nn.Module, image_size: int) -> Tensor:
    weight = next(network.parameters())
    return torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype)


@contextmanager
def _counting() -> Generator[FlopCounterMode, None, None]:
    # the counter does not know every fused attention that torch chooses by the processor; the plain ones it does
    fused_encoders = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_encoders)
