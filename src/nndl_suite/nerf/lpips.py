"""LPIPS (arXiv 1801.03924) with SqueezeNet features: how far apart two pictures look, from weights on this machine.

The published figures come from ImageNet weights and from heads that were fitted to people's judgements; both must lie
on the disk, nothing is downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from nndl_suite.errors import DataError
from nndl_suite.models.weights import read_state_dict
from nndl_suite.nerf.lpips_files import NoLpips, find_lpips_files

_SLICES = (2, 5, 8, 10, 11, 12, 13)
"""After how many of SqueezeNet's layers features are compared."""
_CHANNELS = (64, 128, 256, 384, 384, 512, 512)
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""Of the authors' normalisation, on RGB in [-1, 1]."""
SMALLEST_SIDE = 17
"""Pixels; the third pooling of a smaller picture has nothing to pool."""


@dataclass(frozen=True, slots=True)
class Lpips:
    """The metric with its weights; `find_lpips` makes it."""

    features: nn.Sequential
    heads: tuple[Float[Tensor, "1 c 1 1"], ...]

    @torch.no_grad()
    def distance(self, rendered: Float[Tensor, "1 3 h w"], truth: Float[Tensor, "1 3 h w"]) -> float:
        """0 for equal pictures, about 0.7 for unrelated ones; sRGB in [0, 1], sides of at least `SMALLEST_SIDE`."""
        both = torch.cat([rendered, truth]) * 2 - 1
        x = (both - both.new_tensor(_SHIFT)[:, None, None]) / both.new_tensor(_SCALE)[:, None, None]  # [2, 3, h, w]
        total = 0.0
        for layer, (start, end) in enumerate(zip((0, *_SLICES[:-1]), _SLICES, strict=True)):
            x = self.features[start:end](x)  # [2, c, h', w']
            unit = x / (x.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
            total += float((self.heads[layer][0] * (unit[0] - unit[1]).square()).sum(dim=0).mean())
        return total


def find_lpips(data_root: Path) -> Lpips | NoLpips:
    """The metric, where its weights lie on this machine.

    Raises:
        DataError: a file of weights is there and is damaged or of something else.
    """
    found = find_lpips_files(data_root)
    if isinstance(found, NoLpips):
        return found
    return Lpips(_features(found.features), _heads(read_state_dict(found.heads), found.heads))


def _features(file: Path) -> nn.Sequential:
    state = read_state_dict(file)
    prefix = "features."
    wanted = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    with torch.device("meta"):  # without drawing weights that are replaced at once
        features = squeezenet1_1(weights=None).features
    assert isinstance(features, nn.Sequential)  # torchvision's own
    try:
        features.load_state_dict(wanted, assign=True)
    except RuntimeError as error:
        raise DataError(
            f"{file} does not hold torchvision's squeezenet1_1; put that network's state dict there"
        ) from error
    return features.float().eval().requires_grad_(requires_grad=False)


def _heads(state: Mapping[str, Tensor], file: Path) -> tuple[Float[Tensor, "1 c 1 1"], ...]:
    heads: list[Tensor] = []
    for layer, channels in enumerate(_CHANNELS):
        head = state.get(f"lin{layer}.model.1.weight")
        if head is None or head.shape != (1, channels, 1, 1):
            raise DataError(f"{file} does not hold the heads of LPIPS for SqueezeNet (lin0 to lin6)")
        heads.append(head.float())
    return tuple(heads)
