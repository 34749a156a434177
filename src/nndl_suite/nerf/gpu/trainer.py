"""Learning a radiance field on a GPU: the CPU trainer's mathematics, from photos that lie on the device.

Nothing in a step waits for the device. With Triton's kernels all but the drawing of pixels is recorded once, as a CUDA
graph, and replayed: what changes from step to step lies in tensors that the graph reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from nndl_suite.nerf.drawing import pixel_pools
from nndl_suite.nerf.field import field_from_state
from nndl_suite.nerf.gpu.adam import adam_paced
from nndl_suite.nerf.gpu.chosen import in_triton
from nndl_suite.nerf.gpu.field import DeviceField, place_field
from nndl_suite.nerf.gpu.hash_grid import encode, encode_backward
from nndl_suite.nerf.gpu.marching import march, splat
from nndl_suite.nerf.gpu.photos import draw, pixel_rays, pixel_targets, place_photos, place_pools
from nndl_suite.nerf.gpu.plain import starts
from nndl_suite.nerf.gpu.pose_gradient import pose_gradient
from nndl_suite.nerf.gpu.refinement import DevicePoseRefinement
from nndl_suite.nerf.gpu.shading import Rules, shade_and_learn
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.refinement import WARMUP_STEPS
from nndl_suite.nerf.trainer import FALL, RISE, TrainSettings, loop_of, rate_factor, starting_field
from nndl_suite.training.checkpoints import State
from nndl_suite.training.loop import run_loop
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.seeds import generator_for
from nndl_suite.training.watch import Step, Watcher, ignore

_STEPS_BEFORE_RECORDING = 2
"""Triton compiles in the first; a recording cannot."""


def gpu_settings(settings: TrainSettings) -> TrainSettings:
    """The settings with what a GPU is given by default: eight times the rays a step, and twice the table.

    A step of 2**18 samples takes a few milliseconds where one of 2**15 takes two cores 40; it has the samples to fill
    the larger table.
    """
    field = replace(settings.field, log2_rows=max(19, settings.field.log2_rows))
    return replace(settings, samples_per_step=2**18, field=field)


def train_field_on(
    device: torch.device, photos: PosedPhotos, settings: TrainSettings, run: RunFolder, *, watch: Watcher = ignore
) -> DeviceField:
    """As `trainer.train_field`, on a device.

    Raises:
        Interrupted: somebody stopped the run; called again with the same folder it goes on, on whatever device.
        TrainingError: the loss or what is learned is not finite; the message names the step and the first such tensor.
    """
    watch(Step(stage="compiling", done=0, total=1))  # some seconds once a machine, then cached; not part of the time
    trainer = GpuFieldTrainer(photos, settings, device)
    trainer.rehearse()
    watch(Step(stage="compiling", done=1, total=1))
    run_loop(trainer, loop_of(settings), run, watch=watch)
    return trainer.field


@dataclass(frozen=True, slots=True)
class _Learned:
    """Parameters, changed in place, with Adam's moments."""

    values: Float32[Tensor, "*shape"]
    first: Float32[Tensor, "*shape"]
    second: Float32[Tensor, "*shape"]

    @classmethod
    def fresh(cls, values: Float32[Tensor, "*shape"]) -> "_Learned":
        return cls(values, torch.zeros_like(values), torch.zeros_like(values))

    def descend(self, grads: Float32[Tensor, "*shape"], pace: Tensor, rate: float, decay: float = 0.0) -> None:
        adam_paced(self.values, grads, self.first, self.second, pace, rate=rate, decay=decay)

    def moments(self) -> list[State]:
        return [self.first.cpu(), self.second.cpu()]

    def load(self, values: State, moments: State) -> None:
        found = (cast(Tensor, values), *cast(list[Tensor], moments))
        for mine, theirs in zip((self.values, self.first, self.second), found, strict=True):
            mine.copy_(theirs)


