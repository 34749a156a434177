"""Training on a device beside the CPU's trainer: the same draws, the same steps, the same state."""

import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from gpu_cases import apart
from gpu_scene import BALL, OPEN, cut_out, demo_photos

from nndl_suite.errors import TrainingError
from nndl_suite.nerf.drawing import draw_pixels, pixel_pools, pixel_targets
from nndl_suite.nerf.field import load_field
from nndl_suite.nerf.gpu import photos as on_device
from nndl_suite.nerf.gpu.chosen import choose_device
from nndl_suite.nerf.gpu.trainer import GpuFieldTrainer, gpu_settings, train_field_on
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.refinement import WARMUP_STEPS
from nndl_suite.nerf.sampling import pixel_rays
from nndl_suite.nerf.trainer import FieldTrainer, TrainSettings
from nndl_suite.training.checkpoints import Checkpoint, equal_states, load_newest, save_checkpoint
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.seeds import generator_for
from nndl_suite.training.watch import Step

CPU = torch.device("cpu")
HALF = {"table": 0.15, "weights": 0.1, "log_gain": 0.02, "poses": 0.4}
"""Limits for kernels that multiply in half precision, which wakes and rests more units."""
interpreted = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="minutes by Triton's interpreter")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PosedPhotos:
    return demo_photos(tmp_path_factory.mktemp("demo"))


def _case(photos: PosedPhotos, kind: str) -> tuple[PosedPhotos, TrainSettings]:
    """An open scene whose cameras move, or an object before a background."""
    return (photos, replace(OPEN, pose_rate=1e-3)) if kind == "open" else (cut_out(photos), BALL)


def _first_moments(state) -> dict[str, torch.Tensor]:
    """Adam's: a tenth of the gradient after a first step, and still without jumps where its sign turns."""
    found = {name: moments[0] for name, moments in state["moments"].items()}
    return found | ({"poses": state["poses"]["first"]} if "poses" in state else {})


def _values(state) -> dict[str, torch.Tensor]:
    found = {"table": state["field"]["table"], "weights": state["field"]["weights"], "log_gain": state["log_gain"]}
    return found | ({"poses": state["poses"]["moves"]} if "poses" in state else {})


def _compare(ours: GpuFieldTrainer, theirs: FieldTrainer, start: dict, limits: dict[str, float], moved: float) -> None:
    """Gradients within `limits`; what has moved since `start`, at first by the gradients' signs, within `moved`."""
    found, expected = ours.state(), theirs.state()
    for name, moment in _first_moments(expected).items():
        difference = apart(_first_moments(found)[name], moment)
        assert difference < limits[name], (name, difference)
    before = _values(start)
    for name, value in _values(expected).items():
        difference = apart(_values(found)[name] - before[name], value - before[name])
        assert difference < moved, (name, difference)


def _clones(state):
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {name: _clones(value) for name, value in state.items()}
    return [_clones(value) for value in state] if isinstance(state, list) else state


def _hand_over(theirs: FieldTrainer, ours: GpuFieldTrainer) -> None:
    """A cell of the density grid moves sample by sample there, once here; the rest is compared as it comes."""
    ours.field.grid.copy_(torch.from_numpy(theirs.field.grid))


