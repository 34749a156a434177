"""The built-in images: the same at every call, balanced, and not to be told apart pixel by pixel."""

import math

import pytest
import torch

from nndl_suite.data.demo_images import _SHAPES, demo_images


@pytest.fixture(scope="module")
def train():
    return demo_images("train")


@pytest.fixture(scope="module")
def test():
    return demo_images("test")


def test_shapes_types_and_balance(train, test):
    for (images, labels, names), count in ((train, 4000), (test, 1000)):
        assert images.dtype == torch.uint8
        assert images.shape == (count, 3, 32, 32)
        assert labels.bincount().tolist() == [count // 10] * 10
        assert len(set(names)) == 10


def test_the_seed_is_the_packages_own(test):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = demo_images("test")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again[0], test[0])


def test_splits_share_no_image(train, test):
    rows = {image.numpy().tobytes() for image in train[0]}
    assert len(rows) == 4000
    assert not rows & {image.numpy().tobytes() for image in test[0]}


def test_a_linear_classifier_of_raw_pixels_is_poor(train, test):
    """Ridge regression on one-hot labels, the best of several penalties even on test."""
    x, xt = (images.flatten(1).float() / 255 for images, *_ in (train, test))
    mean = x.mean(0)
    x, xt = x - mean, xt - mean
    targets = torch.nn.functional.one_hot(train[1], 10).float() - 0.1
    gram, moment = x.T @ x, x.T @ targets
    best = 0.0
    for penalty in (1e2, 1e3, 1e4):
        weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), moment)
        best = max(best, ((xt @ weights).argmax(1) == test[1]).float().mean().item())
    assert best < 0.25


def test_shapes_differ_in_the_area_they_cover():
    """A disc of radius 1 has area pi: the outlines are true to size."""
    at = torch.linspace(-1.5, 1.5, 601)
    v, u = torch.meshgrid(at, at, indexing="ij")
    area = {name: (outside(u, v) < 0).float().mean().item() * 9 for name, outside in _SHAPES.items()}
    assert area["disc"] == pytest.approx(math.pi, rel=0.02)
    assert area["ring"] == pytest.approx(math.pi * (1 - 0.25), rel=0.02)
    assert area["square"] == pytest.approx(1.7**2, rel=0.02)
    assert area["bar"] == pytest.approx(2.2 * 0.7, rel=0.02)
    assert area["bow tie"] == pytest.approx(1.6, rel=0.02)
    assert area["star"] == pytest.approx(10 * 0.5 * 0.5 * 1.2 * math.sin(math.pi / 5), rel=0.02)