class GpuFieldTrainer:
    """A field that learns on a device: a `Trainable` whose state is that of `trainer.FieldTrainer`.

    A run begun on the one goes on on the other. What a step draws is decided by the seed and the step's index; sums on
    CUDA have no fixed order where many rays meet, so a run repeats to rounding. Where the device is the CPU, which is
    for tests, it draws what the CPU's trainer draws.
    """

    def __init__(self, photos: PosedPhotos, settings: TrainSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self._photos = place_photos(photos, device)
        self._pools = place_pools(pixel_pools(photos, settings.field.bound), device)
        refined = settings.pose_rate > 0
        self._refinement = DevicePoseRefinement(photos.field_from_camera, device) if refined else None
        self._log_gain = _Learned.fresh(torch.zeros(len(photos.names), 3, device=device))
        self._grad_gain = torch.zeros_like(self._log_gain.values)
        self._pixels = torch.zeros(settings.rays, dtype=torch.int64, device=device)
        self._jitter = torch.zeros(settings.rays, settings.samples + 1, device=device)
        self._pace, self._pose_pace = torch.zeros(2, 3, device=device).unbind()
        self._figures = torch.zeros(3, device=device)
        self._set_field(place_field(starting_field(photos, settings), device))

    def _set_field(self, field: DeviceField) -> None:
        self.field = field
        self._table, self._weights = _Learned.fresh(field.table), _Learned.fresh(field.weights)
        self._grad_table = torch.zeros_like(field.table)
        self._recording: torch.cuda.CUDAGraph | None = None
        self._before_recording = _STEPS_BEFORE_RECORDING

    def step(self, index: int, fraction: float) -> Mapping[str, Tensor]:
        """Learn from one batch of random pixels of all photos; the figures are the device's until the next step."""
        draw(self._pools, generator_for(self.settings.seed, "rays", index, self.device), self._pixels, self._jitter)
        return self.learn(index, fraction)

    def draws(self) -> tuple[Int64[Tensor, "r"], Float32[Tensor, "r s+1"]]:
        """What the step draws, to be looked at or filled: rows of the photos' pixels, and where samples fall."""
        return self._pixels, self._jitter

    def learn(self, index: int, fraction: float) -> Mapping[str, Tensor]:
        """What `step` does after it has drawn."""
        factor = rate_factor(index, fraction, self.settings.last_rate)
        self._set_pace(self._pace, factor, index)
        if self._refinement is not None:
            self._set_pace(self._pose_pace, factor if index >= WARMUP_STEPS else 0.0, index)
        if self._recording is not None:
            self._recording.replay()
        elif self.device.type == "cuda" and in_triton(self._jitter) and self._before_recording == 0:
            self._recording = self._recorded()
            self._recording.replay()
        else:
            self._before_recording = max(0, self._before_recording - 1)
            self._advance()
        loss, psnr, distortion = self._figures.unbind()
        return {"loss": loss, "psnr": psnr, "distortion": distortion}

    @staticmethod
    def _set_pace(pace: Float32[Tensor, "3"], factor: float, index: int) -> None:
        for place, value in zip(pace, (factor, *starts(index)), strict=True):
            place.fill_(value)  # the number travels with the launch; a copy from the CPU would wait

    def _recorded(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._advance()
        return graph

    def _advance(self) -> None:
        """One step of learning from what is drawn, at the pace that is set; launches only."""
        settings, field, photos = self.settings, self.field, self._photos
        reach = field.settings.reach
        poses = photos.poses if self._refinement is None else self._refinement.poses()
        origins, directions, photo = pixel_rays(photos, poses, self._pixels)
        target, background, through = pixel_targets(photos, self._pixels, background=field.settings.background)
        edges, points, _ = march(origins, directions, field.grid, self._jitter, reach=reach, uniform=settings.uniform)
        encoding = encode(points, field.table, field.layout)
        gain = self._log_gain.values.exp()[photo]
        learned = shade_and_learn(
            field.weights, encoding, edges, directions, target, background, through, gain, rules=self._rules()
        )
        error, distortion = learned.losses.mean(dim=0)
        self._figures.copy_(torch.stack([error, -10 * error.clamp(min=1e-10).log10(), distortion]))
        if self._refinement is not None:  # before the table changes
            moves = pose_gradient(
                points, learned.grad_encoding, field.table, field.layout, origins, directions, edges, bound=reach[3]
            )
            self._refinement.learn(moves, photo, self._pose_pace, settings.pose_rate)
        self._weights.descend(learned.grad_weights, self._pace, settings.rate_nets)
        encode_backward(points, learned.grad_encoding, field.layout, self._grad_table)
        self._table.descend(self._grad_table, self._pace, settings.rate_table, settings.decay)
        splat(points, learned.density, field.grid, rise=RISE, fall=FALL)
        if settings.exposure:
            self._descend_gains(learned.grad_gain, photo)

    def _rules(self) -> Rules:
        settings, field = self.settings, self.field.settings
        return Rules(
            open_end=field.background is None,
            knee=field.knee,
            spread=settings.spread,
            close=settings.close,
            fog=settings.fog,
        )

    def _descend_gains(self, grads: Float32[Tensor, "r 3"], photo: Int64[Tensor, "r"]) -> None:
        self._grad_gain.index_add_(0, photo, grads)
        self._log_gain.descend(self._grad_gain, self._pace, self.settings.rate_exposure)
        gains = self._log_gain.values
        gains -= gains.mean(dim=0)  # else the field could darken while all gains grow

    def rehearse(self) -> None:
        """Compile and record what steps need, on CUDA; the state is then as it was."""
        if self.device.type == "cuda":
            state = self.state()
            for index in range(_STEPS_BEFORE_RECORDING + 1):
                self.step(index, 0.0)
            self.load_state(state)
            torch.cuda.synchronize(self.device)

    def state(self) -> dict[str, State]:
        """What `FieldTrainer.state` gives, on the CPU."""
        refinement = {} if self._refinement is None else {"poses": self._refinement.state()}
        return {
            **refinement,
            "field": self.field.state(),
            "log_gain": self._log_gain.values.cpu(),
            "moments": {
                "table": self._table.moments(),
                "weights": self._weights.moments(),
                "log_gain": self._log_gain.moments(),
            },
        }

    def load_state(self, state: Mapping[str, State]) -> None:
        """Go back to what `state` gave, here or on the CPU's trainer."""
        moments, saved = cast(Mapping[str, State], state["moments"]), cast(Mapping[str, State], state["field"])
        field = field_from_state(saved)
        if field.settings != self.field.settings:  # as where the CPU began with a smaller table
            self._set_field(place_field(field, self.device))
        self.field.grid.copy_(cast(Tensor, saved["grid"]))
        self._table.load(saved["table"], moments["table"])
        self._weights.load(saved["weights"], moments["weights"])
        self._log_gain.load(state["log_gain"], moments["log_gain"])
        if self._refinement is not None:
            self._refinement.load_state(cast(Mapping[str, State], state["poses"]))
