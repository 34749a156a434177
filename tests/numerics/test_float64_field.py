"""One step of the radiance field's trainers beside the reference kernels in float64.

Where samples fall is taken from the trainer, which draws them from its density grid and takes no gradient of it.
All else is computed again: rays, points, encoding, nets, compositing, losses, gradients, Adam, exposures, cameras, and
the grid.
"""

import numpy as np
import pytest
import torch
from made import reconstruction, reconstruction_on_device

from nndl_suite.nerf.drawing import draw_pixels
from nndl_suite.nerf.kernels import reference
from nndl_suite.nerf.kernels.marching import GRID
from nndl_suite.nerf.refinement import WARMUP_STEPS, common_drifts
from nndl_suite.nerf.sampling import photo_of, pixel_rays, place_samples
from nndl_suite.nerf.trainer import FALL, RISE, rate_factor
from nndl_suite.training.seeds import generator_for

STEP = WARMUP_STEPS
"""Of which cameras begin to move."""
LOSS = 1e-5
GRADIENT = {"table": 1e-2, "weights": 1e-4, "log_gain": 1e-4, "poses": 3e-2}
"""Of the gradient's norm. Rounding puts a unit of the nets to rest, or a sample beyond the wall of a fine cell, where
the slope is another: the rows about it, and its camera, see that."""
MOVED = 1e-5
BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-15


def double(tensor):
    return torch.as_tensor(np.asarray(tensor, np.float64)).requires_grad_()


def shadow_of(trainer, drawn, edges):
    """Loss, distortion and the gradients of the sum over rays, in float64."""
    settings, photos, field = trainer.settings, trainer_photos(trainer), trainer_field(trainer)
    photo = photo_of(photos, drawn)
    samples = settings.samples
    table, weights = double(field["table"]), double(field["weights"])
    log_gain, moves = double(np.zeros((len(photos.names), 3))), double(np.zeros((len(drawn), 6)))
    places = photos.direction_starts[photos.camera_of[photo]] + drawn - photos.starts[photo]
    poses = photos.field_from_camera[photo].astype(np.float64)
    directions = np.einsum("rij,rj->ri", poses[:, :, :3], photos.directions[places].astype(np.float64))
    directions, edges = torch.from_numpy(directions), torch.from_numpy(edges.astype(np.float64))
    cube = reference.points_of_moved_rays(moves, torch.from_numpy(poses[:, :, 3]), directions, edges, np.inf)
    layout = settings.field.layout
    encoding = reference.encode(cube, table, layout.cells, layout.starts)
    density, rgb = reference.shade(weights, encoding, directions.repeat_interleave(samples, dim=0))
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    slow = (middles / settings.close).clamp(max=1).square().reshape(-1)
    density = slow * density + (1 - slow) * density.detach()  # the same numbers, and less of their gradients
    rgb = slow[:, None] * rgb + (1 - slow[:, None]) * rgb.detach()
    density, rgb = density.view(-1, samples), rgb.view(-1, samples, 3)
    light, _ = reference.ray_weights(density, edges)
    seen = reference.render(density, rgb, edges, None) * log_gain.exp()[photo]
    error = (seen - torch.from_numpy(photos.pixels[drawn] / 255)).square().mean(dim=1)
    spread = reference.distortion(light, reference.place_of(edges, settings.field.knee))
    fog = (light * (1 - middles / settings.close).clamp(min=0)).sum(dim=1)
    (error + settings.spread * spread + settings.fog * fog).sum().backward()
    by_camera = np.stack([np.bincount(photo, column, len(photos.names)) for column in moves.grad.numpy().T], axis=1)
    gradients = {"table": table.grad, "weights": weights.grad, "log_gain": log_gain.grad, "poses": by_camera}
    return (
        error.detach().mean().item(),
        spread.detach().mean().item(),
        gradients,
        cube.detach().numpy(),
        density.detach().numpy().ravel(),
    )


def trainer_photos(trainer):
    return trainer.photos if hasattr(trainer, "photos") else reconstruction().photos


def trainer_field(trainer):
    return {name: value.numpy().copy() for name, value in trainer.state()["field"].items() if name != "settings"}


