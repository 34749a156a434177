"""The built-in labelled set: rendered shapes, so that everything can be tried offline within minutes.

The images are made, not photographed, and a score on them says nothing about a benchmark. Each shows a few copies of
one shape, the class. Colours, textures, sizes, places, rotations, clutter and noise are random, so a linear classifier
of raw pixels does little better than chance; and colours are muted, so that two crops of an image are better matched by
their shapes than by their colour.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Generator, Tensor

from nndl_suite.training.seeds import generator_for

_SIZE = 32
_COUNT = {"train": 4000, "test": 1000}
_CENTRES = ((9.0, 9.0), (23.0, 9.0), (9.0, 23.0), (23.0, 23.0))
"""Pixels; where the copies of the shape are, give or take a few."""
_CLUTTER = 2
_EDGE = 1.0
"""Width, in pixels, over which a shape fades into what is behind it."""

Plane = Float[Tensor, "n s s"]


def demo_images(
    split: Literal["train", "test"],
) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, "n"], tuple[str, ...]]:
    """Images, labels and class names; the same at every call, as many of each class.

    Args:
        split: 4,000 images to train on, or 1,000 others.
    """
    count = _COUNT[split]
    g = generator_for(0, f"demo images/{split}")
    labels = torch.arange(count) % len(_SHAPES)
    y, x = torch.meshgrid(torch.arange(_SIZE) + 0.5, torch.arange(_SIZE) + 0.5, indexing="ij")
    behind, before = _contrasting_colours(count, g)
    images, paint = _texture(behind, x, y, g), _texture(before, x, y, g)
    for _ in range(_CLUTTER):
        images = _over(images, _texture(before, x, y, g), _blob(x, y, count, g))
    for centre in _CENTRES:
        images = _over(images, paint, _coverage(labels, centre, x, y, g))
    images = images + _uniform(g, count, 1, 1, 1, high=0.08) * torch.randn(images.shape, generator=g)
    return images.clamp_(0, 1).mul_(255).round_().to(torch.uint8), labels, tuple(_SHAPES)


def _coverage(labels: Int64[Tensor, "n"], centre: tuple[float, float], x: Tensor, y: Tensor, g: Generator) -> Plane:
    """How much of each pixel a copy of the shape covers, after a random shift, size, rotation and stretch."""
    count = len(labels)
    radius = _uniform(g, count, 1, 1, low=4.0, high=7.0)
    stretch = _uniform(g, count, 1, 1, low=0.85, high=1.18)
    angle = _uniform(g, count, 1, 1, high=2 * math.pi)
    dx = x - centre[0] - _uniform(g, count, 1, 1, low=-3.0, high=3.0)  # [n, s, s]
    dy = y - centre[1] - _uniform(g, count, 1, 1, low=-3.0, high=3.0)
    u = (angle.cos() * dx + angle.sin() * dy) / radius * stretch
    v = (angle.cos() * dy - angle.sin() * dx) / radius / stretch
    coverage = torch.empty_like(u)
    for label, outside in enumerate(_SHAPES.values()):
        of_class = labels == label
        distance_px = outside(u[of_class], v[of_class]) * radius[of_class]
        coverage[of_class] = (0.5 - distance_px / _EDGE).clamp(0, 1)
    return coverage


def _disc(u: Plane, v: Plane) -> Plane:
    return torch.hypot(u, v) - 1


def _ring(u: Plane, v: Plane) -> Plane:
    return (torch.hypot(u, v) - 0.75).abs() - 0.25


def _half_disc(u: Plane, v: Plane) -> Plane:
    return torch.maximum(torch.hypot(u, v + 0.4) - 1.1, -(v + 0.4))


def _crescent(u: Plane, v: Plane) -> Plane:
    return torch.maximum(torch.hypot(u, v) - 1, 0.8 - torch.hypot(u - 0.5, v))


def _square(u: Plane, v: Plane) -> Plane:
    return torch.maximum(u.abs(), v.abs()) - 0.85


def _bar(u: Plane, v: Plane) -> Plane:
    return torch.maximum(u.abs() - 1.1, v.abs() - 0.35)


def _plus(u: Plane, v: Plane) -> Plane:
    along, across = u.abs(), v.abs()
    return torch.minimum(
        torch.maximum(along - 1.05, across - 0.32),
        torch.maximum(along - 0.32, across - 1.05),
    )


def _triangle(u: Plane, v: Plane) -> Plane:
    return torch.maximum(v, u.abs() * math.sin(math.pi / 3) - v / 2) - 0.55


def _star(u: Plane, v: Plane) -> Plane:
    """Five points: the angle folds onto half a point, whose edge is a straight line."""
    sector = 2 * math.pi / 5
    folded = (torch.remainder(torch.atan2(v, u), sector) - sector / 2).abs()  # 0 between two points
    r = torch.hypot(u, v)
    inner, tip = 0.5, torch.tensor([1.2 * math.cos(sector / 2), 1.2 * math.sin(sector / 2)])
    normal = torch.tensor([float(tip[1]), inner - float(tip[0])])
    normal = normal / normal.norm()
    return r * folded.cos() * normal[0] + r * folded.sin() * normal[1] - inner * normal[0]


def _bow_tie(u: Plane, v: Plane) -> Plane:
    return torch.maximum(u.abs() - 1, (v.abs() - 0.8 * u.abs()) * 0.78)


_SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc,
    "ring": _ring,
    "half disc": _half_disc,
    "crescent": _crescent,
    "square": _square,
    "bar": _bar,
    "plus": _plus,
    "triangle": _triangle,
    "star": _star,
    "bow tie": _bow_tie,
}
"""By class name: the distance to the outline (negative inside, near enough at the outline) of a shape of radius 1."""


def _contrasting_colours(count: int, g: Generator) -> tuple[Tensor, Tensor]:
    """Two muted colours an image, [n, 3] each, the second brighter in three images of four."""
    middle, gap = _uniform(g, count, 1, low=0.35, high=0.65), _uniform(g, count, 1, low=0.15, high=0.3)
    gap = torch.where(_uniform(g, count, 1) < 0.75, gap, -gap)
    tints = _uniform(g, 2, count, 3, low=-0.08, high=0.08)
    return middle - gap + tints[0], middle + gap + tints[1]


def _texture(colour: Float[Tensor, "n 3"], x: Tensor, y: Tensor, g: Generator) -> Float[Tensor, "n 3 s s"]:
    """A colour that waves in brightness along one direction and drifts along another."""
    count = len(colour)
    shade = torch.zeros(count, _SIZE, _SIZE)
    for period_px, strength in ((4.0, 0.12), (24.0, 0.15)):
        angle, phase = _uniform(g, count, 1, 1, high=2 * math.pi), _uniform(g, count, 1, 1, high=2 * math.pi)
        period = period_px * _uniform(g, count, 1, 1, low=1.0, high=2.5)
        along = angle.cos() * x + angle.sin() * y
        shade += strength * _uniform(g, count, 1, 1) * torch.sin(2 * math.pi * along / period + phase)
    return colour[:, :, None, None] + shade[:, None]


def _blob(x: Tensor, y: Tensor, count: int, g: Generator) -> Plane:
    """A small ellipse anywhere in the image."""
    dx, dy = x - _uniform(g, count, 1, 1, high=_SIZE), y - _uniform(g, count, 1, 1, high=_SIZE)
    angle = _uniform(g, count, 1, 1, high=math.pi)
    long, short = _uniform(g, count, 1, 1, low=1.5, high=4.0), _uniform(g, count, 1, 1, low=0.8, high=2.0)
    u, v = (angle.cos() * dx + angle.sin() * dy) / long, (angle.cos() * dy - angle.sin() * dx) / short
    return (0.5 - (torch.hypot(u, v) - 1) * short / _EDGE).clamp(0, 1)


def _over(images: Tensor, paint: Tensor, coverage: Plane) -> Float[Tensor, "n 3 s s"]:
    """Paint (a colour [n, 3] or an image) laid over the images."""
    paint = paint if paint.ndim == 4 else paint[:, :, None, None]
    return torch.lerp(images, paint.expand_as(images), coverage[:, None].expand_as(images))


def _uniform(g: Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)
