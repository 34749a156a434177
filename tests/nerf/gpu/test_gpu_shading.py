"""The nets and the loss of rays on tensors against float64, gradients by autograd."""

import numpy as np
import pytest
import torch
from gpu_cases import Case, apart, exact_loss, ray_case, rounded_shade
from torch import Tensor

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.chosen import in_triton
from nndl_suite.nerf.gpu.shading import Learned, Rules, shade, shade_and_learn
from nndl_suite.nerf.kernels import reference, tiles
from nndl_suite.nerf.kernels.dense import TILE
from nndl_suite.nerf.kernels.nets import MAX_LOG_DENSITY, WEIGHTS

FIELDS = ("density", "grad_encoding", "grad_gain", "losses", "grad_weights")
BFLOAT = 1e-2
"""Of gradients that were rounded to 8 bits three or four times."""
ALIKE = 2e-3
"""Where a sum in another order rounds to another float16 now and then."""
SINGLE = 3e-5


def _tolerance(case: Case) -> float:
    if case.encoding.is_cuda:
        return BFLOAT
    return ALIKE if in_triton(case.encoding) else SINGLE


def _rules(*, open_end: bool, spread: float = 0.1, close: float = 1e-6, fog: float = 0.0) -> Rules:
    return Rules(open_end=open_end, knee=2.0, spread=spread, close=close, fog=fog)


def _learn(case: Case, rules: Rules) -> Learned:
    return shade_and_learn(*case.all(), rules=rules)


def _expected(case: Case, rules: Rules) -> dict[str, Tensor]:
    return exact_loss(
        case, open_end=rules.open_end, spread=rules.spread, close=rules.close, fog=rules.fog,
        rounded=in_triton(case.encoding),
    )  # fmt: skip


def _compare(case: Case, rules: Rules) -> None:
    found, expected = _learn(case, rules), _expected(case, rules)
    for name in FIELDS:
        assert apart(getattr(found, name), expected[name]) < _tolerance(case), name


@pytest.mark.parametrize(("rays", "samples"), [(8, 24), (5, 48), (1, 1), (97, 1), (301, 1)])
def test_shading_is_the_reference(rays: int, samples: int):
    case = ray_case(rays, rays, samples)
    toward = case.directions.double().repeat_interleave(samples, dim=0)
    exact = rounded_shade if in_triton(toward) else reference.shade
    expected, colours = exact(case.weights.double(), case.encoding.T.double(), toward)
    density, rgb = shade(case.weights, case.encoding, case.directions)
    assert apart(density.log(), expected.log()) < _tolerance(case)
    assert apart(density, expected) < _tolerance(case)
    assert apart(rgb, colours) < _tolerance(case)


@pytest.mark.parametrize("open_end", [True, False])
@pytest.mark.parametrize(("rays", "samples"), [(12, 8), (11, 24), (4, 48), (2, 96), (7, 12)])
def test_learning_follows_the_references_gradient(rays: int, samples: int, open_end: bool):
    _compare(ray_case(rays, rays, samples), _rules(open_end=open_end))


@pytest.mark.parametrize("open_end", [True, False])
def test_what_is_close_costs_and_learns_slowly(open_end: bool):
    _compare(ray_case(7, 8, 24), _rules(open_end=open_end, spread=0.05, close=1.5, fog=0.7))


@pytest.mark.parametrize("open_end", [True, False])
def test_learning_is_the_cpu_kernels(open_end: bool):
    """With everything that rules can ask for, what is close among it."""
    rays, samples = 2 * TILE // 24, 24
    case = ray_case(1, rays, samples)
    f = np.float32
    weights, encoding, edges, directions, target, background, through, gain = (t.numpy() for t in case.all())
    out = {
        "density": np.empty(rays * samples, f),
        "grad_encoding": np.empty_like(encoding),
        "grad_gain": np.empty((rays, 3), f),
        "losses": np.empty((rays, 2), f),
    }
    grad_weights = np.empty((2, WEIGHTS), f)
    tiles.shade_and_learn(
        weights, (encoding, edges, directions, target, background, through, gain),
        (open_end, f(2), f(0.05), f(1.5), f(0.3)), tuple(out.values()), grad_weights,
    )  # fmt: skip
    out["grad_weights"] = grad_weights.sum(axis=0)
    found = _learn(case, _rules(open_end=open_end, spread=0.05, close=1.5, fog=0.3))
    limit = 5e-2 if in_triton(case.encoding) else 1e-4  # units that rounding wakes; the reference above has them too
    for name in FIELDS:
        assert apart(getattr(found, name), torch.from_numpy(out[name])) < limit, name


def test_a_density_at_its_limit_learns_nothing():
    case = ray_case(8, 4, 24)
    case.weights[2048 : 2048 + 64] *= 20  # the row of the density net that gives the log density
    case.weights[3072:4096] = 0  # colours see the direction alone
    density, _ = shade(case.weights, case.encoding, case.directions)
    limited = density.log() > MAX_LOG_DENSITY - 1e-3
    assert 0.1 < limited.float().mean() < 0.9
    grad = _learn(case, _rules(open_end=False)).grad_encoding
    assert not grad[:, limited].any()
    assert grad[:, ~limited].any()


def _nearly_right(case: Case) -> Case:
    """The same rays, before photos that show what the field does but for 1e-3, as at the end of a training."""
    rays, samples = len(case.edges), case.edges.shape[1] - 1
    density, rgb = shade(case.weights, case.encoding, case.directions)
    seen, _, _ = plain.composite(density, rgb, case.edges, background=None)
    assert seen.shape == (rays, 3)
    assert density.shape == (rays * samples,)
    case.target.copy_(seen * case.gain + 1e-3)
    return case


def test_the_smallest_gradients_survive():
    case = _nearly_right(ray_case(9, 8, 24))
    rules = _rules(open_end=True, spread=0.0)
    found = _learn(case, rules).grad_encoding
    # the error itself is a difference of two numbers near each other
    limit = 0.05 if in_triton(found) else 5e-3
    assert apart(found, _expected(case, rules)["grad_encoding"]) < limit


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("open_end", [True, False])
@pytest.mark.parametrize("samples", [8, 24, 32, 48, 96])
def test_learning_on_a_gpu(samples: int, open_end: bool):
    case = ray_case(10, 2**16 // samples + 1, samples, "cuda")
    rules = _rules(open_end=open_end, spread=0.05, close=1.5, fog=0.3)
    _compare(case, rules)
    found, again = _learn(case, rules), _learn(case, rules)
    assert all(torch.equal(getattr(found, name), getattr(again, name)) for name in FIELDS)
    exact = plain.shade_and_learn(*(t.double() for t in case.all()), rules=rules)
    for name in FIELDS:
        assert apart(getattr(found, name), getattr(exact, name)) < 5e-2, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_smallest_gradients_survive_on_a_gpu():
    case = _nearly_right(ray_case(9, 2**16 // 24, 24, "cuda"))
    rules = _rules(open_end=True, spread=0.0)
    assert apart(_learn(case, rules).grad_encoding, _expected(case, rules)["grad_encoding"]) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("samples", [1, 24, 48])
def test_shading_on_a_gpu(samples: int):
    case = ray_case(11, 2**16 // samples + 1, samples, "cuda")
    density, rgb = shade(case.weights, case.encoding, case.directions)
    expected, colours = plain.shade(*(t.double() for t in (case.weights, case.encoding, case.directions)))
    assert apart(density, expected) < BFLOAT
    assert apart(rgb, colours) < BFLOAT
