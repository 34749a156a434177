"""An honest score after cameras have moved: held-out cameras are refitted on one half of their photo alone.

Refined training cameras, and the field with them, may have moved against the held-out photos' poses as given, and a
score there would be about that. So each held-out pose is fitted to the trained field by the left half of its photo, and
the score is taken on the right half, which nothing has seen.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Int64

from nndl_suite.nerf.drawing import pixel_targets
from nndl_suite.nerf.field import CHUNKS, Field
from nndl_suite.nerf.kernels.hash_grid import encode
from nndl_suite.nerf.kernels.nets import ENCODED, WEIGHTS
from nndl_suite.nerf.kernels.tiles import shade_and_learn
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.refinement import PoseRefinement, ray_gradients
from nndl_suite.nerf.sampling import pixel_rays, place_samples
from nndl_suite.training.seeds import generator_for
from nndl_suite.training.watch import Step, Watcher, ignore

_RAYS = 256
_SAMPLES = 24
_RATE = 2e-3
_UNIFORM = 0.1
_SPREAD, _CLOSE = np.float32(0), np.float32(1e-6)  # nothing but the colours is of interest here


def refit_poses(
    field: Field, photos: PosedPhotos, *, seed: int = 0, steps: int = 100, watch: Watcher = ignore
) -> PosedPhotos:
    """The photos with poses by which the left halves look most as the field shows them.

    Args:
        field: A trained field; it stays as it is.
        photos: With the poses to start from. Only pixels left of the middle column are looked at, of those that count.
        seed: Draws the rays. A photo's pose does not depend on the others.
        steps: Of gradient descent, for each photo.
        watch: Told of every photo.
    """
    found = [photos.field_from_camera[index] for index in range(len(photos.names))]
    for index in range(len(photos.names)):
        seen = left_half(photos, index)
        if len(seen):
            found[index] = _refitted(field, photos, index, seen, seed, steps)
        watch(Step(stage="refitting held-out poses", done=index + 1, total=len(photos.names)))
    return replace(photos, field_from_camera=np.stack(found))


def left_half(photos: PosedPhotos, index: int) -> Int64[np.ndarray, "n"]:
    """Rows of `photos.pixels` of a photo's pixels in columns 0 to w // 2 - 1, of those that count."""
    height, width = photos.sizes[index]
    column = np.arange(height * width) % width
    rows = photos.starts[index] + np.flatnonzero(column < width // 2)
    return rows if photos.counted is None else rows[photos.counted[rows]]


def _refitted(  # noqa: PLR0913 - one photo's share of `refit_poses`
    field: Field, photos: PosedPhotos, index: int, seen: Int64[np.ndarray, "n"], seed: int, steps: int
) -> Float32[np.ndarray, "3 4"]:
    """A photo's pose [3, 4] after descending the photometric loss of the pixels `seen`."""
    n, settings = _RAYS * _SAMPLES, field.settings
    encoding, grad_encoding = np.empty((2, ENCODED, n), np.float32)
    out = (np.empty(n, np.float32), grad_encoding, np.empty((_RAYS, 3), np.float32), np.empty((_RAYS, 2), np.float32))
    grad_weights = np.empty((CHUNKS, WEIGHTS), np.float32)  # filled, and forgotten
    itself, gain = np.zeros(_RAYS, np.int64), np.ones((_RAYS, 3), np.float32)
    camera = PoseRefinement(photos.field_from_camera[index : index + 1])
    for step in range(steps):
        generator = generator_for(seed, f"refit {photos.names[index]}", step)
        pixels = seen[torch.randint(len(seen), (_RAYS,), generator=generator).numpy()]
        jitter = torch.rand(_RAYS, _SAMPLES + 1, generator=generator).numpy()
        poses = photos.field_from_camera.copy()
        poses[index] = camera.poses[0]
        rays, _ = pixel_rays(replace(photos, field_from_camera=poses), pixels)
        placed = place_samples(rays, jitter, grid=field.grid, reach=settings.reach, uniform=_UNIFORM)
        encode(placed.points, field.table, field.layout.cells, field.layout.starts, encoding)
        target, background, through = pixel_targets(photos, pixels, settings.background)
        shade_and_learn(
            field.weights,
            (encoding, placed.edges, rays.directions, target, background, through, gain),
            (settings.background is None, np.float32(settings.knee), _SPREAD, _CLOSE, np.float32(0)),
            out,
            grad_weights,
        )
        rate = _RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        camera.descend(ray_gradients(field, rays, placed, grad_encoding), itself, rate, step)
    return camera.poses[0]
