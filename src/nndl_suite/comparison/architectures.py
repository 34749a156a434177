"""The two arms of a comparison: a CNN by name, and a Vision Transformer that is as large, or as costly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import timm
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from nndl_suite.comparison.cifar_resnet import CIFAR_RESNETS, cifar_resnet
from nndl_suite.comparison.course import CourseViT, course_resnet18
from nndl_suite.comparison.layer_table import LayerRow, forward_flops, layer_table
from nndl_suite.comparison.matching import Match, matched_vit
from nndl_suite.comparison.vit import VitName
from nndl_suite.comparison.whitened_cnn import WIDE, WhitenedCNN
from nndl_suite.errors import ConfigError, unknown_name
from nndl_suite.models.backbones import backbones_like, build_classifier
from nndl_suite.training.seeds import isolated_rng


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


def resolve_arms(
    cnn: str, transformer: str, *, num_classes: int, image_size: int, match: Match = "parameters"
) -> tuple[Architecture, Architecture]:
    """The two arms by name, counted.

    Args:
        cnn: `resnet18` (with a stem that fits the image), any other network of `models.backbones` or timm, one of
            `CIFAR_RESNETS`, `whitened-cnn`, `whitened-cnn-wide`, or `course-resnet18`.
        transformer: A `VitName` for one matched to the CNN, `course-vit`, or any network of timm.
        num_classes: Outputs of both.
        image_size: Height and width, in pixels.
        match: What the ViT shall have in common with the CNN; networks of fixed size stay as they are.

    Raises:
        ConfigError: a name is unknown, both names are the same, there is one class only, a network cannot take the
            images, or no ViT matches.
    """
    if cnn == transformer:
        raise ConfigError(f"both arms are {cnn!r}; a comparison wants two different networks")
    if cnn in get_args(VitName):
        raise ConfigError(f"{cnn!r} is made as large as the first arm; that must be a network of a size of its own")
    if num_classes < 2:
        raise ConfigError(f"a comparison needs at least 2 classes, the set has {num_classes}; choose another data set")
    first = _fixed(cnn, num_classes=num_classes, image_size=image_size)
    if transformer not in get_args(VitName):
        return first, _fixed(transformer, num_classes=num_classes, image_size=image_size)
    target = first.parameters if match == "parameters" else first.flops
    shape = matched_vit(target, match=match, kind=transformer, num_classes=num_classes, image_size=image_size)
    second = _counted(transformer, str(shape), shape.build, image_size)
    assert (second.parameters, second.flops) == (shape.parameters, shape.flops)
    return first, second


def resolve_arm(name: str, *, cnn: str, num_classes: int, image_size: int, match: Match = "parameters") -> Architecture:
    """One arm alone, as `resolve_arms` would have it beside `cnn`, which decides how large a `VitName` is.

    Raises:
        ConfigError: as `resolve_arms`.
    """
    if name in get_args(VitName):
        return resolve_arms(cnn, name, num_classes=num_classes, image_size=image_size, match=match)[1]
    if num_classes < 2:
        raise ConfigError(f"an arm needs at least 2 classes, the set has {num_classes}; choose another data set")
    return _fixed(name, num_classes=num_classes, image_size=image_size)


def count_layers(arm: Architecture, image_size: int) -> tuple[LayerRow, ...]:
    """Each layer's parameters and FLOPs (see `layer_table`); the caller's randomness stays as it was."""
    with isolated_rng(0):
        network = arm.build()
    return layer_table(network, image_size)


def check_sizes(arm: Architecture, resolutions: Sequence[tuple[float, int]]) -> None:
    """Refuse a recipe's resolutions that a network cannot be trained at, before anything is trained.

    Raises:
        ConfigError: it fails on images of such a size.
    """
    if not resolutions:
        return
    with isolated_rng(0):
        network = arm.build().eval()
    for _, size in resolutions:
        try:
            forward_flops(network, size)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{arm.name} cannot be trained on images of {size} px, which the recipe's resolutions ask for "
                f"({error}); leave that size out, or choose another network"
            ) from error


def flops_by_stage(arm: Architecture, resolutions: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """(share of the run, FLOPs of one image's forward pass from then on) of a recipe's resolutions."""
    if not resolutions:
        return [(0.0, arm.flops)]
    with isolated_rng(0):
        network = arm.build()
    first = [] if resolutions[0][0] == 0 else [(0.0, arm.flops)]
    return first + [(share, forward_flops(network, size)) for share, size in resolutions]


def _fixed(name: str, *, num_classes: int, image_size: int) -> Architecture:
    own: dict[str, Callable[[], nn.Module]] = {
        "course-resnet18": partial(course_resnet18, num_classes),
        "course-vit": partial(CourseViT, num_classes, image_size),
        "whitened-cnn": partial(WhitenedCNN, num_classes),
        "whitened-cnn-wide": partial(WhitenedCNN, num_classes, WIDE),
        **{name: partial(cifar_resnet, layers, num_classes) for name, layers in CIFAR_RESNETS.items()},
    }
    if name in own:
        return _counted(name, name, own[name], image_size)
    others = backbones_like(name)
    if name not in others and not timm.is_model(name):
        raise unknown_name("network", name, {*own, *get_args(VitName), *others})
    build = partial(build_classifier, name, num_classes=num_classes, image_size=image_size)
    return _counted(name, name, build, image_size)


def _counted(name: str, shape: str, build: Callable[[], nn.Module], image_size: int) -> Architecture:
    with isolated_rng(0):
        network = build().eval()
    _refuse_lost_pixels(name, network, image_size)
    try:
        flops = forward_flops(network, image_size)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{name} cannot take {image_size} px images: {error}") from error
    return Architecture(
        name=name,
        shape=shape,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=flops,
        build=build,
    )


def _refuse_lost_pixels(name: str, network: nn.Module, image_size: int) -> None:
    """timm's transformers leave out, in silence, the rows and columns that fill no patch."""
    for layer in network.modules():
        if isinstance(layer, PatchEmbed) and not layer.dynamic_img_pad:
            height = layer.img_size[0] if isinstance(layer.img_size, tuple) else image_size
            patch = layer.proj.stride[0]
            if height % patch:
                raise ConfigError(
                    f"{name} cuts images into {patch} px patches, {image_size} px is no multiple of it; "
                    f"choose another image size or network"
                )
