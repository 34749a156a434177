import math

import pytest
import torch

from nndl_suite.training.schedules import rate_factor, warmup_cosine


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_it_is_torchs_linear_then_cosine(warmup):
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    total, warm = 100, round(100 * warmup)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total - warm)
    expected = [k / warm for k in range(warm)]
    for _ in range(total - warm):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    assert [warmup_cosine(k / total, warmup) for k in range(total)] == pytest.approx(expected, abs=1e-12)


def test_it_ends_at_nothing():
    assert math.isclose(warmup_cosine(1.0, 0.1), 0, abs_tol=1e-15)


def test_the_three_by_name():
    shares = [0.0, 0.05, 0.1, 0.4, 0.7, 1.0]
    assert [rate_factor("cosine", f, 0.1) for f in shares] == [warmup_cosine(f, 0.1) for f in shares]
    assert [rate_factor("constant", f, 0.1) for f in shares] == [0, 0.5, 1, 1, 1, 1]
    assert [rate_factor("linear", f, 0.1) for f in shares] == pytest.approx([0, 0.5, 1, 2 / 3, 1 / 3, 0])
    assert rate_factor("constant", 0.0, 0.0) == 1
