"""The two arms of a comparison: a CNN by name, and a Vision Transformer of as many parameters."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nndl_suite.comparison.course import CourseViT, course_resnet18
from nndl_suite.errors import ConfigError
from nndl_suite.models.backbones import build_classifier
from nndl_suite.training.seeds import isolated_rng

MATCHED = "vit"
"""The name that asks for a ViT as large as the other arm."""

TOLERANCE = 0.02
"""How far the parameter counts of matched arms may lie apart, as a share of the CNN's."""

_TOKENS_PER_SIDE = 8
_DEPTHS = range(6, 13)
_HEAD_DIMS = (64, 32)
_MLP_STEP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One arm, not built yet."""

    name: str
    shape: str
    """Its size in words: "width 320, depth 9, …"; the name again for a network of fixed size."""
    parameters: int
    flops: int
    """Of the forward pass of one image; a multiplication and an addition are two."""
    build: Callable[[], nn.Module]
    """Makes the network with fresh weights, drawn from torch's global generator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape:
    """The sizes of a ViT (arXiv 2010.11929) with a class token, learned positions and biases everywhere."""

    image_size: int
    num_classes: int
    patch: int
    width: int
    depth: int
    head_dim: int
    mlp_width: int

    def __str__(self) -> str:
        heads = self.width // self.head_dim
        return (
            f"width {self.width}, depth {self.depth}, {heads} heads of {self.head_dim}, "
            f"MLP {self.mlp_width}, patch {self.patch}"
        )

    @property
    def parameters(self) -> int:
        """The parameter count, in closed form."""
        d, m = self.width, self.mlp_width
        block = (4 * d * d + 4 * d) + (2 * d * m + m + d) + 4 * d  # attention, MLP, two norms
        tokens = (self.image_size // self.patch) ** 2 + 1
        embedding = 3 * self.patch**2 * d + d + tokens * d + d  # patches, positions, class token
        return self.depth * block + embedding + 2 * d + self.num_classes * (d + 1)

    def build(self) -> nn.Module:
        """timm's network of this shape, with fresh weights from torch's global generator."""
        return VisionTransformer(
            img_size=self.image_size,
            patch_size=self.patch,
            num_classes=self.num_classes,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.width // self.head_dim,
            mlp_ratio=(self.mlp_width + 0.5) / self.width,  # timm rounds the product down
        )


def matched_vit(parameters: int, *, num_classes: int, image_size: int) -> VitShape:
    """The ViT whose size is nearest to `parameters`.

    Images are cut into 8 x 8 patches. Among all depths from 6 to 12 and all widths that are a multiple of a head's 64
    channels, with an MLP four times as wide, the nearest count wins; where none lies within `TOLERANCE`, heads have 32
    channels; where still none does (small targets), the MLP of the nearest is made narrower or wider.

    Raises:
        ConfigError: the image size is no multiple of 8, or no such network is that small.
    """
    if image_size % _TOKENS_PER_SIDE:
        raise ConfigError(
            f"a ViT of {_TOKENS_PER_SIDE} x {_TOKENS_PER_SIDE} patches needs an image size that is a multiple of "
            f"{_TOKENS_PER_SIDE}, got {image_size} px; choose another image size, or a transformer of timm by name"
        )
    shape = partial(VitShape, image_size=image_size, num_classes=num_classes, patch=image_size // _TOKENS_PER_SIDE)
    nearest: VitShape | None = None
    for head_dim in _HEAD_DIMS:
        widest = max(head_dim, round((parameters / 60) ** 0.5))  # 6 blocks of 12 d² hold 72 d² parameters
        candidates = [
            shape(width=width, depth=depth, head_dim=head_dim, mlp_width=4 * width)
            for width in range(head_dim, widest + head_dim, head_dim)
            for depth in _DEPTHS
        ]
        nearest = min(candidates, key=lambda candidate: abs(candidate.parameters - parameters))
        if _within(nearest.parameters, parameters):
            return nearest
    assert nearest is not None
    fitted = _fit_mlp(nearest, parameters)
    if not _within(fitted.parameters, parameters):
        raise ConfigError(
            f"no ViT for {image_size} px and {num_classes} classes has about {parameters:,} parameters, "
            f"the nearest has {fitted.parameters:,}; choose a larger CNN"
        )
    return fitted


def _within(count: int, target: int) -> bool:
    return abs(count - target) <= TOLERANCE * target


def _fit_mlp(shape: VitShape, parameters: int) -> VitShape:
    per_channel = shape.depth * (2 * shape.width + 1)
    missing = round((parameters - shape.parameters) / per_channel / _MLP_STEP) * _MLP_STEP
    return replace(shape, mlp_width=max(_MLP_STEP, shape.mlp_width + missing))


def resolve_arms(cnn: str, transformer: str, *, num_classes: int, image_size: int) -> tuple[Architecture, Architecture]:
    """The two arms by name, counted.

    Args:
        cnn: `resnet18` (with a stem that fits the image), any other network of `models.backbones` or timm, or
            `course-resnet18`.
        transformer: `vit` for one matched to the CNN, `course-vit`, or any network of timm.
        num_classes: Outputs of both.
        image_size: Height and width, in pixels.

    Raises:
        ConfigError: a name is unknown, both names are the same, or no ViT matches.
    """
    if cnn == transformer:
        raise ConfigError(f"both arms are {cnn!r}; a comparison wants two different networks")
    first = _fixed(cnn, num_classes=num_classes, image_size=image_size)
    if transformer != MATCHED:
        return first, _fixed(transformer, num_classes=num_classes, image_size=image_size)
    shape = matched_vit(first.parameters, num_classes=num_classes, image_size=image_size)
    second = _counted(MATCHED, str(shape), shape.build, image_size)
    assert second.parameters == shape.parameters
    return first, second


def _fixed(name: str, *, num_classes: int, image_size: int) -> Architecture:
    builders: dict[str, Callable[[], nn.Module]] = {
        "course-resnet18": partial(course_resnet18, num_classes),
        "course-vit": partial(CourseViT, num_classes, image_size),
    }
    build = builders.get(name) or partial(build_classifier, name, num_classes=num_classes, image_size=image_size)
    return _counted(name, name, build, image_size)


def _counted(name: str, shape: str, build: Callable[[], nn.Module], image_size: int) -> Architecture:
    with isolated_rng(0):
        network = build().eval()
    return Architecture(
        name=name,
        shape=shape,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=forward_flops(network, image_size),
        build=build,
    )


def forward_flops(network: nn.Module, image_size: int) -> int:
    """Floating-point operations of one image's forward pass, 2 x multiply-accumulate, by torch's own counter."""
    parameter = next(network.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=parameter.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops()
