"""The classifier against scipy's optimum of the same objective, in float64."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nndl_suite.representation.logistic import fit_path


def _problem(n=90, d=4, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64) * torch.tensor([1.0, 10, 0.1, 3]) + 5
    y = ((x - 5) @ torch.randn(d, k, generator=g, dtype=torch.float64) + torch.randn(n, k, generator=g)).argmax(1)
    return x, y


def _scipys(x: np.ndarray, y: np.ndarray, k: int, penalty: float) -> np.ndarray:
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
    return found.x[: k * d].reshape(k, d)


@pytest.mark.parametrize("penalties", [[0.1], [0.01], [0.5, 0.1, 0.01]])
def test_it_finds_scipys_optimum_also_from_a_warm_start(penalties):
    x, y = _problem()
    *_, found = fit_path(x, y, num_classes=3, penalties=penalties)
    expected = _scipys(x.numpy(), y.numpy(), 3, penalties[-1])
    np.testing.assert_allclose(found.weight.numpy(), expected, atol=2e-4)
    assert found.weight.dtype == torch.float64


def test_scale_and_offset_of_a_feature_are_nothing():
    x, y = _problem()
    (one,) = fit_path(x, y, num_classes=3, penalties=[0.01])
    (other,) = fit_path(x * 100 - 7, y, num_classes=3, penalties=[0.01])
    torch.testing.assert_close(one.logits(x), other.logits(x * 100 - 7), atol=1e-4, rtol=1e-4)


def test_a_dead_feature_does_no_harm():
    x, y = _problem()
    with_dead = torch.cat([x, torch.full((len(x), 1), 3.0)], dim=1)
    (one,) = fit_path(x, y, num_classes=3, penalties=[0.01])
    (other,) = fit_path(with_dead, y, num_classes=3, penalties=[0.01])
    torch.testing.assert_close(one.logits(x), other.logits(with_dead), atol=1e-4, rtol=1e-4)
    assert one.accuracy(x, y) == other.accuracy(with_dead, y)


def test_a_stronger_penalty_gives_smaller_weights():
    x, y = _problem()
    norms = [c.weight.norm().item() for c in fit_path(x, y, num_classes=3, penalties=[1.0, 0.1, 0.01, 0.001])]
    assert norms == sorted(norms)
