# ruff: noqa: PLR0913
# A kernel takes what it reads, tensor by tensor.
"""The two networks and the loss of rays, on tensors; see `kernels.tiles` for the CPU's."""

from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.gpu.chosen import kernels
from nndl_suite.nerf.gpu.learning import Learned, Rules

__all__ = ["Learned", "Rules", "shade", "shade_and_learn"]


def shade(
    weights: Float32[Tensor, "w"], encoding: Float32[Tensor, "32 n"], directions: Float32[Tensor, "r 3"]
) -> tuple[Float32[Tensor, "n"], Float32[Tensor, "n 3"]]:
    """Densities and colours of n samples, of which each direction serves n / r consecutive ones.

    Triton's kernels multiply in float16 and sum in float32.
    """
    return kernels("shading", encoding).shade(weights, encoding, directions)


def shade_and_learn(
    weights: Float32[Tensor, "w"],
    encoding: Float32[Tensor, "32 n"],
    edges: Float32[Tensor, "r s+1"],
    directions: Float32[Tensor, "r 3"],
    target: Float32[Tensor, "r 3"],
    background: Float32[Tensor, "r 3"],
    through: Float32[Tensor, "r"],
    gain: Float32[Tensor, "r 3"],
    *,
    rules: Rules,
) -> Learned:
    """Shade the samples of whole rays, compare with the photos, and go all the way back to the encoding.

    The mathematics is that of `kernels.tiles.shade_and_learn`; gradients are of the sum over rays. Triton's kernels
    multiply in float16 forwards and in bfloat16 backwards, whose range gradients need, and sum in float32.

    Args:
        weights: Both nets' matrices, as `kernels.nets.SHAPES` says.
        encoding: What `encode` gave.
        edges: The distances that bound the samples, from `march`.
        directions: Unit length.
        target: What the photos show.
        background: Behind all samples; not used where the end is open.
        through: The light that should pass all samples; not used where the end is open.
        gain: The photo's exposure, which multiplies the ray's colour.
        rules: What the loss is made of.
    """
    return kernels("shading", encoding).shade_and_learn(
        weights, encoding, edges, directions, target, background, through, gain, rules=rules
    )
