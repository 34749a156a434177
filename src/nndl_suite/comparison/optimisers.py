"""The optimisers that a recipe names."""

import torch
from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.optim import Optimizer

from nndl_suite.comparison.recipe import OptimiserName, Rates

_MOMENTUM = 0.9


def make_optimiser(network: nn.Module, name: OptimiserName, rates: Rates) -> Optimizer:
    """timm's optimisers, or torch's Adam for "adam".

    By timm's, one-dimensional parameters, and those that a network names, are not decayed. Muon
    (https://kellerjordan.github.io/posts/muon) orthogonalises the steps of matrices and flattened kernels; all other
    parameters get AdamW. Adam decays every parameter, through its gradient, as the scripts do that use it.
    """
    if name == "adam":
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=rates.rate, weight_decay=rates.decay)
    if name == "sgd":
        return create_optimizer_v2(network, "nesterov", lr=rates.rate, weight_decay=rates.decay, momentum=_MOMENTUM)
    return create_optimizer_v2(network, name, lr=rates.rate, weight_decay=rates.decay)