@pytest.mark.parametrize("kind", ["open", "ball"])
def test_rays_and_what_they_should_show_are_the_cpus(photos: PosedPhotos, kind: str):
    photos, settings = _case(photos, kind)
    pools = pixel_pools(photos, settings.field.bound)
    placed, placed_pools = on_device.place_photos(photos, CPU), on_device.place_pools(pools, CPU)
    expected = draw_pixels(pools, 333, generator := generator_for(5, "rays", 2))
    pixels, jitter = torch.zeros(333, dtype=torch.int64), torch.zeros(333, 25)
    on_device.draw(placed_pools, generator_for(5, "rays", 2), pixels, jitter)
    np.testing.assert_array_equal(pixels.numpy(), expected)
    np.testing.assert_array_equal(jitter, torch.rand(333, 25, generator=generator))
    rays, photo = pixel_rays(photos, expected)
    found = on_device.pixel_rays(placed, placed.poses, pixels)
    for ours, theirs in zip(found, (rays.origins, rays.directions, photo), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    background = None if kind == "open" else (1.0, 1.0, 1.0)
    found = on_device.pixel_targets(placed, pixels, background=background)
    for ours, theirs in zip(found, pixel_targets(photos, expected, background), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


@interpreted
@pytest.mark.parametrize("kind", ["open", "ball"])
def test_each_step_is_the_cpu_trainers(photos: PosedPhotos, kind: str):
    photos, settings = _case(photos, kind)
    ours, theirs = GpuFieldTrainer(photos, settings, CPU), FieldTrainer(photos, settings)
    assert equal_states(ours.state(), theirs.state())
    for index in range(WARMUP_STEPS, WARMUP_STEPS + 4):  # when cameras move
        start = _clones(theirs.state())
        ours.load_state(start)
        found, expected = ours.step(index, 0.1), theirs.step(index, 0.1)
        assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-4)
        # rounding puts some unit to rest, or some sample beyond a cell's wall, where slopes are others: that changes
        # the gradient of all rows about the sample, or of its camera
        _compare(ours, theirs, start, {"table": 0.05, "weights": 1e-3, "log_gain": 1e-4, "poses": 0.1}, 0.4)


@interpreted
@pytest.mark.parametrize("kind", ["open", "ball"])
def test_some_steps_end_where_the_cpu_trainers_do(photos: PosedPhotos, kind: str):
    photos, settings = _case(photos, kind)
    ours, theirs = GpuFieldTrainer(photos, settings, CPU), FieldTrainer(photos, settings)
    for index in range(4):
        found, expected = ours.step(index, 0.1), theirs.step(index, 0.1)
        assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-3)
        _hand_over(theirs, ours)


@interpreted
@pytest.mark.parametrize("kind", ["open", "ball"])
def test_a_run_goes_on_on_the_other_device(photos: PosedPhotos, kind: str, tmp_path):
    photos, settings = _case(photos, kind)
    ours, theirs = GpuFieldTrainer(photos, settings, CPU), FieldTrainer(photos, settings)
    for index in range(3):
        ours.step(index, index / 9)
    save_checkpoint(tmp_path, Checkpoint(step=3, seconds=1.0, state=ours.state()))
    saved = load_newest(tmp_path)
    assert saved is not None
    theirs.load_state(saved.state)
    assert equal_states(theirs.state(), ours.state())
    theirs.step(3, 0.3)
    again = GpuFieldTrainer(photos, replace(settings, field=replace(settings.field, log2_rows=9)), CPU)
    again.load_state(_clones(theirs.state()))
    assert equal_states(again.state(), theirs.state())
    expected, found = theirs.step(4, 0.4), again.step(4, 0.4)
    assert float(found["loss"]) == pytest.approx(expected["loss"], rel=1e-4)


@interpreted
def test_a_resumed_run_ends_with_the_same_bits_on_the_cpu(photos: PosedPhotos):
    whole, first, second = (GpuFieldTrainer(photos, OPEN, CPU) for _ in range(3))
    for index in range(4):
        whole.step(index, index / 4)
    for index in range(2):
        first.step(index, index / 4)
    second.load_state(first.state())
    first.step(0, 0.0)  # goes its own way: the two share nothing
    for index in range(2, 4):
        second.step(index, index / 4)
    assert equal_states(whole.state(), second.state())


def test_one_step_by_whatever_kernels_there_are(photos: PosedPhotos):
    tiny = replace(OPEN, samples_per_step=192, pose_rate=1e-3, field=replace(OPEN.field, log2_rows=8, finest=32))
    ours, theirs = GpuFieldTrainer(photos, tiny, CPU), FieldTrainer(photos, tiny)
    start = _clones(theirs.state())
    found, expected = ours.step(WARMUP_STEPS, 0.1), theirs.step(WARMUP_STEPS, 0.1)
    assert float(found["loss"]) == pytest.approx(expected["loss"], rel=5e-3)
    _compare(ours, theirs, start, HALF, 0.8)


