"""One training step of a radiance field by several processes, each with a part of the rays.

They exchange what belongs to rays and samples, not the gradient of the table: of 2^15 samples, 36 numbers each are 5 MB
where the table is 26 MB. Each then does the whole scatter and the same Adam step, in the order in which one process
would, so that tables and density grids stay alike without another word.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float32

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.training.processes import Part, everywhere, spread_evenly, summed, world_size


@dataclass(frozen=True, slots=True)
class Learned:
    """What a step found out of its rays, before anything is changed by it; `fields` have rays or samples last."""

    points: Float32[np.ndarray, "3 n"]
    grad_encoding: Float32[np.ndarray, "e n"]
    density: Float32[np.ndarray, "n"]
    losses: Float32[np.ndarray, "2 r"]
    grad_gain: Float32[np.ndarray, "3 r"]
    grad_pose: Float32[np.ndarray, "k r"]
    """Of each ray's origin and direction, k = 6; k = 0 where cameras stand still."""
    grad_weights: Float32[np.ndarray, "w"]
    """Summed over the rays."""


def own_rays(rays: int, samples: int) -> Part:
    """The rays of a step that this process works on: whole tiles.

    Raises:
        ConfigError: there are more processes than tiles.
    """
    tiles = spread_evenly(rays * samples // TILE)
    if tiles.total < world_size():
        raise everywhere(
            ConfigError(
                f"samples_per_step must be >= {TILE * world_size()} for {world_size()} processes, got {rays * samples}"
            )
        )
    per_tile = TILE // samples
    return Part(tiles.start * per_tile, tiles.stop * per_tile, rays)


def of_all_rays(own: Learned, part: Part, samples: int) -> Learned:
    """The step of all rays from each process's own; the same thing where there is one process."""
    if world_size() == 1:
        return own
    sizes = {"points": samples, "grad_encoding": samples, "density": samples}
    told: dict[str, np.ndarray] = {}
    for field in fields(own):
        array: np.ndarray = getattr(own, field.name)
        if field.name != "grad_weights":
            per_ray = sizes.get(field.name, 1)
            whole = np.zeros((*array.shape[:-1], part.total * per_ray), np.float32)
            whole[..., part.start * per_ray : part.stop * per_ray] = array
            array = whole
        told[field.name] = array
    flat = summed(torch.from_numpy(np.concatenate([array.ravel() for array in told.values()]))).numpy()
    ends = np.cumsum([array.size for array in told.values()])[:-1]
    pieces = zip(told.items(), np.split(flat, ends), strict=True)
    return Learned(**{name: piece.reshape(array.shape) for (name, array), piece in pieces})
