"""The optimisers of pretraining, with what they leave undecayed."""

from timm.optim import Lars  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from nndl_suite.representation.methods.method import Recipe

_TRUST = 0.02
"""LARS: the share of a weight's norm that a step at rate 1 may move it by; usual for CIFAR, as is the clipping."""


def make_optimiser(network: nn.Module, recipe: Recipe, *, rate: float, momentum: float) -> Optimizer:
    """Over the weights that take a gradient; biases and norms are neither decayed nor scaled by LARS (BYOL, 3.3)."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learned if weight.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in learned if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimiser == "lars":
        return Lars(
            groups,
            lr=rate,
            momentum=momentum,  # pyright: ignore[reportArgumentType] - its untyped default is 0
            trust_coeff=_TRUST,
            trust_clip=True,
        )
    if recipe.optimiser == "adamw":
        return AdamW(groups, lr=rate)
    return SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
