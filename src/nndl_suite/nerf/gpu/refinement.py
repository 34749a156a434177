"""Cameras that move while a field is learned, on a device; see `nerf.refinement` for the mathematics."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from nndl_suite.nerf.gpu.adam import adam_paced
from nndl_suite.nerf.refinement import common_drifts
from nndl_suite.training.checkpoints import State

_STATE = ("moves", "first", "second")


class DevicePoseRefinement:
    """The corrections of some cameras; the same state as `refinement.PoseRefinement`."""

    def __init__(self, given: Float32[np.ndarray, "n 3 4"], device: torch.device) -> None:
        self._given = torch.from_numpy(given).to(device)
        self._moves, self._first, self._second = (torch.zeros(len(given), 6, device=device) for _ in _STATE)
        self._grads = torch.zeros_like(self._moves)
        drifts = common_drifts(given[:, :, 3].astype(np.float64)).astype(np.float32)
        self._drifts = torch.from_numpy(drifts).to(device)
        self._identity = torch.eye(3, device=device)

    def poses(self) -> Float32[Tensor, "n 3 4"]:
        """The poses with their corrections."""
        turns = rotations(self._moves[:, 3:], self._identity)
        turned = (turns[..., None] * self._given[:, None, :, :3]).sum(dim=2)
        return torch.cat([turned, (self._given[:, :, 3] + self._moves[:, :3])[..., None]], dim=2)

    def learn(
        self, gradients: Float32[Tensor, "r 6"], photo: Int64[Tensor, "r"], pace: Float32[Tensor, "3"], rate: float
    ) -> None:
        """See `refinement.PoseRefinement.learn`; `pace` and `rate` are `adam_paced`'s."""
        self._grads.index_add_(0, photo, gradients)
        adam_paced(self._moves, self._grads, self._first, self._second, pace, rate=rate)
        moves = self._moves.view(-1, 1)
        moves -= (self._drifts * (self._drifts * moves).sum(dim=0)).sum(dim=1, keepdim=True)

    def state(self) -> dict[str, State]:
        """The corrections and Adam's moments, on the CPU."""
        tensors = (self._moves, self._first, self._second)
        return {name: tensor.cpu() for name, tensor in zip(_STATE, tensors, strict=True)}

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to what `state` gave."""
        for name, tensor in zip(_STATE, (self._moves, self._first, self._second), strict=True):
            tensor.copy_(cast(Tensor, state[name]))


def rotations(vectors: Float32[Tensor, "n 3"], identity: Float32[Tensor, "3 3"]) -> Float32[Tensor, "n 3 3"]:
    """Rotation matrices of axis times angle (Rodrigues' formula)."""
    square = vectors.square().sum(dim=1)[:, None, None]
    angle = square.sqrt()
    x, y, z = vectors.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    twice = vectors[:, :, None] * vectors[:, None] - square * identity  # skew @ skew
    return identity + torch.sinc(angle / torch.pi) * skew + 0.5 * torch.sinc(angle / (2 * torch.pi)).square() * twice
