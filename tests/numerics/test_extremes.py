"""Rates and sizes at the ends of what floats can hold: no step does harm in silence, and no traceback comes."""

import numpy as np
import pytest
import torch
from made import SCENE, arm, finetuning, photos, pretraining, reconstruction, reconstruction_on_device
from torch.nn import functional as F

from nndl_suite.comparison.recipe import Rates, Recipe
from nndl_suite.errors import DataError, TrainingError
from nndl_suite.nerf.gpu.adam import adam_paced
from nndl_suite.nerf.gpu.plain import starts
from nndl_suite.nerf.kernels.adam import adam_touched
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.probe import LinearProbe
from nndl_suite.training.checkpoints import load_newest
from nndl_suite.training.finite import broken_tensors
from nndl_suite.training.loop import LoopSettings, run_loop
from nndl_suite.training.runs import RunFolder

TINY, HUGE = 1e-30, 1e10


def field_rates(rate):
    return {"rate_table": rate, "rate_nets": rate, "rate_exposure": rate, "pose_rate": min(rate, 0.9)}


def trainings(rate):
    for method in METHODS:
        yield method, lambda method=method: pretraining(method, learning_rate=rate)
    for optimiser in ("adamw", "sgd", "muon", "adam"):
        recipe = Recipe(batch_size=8, optimiser=optimiser, rates=Rates(rate=rate, decay=0.01), warmup=0.0)
        yield f"arm by {optimiser}", lambda recipe=recipe: arm(recipe)
    yield "finetuning", lambda: finetuning(rate)
    yield "field", lambda: reconstruction(**field_rates(rate))
    yield "field on a device", lambda: reconstruction_on_device(**field_rates(rate))


def floats(state):
    if isinstance(state, torch.Tensor):
        return [state.detach().double().clone().flatten()] if state.is_floating_point() else []
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in values for tensor in floats(value)]


def weights(state):
    return torch.cat(floats({name: state[name] for name in ("method", "network", "field") if name in state}))


@pytest.mark.parametrize(("name", "make"), [pytest.param(*each, id=each[0]) for each in trainings(TINY)])
def test_a_rate_of_almost_nothing_learns_almost_nothing(name, make):
    training = make()
    figures = [training.step(index, 0.1) for index in range(2)]
    assert all(np.isfinite(float(value)) for each in figures for value in each.values())
    assert not broken_tensors(training.state())
    if name.startswith("field"):
        fresh = make()
        for key in ("table", "weights"):
            assert torch.equal(training.state()["field"][key], fresh.state()["field"][key])


def _what_is_said(training, run):
    try:
        run_loop(training, LoopSettings(stage="learning", total_steps=4, checkpoint_seconds=0), run)
    except TrainingError as error:
        return str(error)


@pytest.mark.parametrize(("name", "make"), [pytest.param(*each, id=each[0]) for each in trainings(HUGE)])
def test_a_rate_beyond_all_reason_ends_in_numbers_or_in_one_sentence(name, make, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    run = RunFolder(tmp_path)
    told = _what_is_said(make(), run)
    assert told is None or ("at step" in told and "lower the learning rate" in told and "\n" not in told)
    kept = load_newest(run.checkpoints)
    assert kept is None or not broken_tensors(kept.state)


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30, 1e-22, 1e-19, 1e-10, 1.0, 1e10, 1e18])
def test_adam_is_float64s_where_squares_have_no_digits_left(size):
    """A gradient whose square is a denormal, or nothing, moves by no more than the rate, and in its own direction."""
    gradient = np.array([1.0, -2.0, 0.0, 0.5] * 8, np.float64) * size
    values = np.ones(32)
    found = [values.astype(np.float32), gradient.astype(np.float32), *np.zeros((2, 32), np.float32)]
    adam_touched(*found, np.float32(0.1), np.float32(0), 0)
    placed = [torch.ones(32), torch.tensor(gradient, dtype=torch.float32), torch.zeros(32), torch.zeros(32)]
    adam_paced(*placed, torch.tensor([1.0, *starts(0)]), rate=0.1, decay=0.0)
    exact = gradient.astype(np.float32).astype(np.float64)
    way = 0.1 * exact / (np.abs(exact) + 1e-15)
    for moved in (1 - found[0], 1 - placed[0].numpy()):
        assert np.isfinite(moved).all()
        assert (np.sign(moved) * np.sign(exact) >= 0).all()
        assert (np.abs(moved) <= 0.1001).all()
        if size > 1e-18:  # below, the square has lost its digits, and the step is shorter or longer but bounded
            np.testing.assert_allclose(moved, way, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["simclr", "vicreg", "barlow", "byol", "dino", "swav"])
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e12])
def test_embeddings_of_any_size_have_a_loss_and_gradients(method, scale):
    """Weights of the backbone at the ends: what comes out of it is denormal, or its square overflows."""
    learning = pretraining(method)
    learner = learning._method
    with torch.no_grad():
        for weight in learner.backbone.parameters():
            if weight.ndim == 1:  # the last norms decide how large features are
                weight.mul_(scale)
    figures = learning.step(0, 0.5)
    assert np.isfinite(float(figures["loss"]))
    assert not broken_tensors(learning.state())


