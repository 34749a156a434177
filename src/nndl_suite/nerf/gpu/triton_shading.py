# pyright: basic
# ruff: noqa: PLR0913
# The public functions' signatures.
"""Shading and learning in Triton: nets forwards, the loss of rays, nets backwards.

Between them the samples' densities, colours and gradients go through memory, 48 bytes a sample, since rays and tiles
end at different places.
"""

from functools import lru_cache

import torch
from torch import Tensor

from nndl_suite.nerf.gpu.learning import Learned, Rules
from nndl_suite.nerf.gpu.triton_nets import BACKWARD_TILE, FORWARD_TILE, backward, forward, harmonics
from nndl_suite.nerf.gpu.triton_rays import ray_loss
from nndl_suite.nerf.kernels.nets import HARMONICS, WEIGHTS

_FORWARD, _BACKWARD = 8, 4
"""Programs of 2 warps that the registers of a multiprocessor have room for."""


@lru_cache(maxsize=16)
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 2  # the interpreter: few, so that each has several tiles
    return torch.cuda.get_device_properties(device).multi_processor_count


def _programs(n: int, tile: int, each: int, device: torch.device) -> int:
    return min(-(-n // tile), each * _multiprocessors(device))


def _basis(directions: Tensor) -> Tensor:
    basis = torch.empty(len(directions), HARMONICS, dtype=torch.float16, device=directions.device)
    harmonics(directions, basis)
    return basis


def shade(weights: Tensor, encoding: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """See `shading.shade`."""
    n = encoding.shape[1]
    density, rgb = encoding.new_empty(n), encoding.new_empty(n, 3)
    forward(
        weights,
        encoding,
        _basis(directions),
        density,
        rgb,
        (3, 1),
        _programs(n, FORWARD_TILE, _FORWARD, encoding.device),
    )
    return density, rgb


def shade_and_learn(
    weights: Tensor,
    encoding: Tensor,
    edges: Tensor,
    directions: Tensor,
    target: Tensor,
    background: Tensor,
    through: Tensor,
    gain: Tensor,
    *,
    rules: Rules,
) -> Learned:
    """See `shading.shade_and_learn`."""
    n, rays = encoding.shape[1], len(edges)
    basis = _basis(directions)
    density, rgb, grads = encoding.new_empty(n), encoding.new_empty(3, n), encoding.new_empty(4, n)
    forward(weights, encoding, basis, density, rgb, (1, n), _programs(n, FORWARD_TILE, _FORWARD, encoding.device))
    grad_gain, losses = encoding.new_empty(rays, 3), encoding.new_empty(rays, 2)
    ray_loss(density, rgb, (edges, target, background, through, gain), grads, grad_gain, losses, rules)
    grad_encoding = torch.empty_like(encoding)
    grad_weights = encoding.new_empty(_programs(n, BACKWARD_TILE, _BACKWARD, encoding.device), WEIGHTS)
    backward(weights, encoding, basis, grads, grad_encoding, grad_weights)
    return Learned(
        density=density,
        grad_encoding=grad_encoding,
        grad_gain=grad_gain,
        losses=losses,
        grad_weights=grad_weights.sum(dim=0),
    )
