"""Learning a radiance field from posed photos: random pixels, what the field shows there, and what it should."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import numba
import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.drawing import draw_pixels, pixel_pools, pixel_targets
from nndl_suite.nerf.field import CHUNKS, Field, FieldSettings, field_from_state, new_field
from nndl_suite.nerf.hull import hull_cells
from nndl_suite.nerf.kernels.adam import adam_touched
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.kernels.hash_grid import encode, encode_backward_adam
from nndl_suite.nerf.kernels.marching import GRID, splat
from nndl_suite.nerf.kernels.nets import ENCODED, WEIGHTS
from nndl_suite.nerf.kernels.tiles import shade_and_learn
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.refinement import WARMUP_STEPS, PoseRefinement, ray_gradients
from nndl_suite.nerf.rendering import check_samples
from nndl_suite.nerf.sampling import photo_of, pixel_rays, place_samples
from nndl_suite.nerf.shared_step import Learned, of_all_rays, own_rays
from nndl_suite.training.checkpoints import State
from nndl_suite.training.finite import went_astray
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.processes import everywhere, world_size
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.seeds import generator_for
from nndl_suite.training.watch import Step, Watcher, ignore

DEFAULT_STEPS = 3000
"""A few minutes on two cores."""
_NO_LIMIT = 10**9
_HULL_DENSITY = 10.0
"""What the density grid starts with where the silhouettes leave room, times the radius of the field."""
_RISING_STEPS = 20
REMEDY = "lower the learning rates"
RISE, FALL = 0.5, 0.1
"""How fast the density grid follows the samples, upwards and downwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a field is learned."""

    seed: int = 0
    steps: int | None = None
    """None: `DEFAULT_STEPS`, or where there is a limit in time, as many as fit."""
    max_seconds: float | None = None
    """Training ends after this time if it has not done `steps` by then. The learning rates fall with whichever is
    further, so two runs are the same to the last bit only without it."""
    samples: int = 24
    """Samples a ray."""
    samples_per_step: int = 2**15
    """Samples of all rays of a step; the number of rays follows."""
    uniform: float = 0.1
    """The part of the samples that is spread evenly along a ray, to find what the density grid does not know."""
    rate_table: float = 1e-2
    """Adam's learning rate of the hash table."""
    rate_nets: float = 5e-3
    rate_exposure: float = 1e-3
    pose_rate: float = 0.0
    """Of the corrections of the training photos' cameras (field units, radians); 0: poses are taken as they are."""
    last_rate: float = 0.03
    """What is left of the rates at the end of their cosine."""
    decay: float = 0.0
    """L2 weight of the table's touched entries."""
    spread: float = 2e-3
    """Weight of the distortion loss, which keeps the light of a ray from being stopped here and there (floaters)."""
    close: float = 0.8
    """Distance from the camera, in field units, below which samples learn more slowly."""
    fog: float = 3e-3
    """What light costs that is stopped right before the camera, falling to nothing at `close`. Before a plain wall fog
    explains one photo as well as the wall does, and no other photo denies it."""
    exposure: bool = True
    """Solve a gain for each training photo and channel; their logarithms average to 0, and pictures are without."""
    background: Literal["white", "black", "random"] = "white"
    """What pictures show behind photos with alpha; "random" shows white. Training does not depend on it: before one
    colour alone, a field learns to paint it. Photos without alpha show a scene that goes on, and this is not used."""
    field: FieldSettings = field(default_factory=FieldSettings)

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if self.samples_per_step < TILE:
            raise ConfigError(f"samples_per_step must be >= {TILE}, got {self.samples_per_step}")
        if not 0 < self.uniform <= 1:
            raise ConfigError(f"uniform must be in (0, 1], got {self.uniform}")
        if not 0 <= self.pose_rate < 1:
            raise ConfigError(f"pose_rate must be in [0, 1), got {self.pose_rate}")

    @property
    def most_steps(self) -> int:
        """Steps after which training ends if time has not ended it."""
        if self.steps is not None:
            return self.steps
        return DEFAULT_STEPS if self.max_seconds is None else _NO_LIMIT

    @property
    def rays(self) -> int:
        """Rays a step: as many as the budget of samples allows, in whole tiles."""
        return self.samples_per_step // TILE * TILE // self.samples


