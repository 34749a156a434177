"""What all methods have in common: gradients where they belong, teachers that follow, queues that keep."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nndl_suite.models.backbones import build_backbone
from nndl_suite.representation.methods import METHODS
from nndl_suite.representation.methods.method import SSLMethod
from nndl_suite.representation.methods.queue import EmbeddingQueue
from nndl_suite.representation.methods.teacher import follow, rising_momentum, teacher_of
from nndl_suite.representation.optimisers import make_optimiser


def _built(name: str) -> SSLMethod:
    torch.manual_seed(0)
    recipe = METHODS[name].recipe
    return METHODS[name].build(build_backbone("resnet18-slim", image_size=16), replace(recipe, projector_dim=32), 5)


def _batch(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    torch.manual_seed(1)
    views = torch.randn(len(METHODS[name].recipe.views), 6, 3, 16, 16)
    return views, torch.tensor([0, 1, 2, 3, 4, 0]) if METHODS[name].labels else None


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_all_that_is_learned_and_nothing_else(name):
    method, (views, labels) = _built(name), _batch(name)
    method(views, labels, 0.5).backward()
    learned = {key: weight for key, weight in method.named_parameters() if weight.requires_grad}
    assert learned
    for key, weight in method.named_parameters():
        if "teacher" in key:
            assert weight.grad is None
            assert not weight.requires_grad
        elif weight.ndim > 1:
            assert weight.grad is not None
            assert weight.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_a_float32_scalar_under_autocast(name):
    method, (views, labels) = _built(name), _batch(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(views, labels, 0.5)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["mocov2", "mocov3", "byol", "dino"])
def test_a_teacher_follows_by_its_momentum(name):
    method, (views, labels) = _built(name), _batch(name)
    teachers = [weight for key, weight in method.named_parameters() if "teacher" in key]
    before = [weight.clone() for weight in teachers]
    optimiser = make_optimiser(method, METHODS[name].recipe, rate=0.1, momentum=0.9)
    method(views, labels, 0.5).backward()
    optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, teachers, strict=True))
    method.after_step(0.5)
    assert any(not torch.equal(a, b) for a, b in zip(before, teachers, strict=True))
    now = [weight.clone() for weight in teachers]
    if name != "mocov2":
        method.after_step(1.0)  # a momentum of 1 stands still
        assert all(torch.equal(a, b) for a, b in zip(now, teachers, strict=True))


def test_following_is_the_moving_average():
    student = torch.nn.Linear(3, 2)
    teacher = teacher_of(student)
    with torch.no_grad():
        student.weight.add_(1.0)
    expected = 0.9 * teacher.weight.double() + 0.1 * student.weight.double()
    follow(teacher, student, 0.9)
    torch.testing.assert_close(teacher.weight.double(), expected, atol=1e-6, rtol=1e-6)
    assert rising_momentum(0.0, 0.99) == pytest.approx(0.99)
    assert rising_momentum(0.5, 0.99) == pytest.approx(0.995)
    assert rising_momentum(1.0, 0.99) == 1


@pytest.mark.parametrize("sizes", [[2, 2, 2, 2], [3, 4], [5, 1], [9]])
def test_a_queue_keeps_the_newest(sizes):
    queue, pushed = EmbeddingQueue(5, 2), []
    for batch, size in enumerate(sizes):
        rows = torch.tensor([[batch, place] for place in range(size)], dtype=torch.float32)
        queue.push(rows)
        pushed += rows.tolist()
    assert sorted(queue.rows.tolist()) == sorted(pushed[-5:])
    fresh = EmbeddingQueue(5, 2)
    fresh.load_state_dict(queue.state_dict())
    assert torch.equal(fresh.rows, queue.rows)
    torch.testing.assert_close(EmbeddingQueue(50, 8).rows.norm(dim=1), torch.ones(50))


def test_validation_leaves_a_queue_alone():
    method, (views, _) = _built("mocov2"), _batch("mocov2")
    before = method.queue.rows.clone()
    with torch.no_grad():
        method(views, None, 0.0)
    assert torch.equal(before, method.queue.rows)
    method(views, None, 0.0)
    assert not torch.equal(before, method.queue.rows)


def test_lars_is_you_et_als_formula():
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    recipe = replace(METHODS["byol"].recipe, weight_decay=0.1)
    optimiser = make_optimiser(layer, recipe, rate=0.5, momentum=0.0)
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    F.mse_loss(layer(torch.randn(8, 4)), torch.randn(8, 3)).backward()
    slope, slope_bias = layer.weight.grad.double(), layer.bias.grad.double()
    optimiser.step()
    decayed = slope + 0.1 * weight
    trust = min(0.02 * weight.norm() / (slope.norm() + 0.1 * weight.norm()) / 0.5, torch.tensor(1.0))
    torch.testing.assert_close(layer.weight.double(), weight - 0.5 * trust * decayed, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(layer.bias.double(), bias - 0.5 * slope_bias, atol=1e-6, rtol=1e-5)