def blobs(scale):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    features = torch.randn(120, 8, generator=generator) + 3 * F.one_hot(labels, 8)
    return features.double() * scale, labels


@pytest.mark.parametrize("protocol", ["linear", "knn"])
@pytest.mark.parametrize("scale", [1e-14, 1e-6, 1.0, 1e6, 1e14])
def test_the_size_of_features_means_nothing_to_a_probe(protocol, scale):
    features, labels = blobs(1.0)
    expected = LinearProbe(protocol=protocol, device="cpu").fit(features.float(), labels)
    found = LinearProbe(protocol=protocol, device="cpu").fit((features * scale).float(), labels)
    assert np.mean(found.predict((features * scale).float()) == expected.predict(features.float())) >= 0.99


@pytest.mark.parametrize("protocol", ["linear", "knn"])
@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e20, 1e37])
def test_features_whose_squares_are_no_floats_are_refused(protocol, scale):
    features, labels = blobs(scale)
    with pytest.raises(DataError, match=r"features must .* float32 can square.*; scale them"):
        LinearProbe(protocol=protocol, device="cpu").fit(features.float(), labels)
    assert LinearProbe(protocol=protocol, device="cpu").fit(features, labels).score(features, labels) > 0.9


@pytest.mark.parametrize("protocol", ["linear", "knn"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_refused(protocol, wrong):
    features, labels = blobs(1.0)
    features[7, 3] = wrong
    probe = LinearProbe(protocol=protocol, device="cpu")
    with pytest.raises(DataError, match="features must be finite, got NaN or infinity in 1 of 120 rows"):
        probe.fit(features, labels)
    probe.fit(blobs(1.0)[0], labels)
    with pytest.raises(DataError, match="features must be finite"):
        probe.predict(features)


def test_a_place_that_is_no_number_does_not_lead_out_of_the_table():
    """A camera that broke, or a page of the viewer, may ask for it; the answer may be anything but a crash."""
    field = reconstruction().field
    points = np.full((5, 3), np.nan, np.float32)
    points[1], points[2], points[3] = np.inf, -np.inf, 1e38
    with np.errstate(over="ignore", invalid="ignore"):
        density, rgb = field.query(points, np.tile(np.array([[0, 0, 1]], np.float32), (5, 1)))
    assert density.shape == (5,)
    assert rgb.shape == (5, 3)


def test_a_black_photo_and_a_white_one_are_learned():
    """Errors of nothing, and colours at the ends of the sigmoid."""
    for shade in (0, 255):
        flat = photos()
        flat.pixels[:] = shade
        trainer = type(reconstruction())(flat, SCENE)
        for index in range(30):
            figures = trainer.step(index, index / 30)
        assert np.isfinite(list(figures.values())).all()
        assert not broken_tensors(trainer.state())
