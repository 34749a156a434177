"""Learning a radiance field from posed photos."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from nndl_suite.errors import ConfigError, NndlError
from nndl_suite.nerf.field import CHUNKS, Field, FieldSettings, field_from_state, new_field
from nndl_suite.nerf.kernels.adam import adam_touched
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.kernels.hash_grid import encode, encode_backward_adam
from nndl_suite.nerf.kernels.marching import splat
from nndl_suite.nerf.kernels.tiles import ENCODED, WEIGHTS, shade_and_learn
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import check_samples
from nndl_suite.nerf.sampling import Rays, Samples, pixel_rays, place_samples
from nndl_suite.training.checkpoints import State
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.seeds import generator_for
from nndl_suite.training.watch import Step, Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a field is learned."""

    seed: int = 0
    steps: int = 20_000
    max_seconds: float | None = None
    """Training ends at `steps` or after this time, whichever comes first; the rates fall accordingly."""
    samples: int = 24
    """Samples a ray."""
    samples_per_step: int = 2**17
    rate_table: float = 1e-2
    rate_nets: float = 5e-3
    rate_exposure: float = 1e-3
    last_rate: float = 0.03
    """What is left of the rates at the end, after a cosine."""
    decay: float = 0.0
    """L2 weight of the table's touched entries."""
    spread: float = 2e-3
    """Weight of the distortion loss, which keeps the light of a ray from being stopped here and there (floaters)."""
    close: float = 0.5
    """Field units from the camera, below which samples learn more slowly."""
    exposure: bool = True
    """Solve a gain for each training photo and channel. They average to 1, and pictures are rendered with 1."""
    background: Literal["white", "black", "random"] = "white"
    """What lies behind photos with alpha. After training on "random", pictures are rendered on white. Photos without alpha
    show a scene that goes on, and this is not used."""
    field: FieldSettings = field(default_factory=FieldSettings)

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if self.steps < 1:
            raise ConfigError(f"steps must be >= 1, got {self.steps}")

    @property
    def rays(self) -> int:
        """Rays a step: as many as the budget of samples allows, in whole tiles."""
        return max(1, self.samples_per_step // TILE) * TILE // self.samples


class FieldTrainer:
    """A field that learns: a `Trainable` for the training loop."""

    def __init__(self, photos: PosedPhotos, settings: TrainSettings) -> None:
        self.photos = photos
        self.settings = settings
        self.has_alpha = photos.pixels.shape[1] == 4
        colour = (0.0, 0.0, 0.0) if settings.background == "black" else (1.0, 1.0, 1.0)
        of_field = replace(settings.field, background=colour if self.has_alpha else None)
        self.field = new_field(of_field, settings.seed)
        self.log_gain: Float32[np.ndarray, "n 3"] = np.zeros((len(photos.names), 3), np.float32)
        self._moments = {
            name: (np.zeros_like(values), np.zeros_like(values))
            for name, values in (("table", self.field.table), ("weights", self.field.weights), ("gain", self.log_gain))
        }
        self._grad_table = np.zeros_like(self.field.table)
        n, r = settings.rays * settings.samples, settings.rays
        self._encoding, self._grad_encoding = np.empty((ENCODED, n), np.float32), np.empty((ENCODED, n), np.float32)
        self._density, self._losses = np.empty(n, np.float32), np.empty((r, 2), np.float32)
        self._gain_grad = np.empty((r, 3), np.float32)
        self._grad_weights = np.empty((CHUNKS, WEIGHTS), np.float32)

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor | float]:
        """Learn from one batch of random pixels of all photos."""
        settings, f = self.settings, self.field
        generator = generator_for(settings.seed, "rays", index)
        pixels = torch.randint(len(self.photos.pixels), (settings.rays,), generator=generator).numpy()
        jitter = torch.rand(settings.rays, settings.samples + 1, generator=generator).numpy()
        rays, photo = pixel_rays(self.photos, pixels)
        target, background = self._targets(pixels, generator)
        placed = place_samples(rays, jitter, grid=f.grid, reach=f.settings.reach, uniform=0.1)
        encode(placed.points, f.table, f.layout.cells, f.layout.starts, self._encoding)
        gain = np.exp(self.log_gain)[photo]
        rules = (not self.has_alpha, np.float32(f.settings.knee), np.float32(settings.spread), np.float32(settings.close))
        shade_and_learn(
            f.weights,
            (self._encoding, placed.edges, rays.directions, target, background, gain),
            rules,
            (self._density, self._grad_encoding, self._gain_grad, self._losses),
            self._grad_weights,
        )
        error, spread = self._losses.mean(axis=0, dtype=np.float64).tolist()
        if not math.isfinite(error):
            raise NndlError(f"training: the loss is {error} at step {index + 1}; lower the learning rates")
        self._update(index, fraction, placed, photo)
        return {"loss": error, "psnr": -10 * math.log10(max(error, 1e-10)), "distortion": spread}

    def _update(self, index, fraction, placed, photo):
        settings, f = self.settings, self.field
        factor = settings.last_rate + (1 - settings.last_rate) * 0.5 * (1 + math.cos(math.pi * fraction))
        factor *= min(1.0, (index + 1) / 20)
        adam_touched(f.weights, self._grad_weights.sum(axis=0), *self._moments["weights"], np.float32(factor * settings.rate_nets), np.float32(0), index)
        encode_backward_adam(placed.points, self._grad_encoding, f.layout.cells, f.layout.starts, self._grad_table, f.table, *self._moments["table"], np.float32(factor * settings.rate_table), np.float32(settings.decay), index)
        splat(placed.points, self._density, f.grid, np.float32(0.5), np.float32(0.1))
        if settings.exposure:
            n = len(self.log_gain)
            grads = np.stack([np.bincount(photo, self._gain_grad[:, c], n) for c in range(3)], axis=-1).astype(np.float32)
            m = self._moments["gain"]
            adam_touched(self.log_gain.reshape(-1), grads.reshape(-1), m[0].reshape(-1), m[1].reshape(-1), np.float32(factor * settings.rate_exposure), np.float32(0), index)
            self.log_gain -= self.log_gain.mean(axis=0)

    def _targets(self, pixels, generator):
        colours = self.photos.pixels[pixels].astype(np.float32) / np.float32(255)
        target = np.ascontiguousarray(colours[:, :3])
        if not self.has_alpha:
            return target, np.zeros_like(target)
        if self.settings.background == "random":
            background = torch.rand(len(pixels), 3, generator=generator).numpy()
        else:
            background = np.broadcast_to(np.float32(self.field.settings.background), target.shape).copy()
        alpha = colours[:, 3:]
        return alpha * target + (1 - alpha) * background, background
