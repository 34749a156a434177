"""The classifier against scipy's optimum of the same objective, in float64, and against what holds at any minimum."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.nn import functional as F

from nndl_suite.representation import softmax_descent
from nndl_suite.representation.logistic import LinearClassifier, fit_path


def _problem(n=90, d=4, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64) * torch.tensor([1.0, 10, 0.1, 3]).repeat(d // 4) + 5
    noise = torch.randn(n, k, generator=g)
    y = ((x - 5) @ torch.randn(d, k, generator=g, dtype=torch.float64) + noise).argmax(1)
    return x, y


def _scipys(x: np.ndarray, y: np.ndarray, k: int, penalty: float) -> SimpleNamespace:
    x = (x - x.mean(0)) / x.std(0)
    n, d = x.shape

    def objective(theta):
        weight, bias = theta[: k * d].reshape(k, d), theta[k * d :]
        logits = x @ weight.T + bias
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        error = np.exp(log_p)
        error[np.arange(n), y] -= 1
        gradient = np.concatenate([(error.T @ x / n + penalty * weight).ravel(), error.mean(0)])
        return -log_p[np.arange(n), y].mean() + penalty / 2 * (weight**2).sum(), gradient

    found = minimize(objective, np.zeros(k * (d + 1)), jac=True, method="BFGS", options={"gtol": 1e-9})
    bias = found.x[k * d :]
    return SimpleNamespace(weight=found.x[: k * d].reshape(k, d), bias=bias - bias.mean(), objective=found.fun)


def _objective_and_gradient(classifier: LinearClassifier, x, y, penalty):
    """By autograd, in float64, of the features as they come."""
    weight = classifier.weight.double().requires_grad_()
    bias = classifier.bias.double().requires_grad_()
    logits = (x.double() - classifier.mean.double()) / classifier.std.double() @ weight.T + bias
    objective = F.cross_entropy(logits, y) + penalty / 2 * weight.square().sum()
    return objective.item(), torch.autograd.grad(objective, [weight, bias])


@pytest.mark.parametrize("penalties", [[0.1], [0.01], [0.5, 0.1, 0.01], [1e-4]])
def test_it_finds_scipys_optimum_also_from_a_warm_start(penalties):
    x, y = _problem()
    *_, found = fit_path(x, y, num_classes=3, penalties=penalties, tolerance=1e-14)
    expected = _scipys(x.numpy(), y.numpy(), 3, penalties[-1])
    np.testing.assert_allclose(found.classifier.weight.numpy(), expected.weight, atol=2e-5)
    np.testing.assert_allclose(found.classifier.bias.numpy(), expected.bias, atol=2e-5)
    assert found.minimum.objective == pytest.approx(expected.objective, abs=1e-10)
    assert found.classifier.weight.dtype == torch.float64


@given(
    n=st.integers(20, 120),
    d=st.sampled_from([4, 8, 40]),
    k=st.integers(2, 6),
    penalty=st.sampled_from([1.0, 1e-2, 1e-4]),
    seed=st.integers(0, 99),
)
def test_at_the_minimum_no_gradient_is_left(n, d, k, penalty, seed):
    x, y = _problem(n, d, k, seed)
    (found,) = fit_path(x, y, num_classes=k, penalties=[penalty], tolerance=1e-13, max_iterations=2000)
    _, gradients = _objective_and_gradient(found.classifier, x, y, penalty)
    # the objective is `penalty`-strongly convex in the weights: this bounds how far above the minimum it can be
    assert sum(g.square().sum().item() for g in gradients) / (2 * penalty) < 1e-8


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_float32_reaches_the_same_minimum_as_float64(penalty):
    x, y = _problem(n=3000, d=32, k=10)
    (exact,) = fit_path(x, y, num_classes=10, penalties=[penalty], tolerance=1e-13, max_iterations=2000)
    (found,) = fit_path(x.float(), y, num_classes=10, penalties=[penalty])
    reached, _ = _objective_and_gradient(found.classifier, x, y, penalty)
    assert found.classifier.weight.dtype == torch.float32
    assert 0 <= reached - exact.minimum.objective + 1e-9 < 2e-6


def test_the_start_decides_the_time_only():
    x, y = _problem(n=400, d=8, k=5)
    (cold,) = fit_path(x, y, num_classes=5, penalties=[0.01], tolerance=1e-13)
    g = torch.Generator().manual_seed(1)
    elsewhere = LinearClassifier(
        mean=torch.randn(8, generator=g, dtype=torch.float64),
        std=1 + torch.rand(8, generator=g, dtype=torch.float64),
        weight=3 * torch.randn(5, 8, generator=g, dtype=torch.float64),
        bias=torch.randn(5, generator=g, dtype=torch.float64),
    )
    (other,) = fit_path(x, y, num_classes=5, penalties=[0.01], start=elsewhere, tolerance=1e-13)
    torch.testing.assert_close(other.classifier.weight, cold.classifier.weight, atol=1e-5, rtol=0)
    (again,) = fit_path(x, y, num_classes=5, penalties=[0.01], start=cold.classifier, tolerance=1e-13)
    assert again.minimum.iterations <= 2 < cold.minimum.iterations


def test_the_same_classifier_comes_back_from_another_standardisation():
    x, y = _problem(n=400, d=8, k=5)
    (found,) = fit_path(x[:200], y[:200], num_classes=5, penalties=[0.01])
    (same,) = fit_path(x, y, num_classes=5, penalties=[0.01], start=found.classifier, max_iterations=0)
    centred = [c.logits(x) - c.logits(x).mean(dim=1, keepdim=True) for c in (found.classifier, same.classifier)]
    torch.testing.assert_close(*centred)
    assert not torch.equal(found.classifier.mean, same.classifier.mean)


def test_conditioning_costs_few_steps():
    g = torch.Generator().manual_seed(0)
    mix = torch.linalg.qr(torch.randn(64, 64, generator=g, dtype=torch.float64))[0]
    steps = []
    for power in (0.0, 2.0):  # eigenvalues all alike, or over 7 decades
        spectrum = torch.arange(1, 65, dtype=torch.float64) ** -power
        x = (torch.randn(2000, 64, generator=g, dtype=torch.float64) * spectrum) @ mix
        y = ((x @ mix.T / spectrum) @ torch.randn(64, 10, generator=g, dtype=torch.float64)).argmax(dim=1)
        (found,) = fit_path(x, y, num_classes=10, penalties=[1e-3])
        steps.append(found.minimum.iterations)
    assert steps[1] <= 3 * steps[0] + 10


def test_remembered_steps_serve_the_next_penalty():
    x, y = _problem(n=2000, d=32, k=10)
    path = list(fit_path(x, y, num_classes=10, penalties=[0.01, 0.003, 0.001], tolerance=1e-9))
    (alone,) = fit_path(x, y, num_classes=10, penalties=[0.001], tolerance=1e-9)
    assert path[-1].minimum.iterations < alone.minimum.iterations
    assert path[-1].minimum.objective == pytest.approx(alone.minimum.objective, abs=1e-7)


def test_rows_worked_on_at_a_time_decide_nothing(monkeypatch):
    x, y = _problem(n=400, d=8, k=5)
    (whole,) = fit_path(x, y, num_classes=5, penalties=[0.01], tolerance=1e-12)
    monkeypatch.setattr(softmax_descent, "_ROWS", 37)
    (parts,) = fit_path(x, y, num_classes=5, penalties=[0.01], tolerance=1e-12)
    torch.testing.assert_close(parts.classifier.weight, whole.classifier.weight, atol=1e-5, rtol=0)


def test_scale_and_offset_of_a_feature_are_nothing():
    x, y = _problem()
    (one,) = fit_path(x, y, num_classes=3, penalties=[0.01], tolerance=1e-12)
    (other,) = fit_path(x * 100 - 7, y, num_classes=3, penalties=[0.01], tolerance=1e-12)
    torch.testing.assert_close(one.classifier.logits(x), other.classifier.logits(x * 100 - 7), atol=1e-4, rtol=1e-4)


def test_dead_features_and_empty_classes_do_no_harm():
    x, y = _problem()
    with_dead = torch.cat([x, torch.full((len(x), 1), 3.0)], dim=1)
    (one,) = fit_path(x, y, num_classes=3, penalties=[0.01], tolerance=1e-12)
    (other,) = fit_path(with_dead, y, num_classes=3, penalties=[0.01], tolerance=1e-12)
    torch.testing.assert_close(one.classifier.logits(x), other.classifier.logits(with_dead), atol=1e-4, rtol=1e-4)
    assert one.classifier.accuracy(x, y) == other.classifier.accuracy(with_dead, y)
    (fourth,) = fit_path(x, y, num_classes=4, penalties=[0.01])  # nobody is in class 3
    assert fourth.classifier.accuracy(x, y) == one.classifier.accuracy(x, y)


def test_more_features_than_rows():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 100, generator=g), torch.arange(30) % 3
    (found,) = fit_path(x, y, num_classes=3, penalties=[1e-4])
    assert found.classifier.accuracy(x, y) == 1
    assert found.minimum.excess <= 1e-7


def test_a_stronger_penalty_gives_smaller_weights():
    x, y = _problem()
    path = list(fit_path(x, y, num_classes=3, penalties=[1.0, 0.1, 0.01, 0.001]))
    norms = [solution.classifier.weight.norm().item() for solution in path]
    assert norms == sorted(norms)
    objectives = [solution.minimum.objective for solution in path]
    assert objectives == sorted(objectives, reverse=True)


def test_arguments_are_not_written_to():
    x, y = _problem()
    kept = x.clone()
    (start,) = fit_path(x, y, num_classes=3, penalties=[1.0])
    weight = start.classifier.weight.clone()
    list(fit_path(x, y, num_classes=3, penalties=[0.01], start=start.classifier))
    assert torch.equal(x, kept)
    assert torch.equal(start.classifier.weight, weight)