def train_field(photos: PosedPhotos, settings: TrainSettings, run: RunFolder, *, watch: Watcher = ignore) -> Field:
    """Learn a field, from the newest checkpoint in the run folder if there is one.

    Args:
        photos: The training photos, in the field frame. Held-out photos have no business here.
        settings: How.
        run: Where checkpoints and the metrics log go.
        watch: Told of progress.

    Raises:
        Interrupted: somebody stopped the run; called again with the same folder it goes on.
        TrainingError: the loss or what is learned is not finite; the message names the step and the first such tensor.
    """
    watch(
        Step(stage="compiling", done=0, total=1)
    )  # about 20 s once a machine, then cached; not part of the time to train
    if world_size() > 1:  # they share this machine's cores as torch's threads do
        numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))
    small = replace(settings, samples_per_step=TILE * world_size(), field=replace(settings.field, log2_rows=8))
    FieldTrainer(photos, small).step(0, 0.0)
    watch(Step(stage="compiling", done=1, total=1))
    trainer = FieldTrainer(photos, settings)
    run_loop(trainer, loop_of(settings), run, watch=watch)
    return trainer.field


def loop_of(settings: TrainSettings) -> LoopSettings:
    """How long the loop goes on, on whatever device."""
    return LoopSettings(
        stage="training", total_steps=settings.most_steps, max_seconds=settings.max_seconds, remedy=REMEDY
    )


@dataclass(frozen=True, slots=True)
class _Learned:
    """Parameters, changed in place, with Adam's moments."""

    values: Float32[np.ndarray, "*shape"]
    first: Float32[np.ndarray, "*shape"]
    second: Float32[np.ndarray, "*shape"]

    @classmethod
    def fresh(cls, values: Float32[np.ndarray, "*shape"]) -> "_Learned":
        return cls(values, np.zeros_like(values), np.zeros_like(values))

    def descend(self, grads: Float32[np.ndarray, "*shape"], rate: float, step: int) -> None:
        values, first, second = (array.reshape(-1) for array in (self.values, self.first, self.second))
        adam_touched(values, grads.reshape(-1), first, second, np.float32(rate), np.float32(0), step)

    def moments(self) -> list[State]:
        return [torch.from_numpy(self.first), torch.from_numpy(self.second)]

    @classmethod
    def with_moments(cls, values: Float32[np.ndarray, "*shape"], moments: State) -> "_Learned":
        first, second = (tensor.numpy().copy() for tensor in cast(list[Tensor], moments))
        return cls(values, first, second)


def starting_field(photos: PosedPhotos, settings: TrainSettings) -> Field:
    """What training begins with; its density grid knows from silhouettes, if there are any, where nothing can be."""
    behind = (0.0, 0.0, 0.0) if settings.background == "black" else (1.0, 1.0, 1.0)
    has_alpha = photos.pixels.shape[1] == 4
    field = new_field(replace(settings.field, background=behind if has_alpha else None), settings.seed)
    bound = settings.field.bound
    cells = None if bound is None else hull_cells(photos, half=bound, side=GRID)
    if bound is not None and cells is not None:
        field.grid[:] = cells.ravel() * np.float32(_HULL_DENSITY / bound)
    return field