def of_state(state, moments):
    values = {"table": state["field"]["table"], "weights": state["field"]["weights"], "log_gain": state["log_gain"]}
    firsts = {name: (state["moments"][name][0], state["moments"][name][1]) for name in values}
    values["poses"], firsts["poses"] = state["poses"]["moves"], (state["poses"]["first"], state["poses"]["second"])
    chosen = firsts if moments else {name: (value,) for name, value in values.items()}
    return {name: tuple(one.numpy().astype(np.float64) for one in some) for name, some in chosen.items()}


def apart(ours, theirs):
    return np.linalg.norm(np.asarray(ours) - np.asarray(theirs)) / np.linalg.norm(np.asarray(theirs))


@pytest.mark.parametrize("make", [reconstruction, reconstruction_on_device])
def test_a_step(make):
    trainer = make(pose_rate=1e-3)
    settings, photos, grid = trainer.settings, trainer_photos(trainer), trainer_field(trainer)["grid"]
    generator = generator_for(settings.seed, "rays", STEP)
    drawn = draw_pixels(trainer._pools if make is reconstruction else reconstruction()._pools, settings.rays, generator)
    jitter = torch.rand(settings.rays, settings.samples + 1, generator=generator).numpy()
    rays, _ = pixel_rays(photos, drawn)
    placed = place_samples(rays, jitter, grid=grid, reach=settings.field.reach, uniform=settings.uniform)
    before = of_state(trainer.state(), moments=False)
    loss, spread, gradients, cube, density = shadow_of(trainer, drawn, placed.edges)

    figures = trainer.step(STEP, 0.25)

    assert float(figures["loss"]) == pytest.approx(loss, rel=LOSS)
    assert float(figures["distortion"]) == pytest.approx(spread, rel=LOSS)
    moments, after = of_state(trainer.state(), moments=True), of_state(trainer.state(), moments=False)
    factor = rate_factor(STEP, 0.25, settings.last_rate)
    rates = {"table": settings.rate_table, "weights": settings.rate_nets, "poses": settings.pose_rate}
    rates["log_gain"] = settings.rate_exposure
    for name, gradient in gradients.items():
        first, second = moments[name]
        found = first / (1 - BETA1)
        assert apart(found, gradient) < GRADIENT[name], name
        np.testing.assert_allclose(second, (1 - BETA2) * found**2, rtol=1e-5, err_msg=name)
        mean, square = first / (1 - BETA1 ** (STEP + 1)), second / (1 - BETA2 ** (STEP + 1))
        way = -factor * rates[name] * mean / (np.sqrt(square) + EPSILON)
        if name == "log_gain":
            way -= way.mean(axis=0)
        if name == "poses":
            drifts = common_drifts(photos.field_from_camera[:, :, 3].astype(np.float64))
            way = (way.ravel() - drifts @ (drifts.T @ way.ravel())).reshape(way.shape)
        # what float32 can hold of a small change of a large value is not the step's to answer for
        coarse = np.linalg.norm(np.spacing(np.abs(before[name][0]).astype(np.float32)))
        difference = np.linalg.norm(after[name][0] - before[name][0] - way)
        assert difference < MOVED * np.linalg.norm(way) + coarse, name
    expected = splat_one_by_one if make is reconstruction else splat_at_once
    np.testing.assert_allclose(trainer_field(trainer)["grid"], expected(cube, density, grid), rtol=2e-3, atol=1e-6)


def cells_of(cube):
    i, j, k = np.minimum((cube.T * GRID).astype(int), GRID - 1)
    return (k * GRID + j) * GRID + i


def splat_one_by_one(cube, density, grid):
    grid = grid.astype(np.float64)
    for cell, value in zip(cells_of(cube), density, strict=True):
        gap = value - grid[cell]
        grid[cell] += (RISE if gap > 0 else FALL) * gap
    return grid


def splat_at_once(cube, density, grid):
    """A cell moves by the sum of its samples' moves, but not past their weighted mean."""
    cells = cells_of(cube)
    gap = density - grid.astype(np.float64)[cells]
    part = np.where(gap > 0, RISE, FALL)
    parts, moves = (np.bincount(cells, each, len(grid)) for each in (part, part * gap))
    return grid + moves / np.maximum(parts, 1)
