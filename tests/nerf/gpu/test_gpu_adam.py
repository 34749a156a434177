"""Adam on tensors against torch's, and entries without gradient left alone."""

import numpy as np
import pytest
import torch
from gpu_cases import apart

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.adam import adam_paced, adam_touched


@pytest.mark.parametrize("shape", [(40,), (700, 2)])
def test_it_is_torchs_on_touched_entries_and_nothing_on_others(shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    start = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    touched = torch.from_numpy(rng.random(shape) < 0.5)
    values, first, second = start.clone(), torch.zeros(shape), torch.zeros(shape)
    expected = start[touched].double().requires_grad_()
    optimiser = torch.optim.Adam([expected], lr=0.01, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.2)
    for step in range(5):
        grads = torch.where(touched, torch.from_numpy(rng.normal(size=shape).astype(np.float32)), 0)
        expected.grad = grads[touched].double()
        optimiser.step()
        adam_touched(values, grads, first, second, rate=0.01, step=step, decay=0.2)
        assert not grads.any()
    assert apart(values[touched], expected) < 1e-5
    assert torch.equal(values[~touched], start[~touched])
    assert not first[~touched].any()
    assert not second[~touched].any()


def test_the_smallest_gradients_move_as_far_as_large_ones():
    values, first, second = (torch.zeros(3) for _ in range(3))
    adam_touched(values, torch.tensor([1e-12, 1.0, 0.0]), first, second, rate=0.1, step=0)
    np.testing.assert_allclose(values.numpy(), [-0.1, -0.1, 0], rtol=2e-3)


def test_its_pace_may_lie_on_the_device():
    grads = torch.tensor([0.5, 0.0, -2.0])
    told, paced = ([torch.ones(3), grads.clone(), torch.full((3,), 0.1), torch.full((3,), 0.2)] for _ in range(2))
    adam_touched(*told, rate=0.03, step=4)
    adam_paced(*paced, torch.tensor([0.3, *plain.starts(4)]), rate=0.1)
    for ours, expected in zip(paced, told, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu():
    generator = torch.Generator("cuda").manual_seed(0)
    ours = [torch.randn(2**16 + 3, 2, device="cuda", generator=generator) for _ in range(2)]
    ours += [torch.zeros_like(ours[0]), torch.zeros_like(ours[0])]
    exact = [tensor.double() for tensor in ours]
    for step in range(3):
        grads = torch.randn(2**16 + 3, 2, device="cuda", generator=generator)
        grads[::3] = 0
        ours[1], exact[1] = grads.clone(), grads.double()
        adam_touched(*ours, rate=0.01, step=step, decay=0.1)
        plain.adam_touched(*exact, rate=0.01, step=step, decay=0.1)
    for tensor, expected in zip(ours, exact, strict=True):
        assert apart(tensor, expected) < 1e-5