class FieldTrainer:
    """A field that learns: a `Trainable` for the training loop.

    What a step draws is decided by the seed and the step's index alone, and every sum has a fixed order, so a run
    that was stopped and taken up again ends with the same bits, whatever the number of threads. Several processes share
    the rays of a step (`shared_step`); what they end with differs from that of one by the rounding of one sum.
    """

    def __init__(self, photos: PosedPhotos, settings: TrainSettings) -> None:
        self.photos = photos
        self.settings = settings
        self._has_alpha = photos.pixels.shape[1] == 4
        self._pools = pixel_pools(photos, settings.field.bound)
        self.field = starting_field(photos, settings)
        self._table, self._weights = _Learned.fresh(self.field.table), _Learned.fresh(self.field.weights)
        self._log_gain = _Learned.fresh(np.zeros((len(photos.names), 3), np.float32))
        self._refinement = PoseRefinement(photos.field_from_camera) if settings.pose_rate > 0 else None
        self._grad_table = np.zeros_like(self.field.table)
        self._part = own_rays(settings.rays, settings.samples)
        rays = len(self._part)
        n = rays * settings.samples
        self._encoding, self._grad_encoding = np.empty((ENCODED, n), np.float32), np.empty((ENCODED, n), np.float32)
        self._density, self._losses = np.empty(n, np.float32), np.empty((rays, 2), np.float32)
        self._grad_gain = np.empty((rays, 3), np.float32)
        self._grad_weights = np.empty((CHUNKS, WEIGHTS), np.float32)

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor | float]:
        """Learn from one batch of random pixels of all photos.

        Raises:
            TrainingError: the loss is not finite; nothing has been learned from it.
        """
        settings, now = self.settings, self.field
        generator = generator_for(settings.seed, "rays", index)
        drawn = draw_pixels(self._pools, settings.rays, generator)
        pixels = drawn[self._part.rows]
        jitter = torch.rand(settings.rays, settings.samples + 1, generator=generator).numpy()[self._part.rows]
        rays, photo = pixel_rays(self.photos_now(), pixels)
        target, background, through = pixel_targets(self.photos, pixels, now.settings.background)
        placed = place_samples(rays, jitter, grid=now.grid, reach=now.settings.reach, uniform=settings.uniform)
        encode(placed.points, now.table, now.layout.cells, now.layout.starts, self._encoding)
        with np.errstate(over="ignore"):  # the loss is infinite then, and says so
            gain = np.exp(self._log_gain.values)[photo]
        rules = (now.settings.knee, settings.spread, settings.close, settings.fog)
        shade_and_learn(
            now.weights,
            (self._encoding, placed.edges, rays.directions, target, background, through, gain),
            (not self._has_alpha, *(np.float32(rule) for rule in rules)),
            (self._density, self._grad_encoding, self._grad_gain, self._losses),
            self._grad_weights,
        )
        moves = np.empty((len(photo), 0), np.float32)
        if self._refinement is not None:  # before the table changes
            moves = ray_gradients(now, rays, placed, self._grad_encoding)
        own = Learned(
            points=placed.points,
            grad_encoding=self._grad_encoding,
            density=self._density,
            losses=self._losses.T,
            grad_gain=self._grad_gain.T,
            grad_pose=moves.T,
            grad_weights=self._grad_weights.sum(axis=0),
        )
        learned = of_all_rays(own, self._part, settings.samples)
        error, distortion = learned.losses.T.mean(axis=0, dtype=np.float64).tolist()
        if not math.isfinite(error):
            raise everywhere(went_astray("training", index + 1, {"loss": error}, self.state(), REMEDY))
        self._descend(learned, photo_of(self.photos, drawn), rate_factor(index, fraction, settings.last_rate), index)
        return {"loss": error, "psnr": -10 * math.log10(max(error, 1e-10)), "distortion": distortion}

    def photos_now(self) -> PosedPhotos:
        """The photos with their cameras where they are by now."""
        if self._refinement is None:
            return self.photos
        return replace(self.photos, field_from_camera=self._refinement.poses)

    def _descend(self, learned: Learned, photo: Int64[np.ndarray, "r"], factor: float, index: int) -> None:
        """One Adam step on everything, and the density grid brought up to date."""
        settings, now = self.settings, self.field
        if self._refinement is not None:
            rate = factor * settings.pose_rate if index >= WARMUP_STEPS else 0.0
            self._refinement.learn(learned.grad_pose.T, photo, rate, index)
        self._weights.descend(learned.grad_weights, factor * settings.rate_nets, index)
        encode_backward_adam(
            learned.points, learned.grad_encoding, now.layout.cells, now.layout.starts, self._grad_table,
            self._table.values, self._table.first, self._table.second,
            np.float32(factor * settings.rate_table), np.float32(settings.decay), index,
        )  # fmt: skip
        splat(learned.points, learned.density, now.grid, np.float32(RISE), np.float32(FALL))
        if settings.exposure:
            gains = self._log_gain.values
            grads = [np.bincount(photo, of_channel, len(gains)) for of_channel in learned.grad_gain]
            self._log_gain.descend(np.stack(grads, axis=1).astype(np.float32), factor * settings.rate_exposure, index)
            gains -= gains.mean(axis=0)  # else the field could darken while all gains grow

    def state(self) -> dict[str, State]:
        """The field, the exposures, the corrections of the cameras where they move, and Adam's moments."""
        refinement = {} if self._refinement is None else {"poses": self._refinement.state()}
        return {
            **refinement,
            "field": self.field.state(),
            "log_gain": torch.from_numpy(self._log_gain.values),
            "moments": {
                "table": self._table.moments(),
                "weights": self._weights.moments(),
                "log_gain": self._log_gain.moments(),
            },
        }

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to what `state` gave."""
        moments = cast(Mapping[str, State], state["moments"])
        self.field = field_from_state(cast(Mapping[str, State], state["field"]))
        self._table = _Learned.with_moments(self.field.table, moments["table"])
        self._weights = _Learned.with_moments(self.field.weights, moments["weights"])
        log_gain = cast(Tensor, state["log_gain"]).numpy().copy()
        self._log_gain = _Learned.with_moments(log_gain, moments["log_gain"])
        if self._refinement is not None:
            self._refinement.load_state(cast(Mapping[str, State], state["poses"]))


def rate_factor(index: int, fraction: float, last: float) -> float:
    """The factor on the learning rates: a short rise by steps, then half a cosine from 1 to `last` over the run."""
    return min(1.0, (index + 1) / _RISING_STEPS) * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * fraction)))
