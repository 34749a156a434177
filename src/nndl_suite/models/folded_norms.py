"""Batch norms that lost their statistics: files made for inference keep them in scale and shift alone.

In eval mode nothing is missing. In training mode a batch norm divides by the deviation of its batch, and a scale that
was meant for undivided maps then gives another network altogether.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

_BatchNorm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage] - torch's own common name for them


def has_folded_norms(network: nn.Module) -> bool:
    """Whether all its batch norms, which somebody has trained, have means of 0 and variances of 1."""
    norms = _norms(network)
    return all(map(_is_blank, norms)) and any(bool((norm.weight != 1).any()) for norm in norms)


@torch.no_grad()
def unfold_norms(network: nn.Module, batches: Iterable[Float[Tensor, "b ..."]]) -> None:
    """Give its batch norms the statistics of these inputs, and change scale and shift so that eval mode gives the same.

    In training mode the network is then the same on average over such inputs. It is left in the mode it was in.

    Args:
        network: Changed in place, those of its batch norms that have statistics, scale and shift.
        batches: What it takes; at least one batch.
    """
    norms = _norms(network)
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}  # count, sum, squares

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].movedim(1, 0).flatten(1).double()  # [c, n]
        count = values.new_full((len(values),), values.shape[1])
        sums[norm] += torch.stack([count, values.sum(dim=1), values.square().sum(dim=1)]).cpu()  # pyright: ignore[reportArgumentType]

    was_training = network.training
    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        network.eval()
        for batch in batches:
            network(batch)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        count, total, squares = sums[norm].to(norm.running_mean.device)
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        scale = norm.weight / (norm.running_var + norm.eps).double().sqrt()  # of the map before the norm
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.affine and module.track_running_stats
    ]


def _is_blank(norm: _BatchNorm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())
