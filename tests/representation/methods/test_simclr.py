"""NT-Xent against its printed formula, and the laws that it obeys."""

import math

import pytest
import torch
from bare_methods import bare
from hypothesis import given
from hypothesis import strategies as st
from lightly.loss import NTXentLoss

from nndl_suite.representation.methods.method import SSLMethod
from nndl_suite.representation.methods.simclr import nt_xent


def _loss_by_formula(z: torch.Tensor, temperature: float) -> float:
    """Eq. 1 of arXiv 2002.05709 in float64 loops; rows 2k-1 and 2k of the paper are rows k and k + b here."""
    n = len(z)
    vectors = z.double().tolist()

    def similarity(i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))
        return dot / math.hypot(*vectors[i]) / math.hypot(*vectors[j])

    total = 0.0
    for i in range(n):
        partner = (i + n // 2) % n
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(n) if k != i)
        total -= math.log(math.exp(similarity(i, partner) / temperature) / others)
    return total / n


def _bare(temperature: float) -> SSLMethod:
    return bare("simclr", temperature=temperature)


@given(st.integers(2, 7), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 2**31))
def test_the_loss_is_the_papers_formula(b, temperature, seed):
    views = torch.randn(2, b, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    expected = _loss_by_formula(views.flatten(0, 1).flatten(1), temperature)
    assert _bare(temperature)(views).item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("b", [2, 33])
def test_equal_rows_are_at_chance(b):
    assert _bare(0.5)(torch.ones(2, b, 3, 2, 2)).item() == pytest.approx(math.log(2 * b - 1), rel=1e-5)


def test_views_swap_and_scale_is_nothing():
    method, views = _bare(0.5), torch.randn(2, 5, 3, 2, 2)
    torch.testing.assert_close(method(views), method(views.flip(0)))
    torch.testing.assert_close(method(views), method(views * 7))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_gradients_are_those_of_lightly(temperature):
    views = torch.randn(2, 9, 16, dtype=torch.float64)
    ours, theirs = views.clone().requires_grad_(), views.clone().requires_grad_()
    nt_xent(*ours, temperature).backward()
    NTXentLoss(temperature)(*theirs).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_similarities_are_float32_under_autocast():
    views = torch.randn(2, 16, 3, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(_bare(0.1)(views), _bare(0.1)(views).float(), rtol=0, atol=0)
        inside = _bare(0.1)(views)
    assert inside.item() == pytest.approx(_loss_by_formula(views.flatten(0, 1).flatten(1), 0.1), rel=1e-5)
