"""Batch norms whose statistics are those of the whole batch where several processes have a part of it each.

torch's own (`nn.SyncBatchNorm`) runs on GPUs only. These do the same by any backend, gloo on CPUs included.
"""

from typing import cast

import torch
from jaxtyping import Float
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, distributed, nn

from nndl_suite.errors import ConfigError
from nndl_suite.training.processes import everywhere, summed, world_size

_BatchNorm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage] - torch's own common name for them


def synchronise_norms(network: nn.Module) -> None:
    """Let its batch norms take the statistics of all processes' rows, in place; where there is one, nothing changes.

    Parameters, buffers, their names and what was hooked to the modules stay as they are. In eval mode nothing is
    exchanged.

    Raises:
        ConfigError: a batch norm is of a kind that is not known here.
    """
    if world_size() == 1:
        return
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            kind = _SYNCHRONISED.get(type(module))
            if kind is None:
                raise everywhere(
                    ConfigError(
                        f"{type(module).__name__} is a batch norm that several processes cannot share; "
                        "choose another network, or one process"
                    )
                )
            module.__class__ = kind


class _Synchronised(_BatchNorm):
    """The forward pass of both kinds."""

    def forward(self, input: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        if not self.training:
            return _BatchNorm.forward(self, input)
        output, mean, variance = _normalised(input, self.weight, self.bias, self.eps)  # pyright: ignore[reportCallIssue]
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            count = world_size() * input.numel() // input.shape[1]
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return output


class _Synchronised1d(_Synchronised, nn.BatchNorm1d):
    pass


class _Synchronised2d(_Synchronised, nn.BatchNorm2d):
    pass


class _SynchronisedAct2d(_Synchronised, BatchNormAct2d):
    """timm's, which goes on with a nonlinearity."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if not self.training:
            return BatchNormAct2d.forward(self, input)
        return cast(nn.Module, self.act)(cast(nn.Module, self.drop)(super().forward(input)))


_SYNCHRONISED: dict[type[nn.Module], type[_BatchNorm]] = {
    nn.BatchNorm1d: _Synchronised1d,
    nn.BatchNorm2d: _Synchronised2d,
    BatchNormAct2d: _SynchronisedAct2d,
}


@torch.compiler.disable  # its exchanges belong between compiled parts
def _normalised(
    x: Float[Tensor, "b c ..."], weight: Float[Tensor, "c"] | None, bias: Float[Tensor, "c"] | None, eps: float
) -> tuple[Float[Tensor, "b c ..."], Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Also mean and variance."""
    return cast(tuple[Tensor, Tensor, Tensor], _Normalise.apply(x, weight, bias, eps))


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, mean and variance over the rows of all processes.

    All have as many rows. One exchange of 2c numbers forward and one backward. Sums are taken in float32 at least, and
    deviations from a process's own mean, so that large means cost no digits.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        own = torch.stack(torch.var_mean(x.to(wide), dim=[0, *range(2, x.ndim)], correction=0))  # [2, c]
        parts = [torch.empty_like(own) for _ in range(world_size())]
        distributed.all_gather(parts, own)
        variances, means = torch.stack(parts, dim=1)  # [world, c] each
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)  # pyright: ignore[reportArgumentType] - a None is kept as it is
        factor = scale if weight is None else scale * weight.to(wide)
        shift = -mean * factor if bias is None else bias.to(wide) - mean * factor
        y = torch.addcmul(_wide(shift, x), x.to(wide), _wide(factor, x)).to(x.dtype)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor, *_: object
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, mean, scale = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        over = [0, *range(2, x.ndim)]
        g = grad.to(mean.dtype)
        unit = (x.to(mean.dtype) - _wide(mean, x)) * _wide(scale, x)
        of_bias, of_weight = g.sum(dim=over), (g * unit).sum(dim=over)
        count = world_size() * x.numel() // x.shape[1]
        mean_g, mean_gu = summed(torch.stack([of_bias, of_weight])) / count
        factor = scale if weight is None else scale * weight.to(mean.dtype)
        of_x = (g - _wide(mean_g, x) - unit * _wide(mean_gu, x)) * _wide(factor, x)
        if weight is None:
            return of_x.to(x.dtype), None, None, None
        return of_x.to(x.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


def _wide(channels: Float[Tensor, "c"], like: Tensor) -> Tensor:
    return channels.view(1, -1, *[1] * (like.ndim - 2))
