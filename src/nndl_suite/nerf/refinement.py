"""Cameras that move while a field is learned: a small turn and shift for each training photo."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from nndl_suite.nerf.field import CHUNKS, Field
from nndl_suite.nerf.kernels.adam import adam_touched
from nndl_suite.nerf.kernels.pose_gradient import pose_gradient
from nndl_suite.nerf.sampling import Rays, Samples, single
from nndl_suite.training.checkpoints import State

WARMUP_STEPS = 50
"""Steps of training before cameras begin to move: before, the field knows too little to tell them where to."""


class PoseRefinement:
    """The corrections of some cameras, found by Adam, a step at a time.

    A correction is a shift of the centre (field units) and a turn about it (axis times angle in radians), both along
    the field's axes and applied after the pose as given. It is small, so turns are added up as vectors.
    """

    def __init__(self, given: Float32[np.ndarray, "n 3 4"]) -> None:
        self._given = given
        self._moves, self._first, self._second = np.zeros((3, len(given), 6), np.float32)
        self._drifts = common_drifts(given[:, :, 3].astype(np.float64))

    @property
    def poses(self) -> Float32[np.ndarray, "n 3 4"]:
        """The poses with their corrections."""
        return moved_poses(self._given, self._moves)

    def learn(
        self,
        gradients: Float32[np.ndarray, "r 6"],
        photo: Int64[np.ndarray, "r"],
        rate: float,
        step: int,
    ) -> None:
        """One step on the cameras that have rays; what would move all of them together is taken out again.

        The field could follow such a common movement, but the poses of held-out photos do not.

        Args:
            gradients: From `ray_gradients`.
            photo: The camera of each ray.
            rate: Adam's learning rate.
            step: Steps done before this one.
        """
        self.descend(gradients, photo, rate, step)
        moves = self._moves.reshape(-1).astype(np.float64)
        # einsum and not a matrix product, whose order of summing may depend on the number of threads
        moves -= np.einsum("pk,k->p", self._drifts, np.einsum("pk,p->k", self._drifts, moves))
        self._moves[:] = moves.reshape(self._moves.shape)

    def descend(
        self,
        gradients: Float32[np.ndarray, "r 6"],
        photo: Int64[np.ndarray, "r"],
        rate: float,
        step: int,
    ) -> None:
        """As `learn`, for cameras before a field that stays as it is: there they may move together."""
        sums = [np.bincount(photo, gradients[:, axis], len(self._moves)) for axis in range(6)]
        grads = np.stack(sums, axis=1).astype(np.float32)
        values, first, second = (array.reshape(-1) for array in (self._moves, self._first, self._second))
        adam_touched(values, grads.reshape(-1), first, second, np.float32(rate), np.float32(0), step)

    def state(self) -> dict[str, State]:
        """The corrections and Adam's moments, for a checkpoint."""
        arrays = {"moves": self._moves, "first": self._first, "second": self._second}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to what `state` gave."""
        for name, array in (("moves", self._moves), ("first", self._first), ("second", self._second)):
            array[:] = cast(Tensor, state[name]).numpy()


def refined_poses(given: Float32[np.ndarray, "n 3 4"], state: Mapping[str, State]) -> Float32[np.ndarray, "n 3 4"]:
    """The poses that a `PoseRefinement` of those given had when it left `state`."""
    refinement = PoseRefinement(given)
    refinement.load_state(state)
    return refinement.poses


def ray_gradients(
    field: Field, rays: Rays, placed: Samples, grad_encoding: Float32[np.ndarray, "e n"]
) -> Float32[np.ndarray, "r 6"]:
    """How a loss changes as each ray's origin is shifted (field units) and the ray is turned about it (radians)."""
    out = np.empty((len(rays.origins), 6), np.float32)
    pose_gradient(
        placed.points, grad_encoding, field.table, field.layout.cells, field.layout.starts,
        (rays.origins, rays.directions, placed.edges), single(field.settings.reach)[3], CHUNKS, out,
    )  # fmt: skip
    return out


def moved_poses(poses: Float32[np.ndarray, "n 3 4"], moves: Float32[np.ndarray, "n 6"]) -> Float32[np.ndarray, "n 3 4"]:
    """Poses after a shift `moves[:, :3]` of the centre and a turn `moves[:, 3:]` about it, along the frame's axes."""
    turns = rotations(moves[:, 3:].astype(np.float64))
    centres = poses[:, :, 3] + moves[:, :3]
    return np.concatenate([turns @ poses[:, :, :3], centres[:, :, None]], axis=2).astype(np.float32)


def rotations(vectors: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3 3"]:
    """Rotation matrices of axis times angle (Rodrigues' formula)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    return np.eye(3) + np.sinc(angle / np.pi) * skew + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (skew @ skew)


def common_drifts(centres: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n*6 k"]:
    """Orthonormal directions, in all corrections together, of a common shift, turn and growth (to first order)."""
    common = np.zeros((7, len(centres), 6))
    for axis in range(3):
        common[axis, :, axis] = 1
        common[3 + axis, :, 3 + axis] = 1
        common[3 + axis, :, :3] = np.cross(np.eye(3)[axis], centres)
    common[6, :, :3] = centres
    basis: list[np.ndarray] = []
    for drift in common.reshape(7, -1):  # Gram-Schmidt; a library's may sum in an order that depends on threads
        rest = drift
        for known in basis + basis:  # twice, for what rounding leaves
            rest = rest - (rest * known).sum() * known
        length = np.sqrt((rest**2).sum())
        if length > 1e-6 * np.sqrt(len(centres)):  # else the others make it up, as where all cameras stand at one place
            basis.append(rest / length)
    return np.stack(basis, axis=1)
