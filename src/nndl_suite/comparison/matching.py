"""A Vision Transformer as large as another network, or as costly."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Literal, get_args

from nndl_suite.comparison.vit import VitShape, vit_of_kind
from nndl_suite.errors import ConfigError, unknown_name

Match = Literal["parameters", "flops"]
"""What matched arms have in common: parameters, or floating-point operations of one image's forward pass."""

TOLERANCE = 0.02
"""How far matched arms may lie apart, as a share of the CNN's figure."""

_DEPTHS = range(6, 13)
_HEAD_DIMS = (64, 32)
_MLP_STEP = 8
_UNITS = {"parameters": "parameters", "flops": "FLOPs"}


def matched_vit(
    target: int, *, match: Match = "parameters", kind: str = "vit", num_classes: int, image_size: int
) -> VitShape:
    """The ViT whose parameters or FLOPs are nearest to `target`.

    Among all depths from 6 to 12 and all widths that are a multiple of a head's 64 channels, with an MLP four times as
    wide, the nearest wins; where none lies within `TOLERANCE`, heads have 32 channels; where still none does (small
    targets), the MLP of the nearest is made narrower or wider.

    Args:
        target: The other arm's parameters or FLOPs.
        match: Which of the two.
        kind: A `VitName`.
        num_classes: Outputs.
        image_size: Height and width, in pixels.

    Raises:
        ConfigError: the image cannot be cut that way, or no such network is that small; the message says how near the
            nearest is.
    """
    if match not in get_args(Match):
        raise unknown_name("match", match, get_args(Match))
    shape = vit_of_kind(kind, num_classes=num_classes, image_size=image_size)

    def size(candidate: VitShape) -> int:
        return candidate.parameters if match == "parameters" else candidate.flops

    nearest: VitShape | None = None
    for head_dim in _HEAD_DIMS:
        candidates = _candidates(shape, head_dim, up_to=target, size=size)
        nearest = min(candidates, key=lambda candidate: abs(size(candidate) - target))
        if _within(size(nearest), target):
            return nearest
    assert nearest is not None
    fitted = _fit_mlp(nearest, target, size)
    if not _within(size(fitted), target):
        raise ConfigError(
            f"no {kind} for {image_size} px and {num_classes} classes is within {TOLERANCE:.0%} of {target:,} "
            f"{_UNITS[match]}, the nearest has {size(fitted):,} ({size(fitted) / target - 1:+.1%}); choose a larger CNN"
        )
    return fitted


def _candidates(
    shape: Callable[..., VitShape], head_dim: int, *, up_to: int, size: Callable[[VitShape], int]
) -> list[VitShape]:
    """All depths at all widths, until the shallowest is larger than wanted."""
    found: list[VitShape] = []
    for width in count(head_dim, head_dim):
        found += [shape(width=width, depth=depth, head_dim=head_dim, mlp_width=4 * width) for depth in _DEPTHS]
        if size(found[-len(_DEPTHS)]) > up_to:
            break
    return found


def _within(size: int, target: int) -> bool:
    return abs(size - target) <= TOLERANCE * target


def _fit_mlp(shape: VitShape, target: int, size: Callable[[VitShape], int]) -> VitShape:
    wider = replace(shape, mlp_width=shape.mlp_width + _MLP_STEP)
    steps = round((target - size(shape)) / (size(wider) - size(shape)))
    return replace(shape, mlp_width=max(_MLP_STEP, shape.mlp_width + _MLP_STEP * steps))