@interpreted
def test_a_few_steps_show_more_of_the_scene(photos: PosedPhotos):
    trainer = GpuFieldTrainer(photos, OPEN, CPU)
    losses = [float(trainer.step(index, 0.1)["loss"]) for index in range(24)]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


@interpreted
def test_a_run_leaves_its_field_behind(tmp_path, photos: PosedPhotos):
    told: list[Step] = []
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    field = train_field_on(CPU, photos, replace(OPEN, steps=2), run, watch=told.append)
    found = load_field(run)
    np.testing.assert_array_equal(found.table, field.table.numpy())
    np.testing.assert_array_equal(found.grid, field.grid.numpy())
    assert [step.stage for step in told if step.done == step.total] == ["compiling", "training"]
    assert {"loss", "psnr", "distortion"} <= set(run.metrics()[-1])


@interpreted
def test_no_checkpoint_holds_what_is_no_number(photos: PosedPhotos, tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    rehearse = GpuFieldTrainer.rehearse

    def broken(trainer: GpuFieldTrainer) -> None:
        rehearse(trainer)
        trainer.field.weights[0] = torch.nan

    monkeypatch.setattr(GpuFieldTrainer, "rehearse", broken)
    with pytest.raises(
        TrainingError, match=r"loss is nan at step 1; NaN or infinity in field.*lower the learning rates"
    ):
        train_field_on(CPU, photos, replace(OPEN, steps=2), run)
    assert load_newest(run.checkpoints) is None


def test_a_gpu_is_given_more_at_once():
    settings = gpu_settings(OPEN)
    assert settings.samples_per_step == 2**18
    assert settings.field == replace(OPEN.field, log2_rows=19)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_cuda_auto_is_the_cpu():
    assert choose_device("auto") == CPU


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("kind", ["open", "ball"])
def test_steps_on_a_gpu_are_the_cpu_trainers(photos: PosedPhotos, kind: str):
    photos, settings = _case(photos, kind)
    ours, theirs = GpuFieldTrainer(photos, settings, torch.device("cuda")), FieldTrainer(photos, settings)
    same = GpuFieldTrainer(photos, settings, CPU)  # draws what the CPU's trainer draws
    for index in range(WARMUP_STEPS, WARMUP_STEPS + 6):  # the last are replayed
        start = _clones(theirs.state())
        ours.load_state(start)
        expected = theirs.step(index, 0.1)
        same.step(index, 0.1)
        for mine, drawn in zip(ours.draws(), same.draws(), strict=True):
            mine.copy_(drawn)
        found = ours.learn(index, 0.1)
        assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=2e-2)
        _compare(ours, theirs, start, HALF, 0.8)


@pytest.mark.gpu
@needs_cuda
def test_a_replayed_step_is_the_step_itself(photos: PosedPhotos):
    settings = replace(OPEN, pose_rate=1e-3)
    replayed, launched = (GpuFieldTrainer(photos, settings, torch.device("cuda")) for _ in range(2))
    replayed.rehearse()
    assert apart(replayed.field.table, launched.field.table) == 0
    for index in range(2):  # before it would be recorded
        found, expected = replayed.step(index, 0.1), launched.step(index, 0.1)
        assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-3)
    assert apart(replayed.field.table, launched.field.table) < 1e-2


@pytest.mark.gpu
@needs_cuda
def test_no_step_waits_for_the_gpu(photos: PosedPhotos):
    trainer = GpuFieldTrainer(photos, replace(OPEN, pose_rate=1e-3), torch.device("cuda"))
    trainer.step(0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(1, 0.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_run_goes_on_on_the_cpu_and_back(photos: PosedPhotos, tmp_path):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    train_field_on(torch.device("cuda"), photos, replace(OPEN, steps=80), run)
    losses = [line["loss"] for line in run.metrics()]
    assert losses[-1] < losses[0]
    saved = load_newest(run.checkpoints)
    assert saved is not None
    there, here = FieldTrainer(photos, OPEN), GpuFieldTrainer(photos, OPEN, torch.device("cuda"))
    there.load_state(saved.state)
    here.load_state(there.state())
    assert equal_states(here.state(), there.state())
    assert float(here.step(80, 0.9)["loss"]) < 2 * losses[-1]
