"""Volume rendering of pictures on tensors: the reference, and the CPU's depth."""

import math

import numpy as np
import pytest
import torch
from gpu_cases import apart

from nndl_suite.nerf.gpu import plain
from nndl_suite.nerf.gpu.compositing import composite
from nndl_suite.nerf.kernels import composite as on_cpu
from nndl_suite.nerf.kernels import reference


def _fog(seed: int, rays: int, samples: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.random((rays, samples + 1)) + 0.01, axis=1)
    density = rng.exponential(size=(rays, samples)) ** 2 * np.linspace(0, 2, rays)[:, None] * 8 / samples
    arrays = density.ravel(), rng.random((rays * samples, 3)), edges
    return tuple(torch.from_numpy(array.astype(np.float32)).to(device) for array in arrays)


@pytest.mark.parametrize("background", [None, [0.1, 0.5, 0.9]])
@pytest.mark.parametrize(("rays", "samples"), [(20, 8), (13, 24), (6, 48), (3, 96)])
def test_it_is_the_reference_and_the_cpus(rays: int, samples: int, background: list[float] | None):
    density, rgb, edges = _fog(samples, rays, samples)
    behind = None if background is None else torch.tensor(background)
    seen, depth, opacity = composite(density, rgb, edges, background=behind)
    exact = reference.render(
        density.double().view(rays, samples), rgb.double().view(rays, samples, 3), edges.double(),
        None if behind is None else behind.double().expand(rays, 3),
    )  # fmt: skip
    assert apart(seen, exact) < 1e-5
    expected = np.empty((rays, 3), np.float32), np.empty(rays, np.float32), np.empty(rays, np.float32)
    ground = np.array(background or (0, 0, 0), np.float32)
    on_cpu.composite(density.numpy(), rgb.numpy(), edges.numpy(), background is None, ground, *expected)
    np.testing.assert_allclose(seen.numpy(), expected[0], atol=1e-5)
    np.testing.assert_allclose(depth.numpy(), expected[1], rtol=1e-3)
    np.testing.assert_allclose(opacity.numpy(), expected[2], atol=1e-5)
    assert depth[0] == edges[0, -1]  # the first ray meets nothing


def test_depth_is_where_half_the_light_is_stopped():
    edges, rgb = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8, 9]]), torch.zeros(8, 3)
    for first, expected in ((math.log(4), 1.75), (1e4, 1.5), (0.0, 9.0)):
        density = torch.tensor([first, *[0.0] * 7])
        _, depth, opacity = composite(density, rgb, edges, background=None)
        passed = math.exp(-first)
        wanted = 1 + 0.5 / (1 - passed) if passed <= 0.5 else expected
        assert depth[0] == pytest.approx(wanted, abs=1e-4)
        assert opacity[0] == pytest.approx(1 - passed, abs=1e-6)


def test_an_opaque_sample_hides_nothing_of_what_lies_before_it():
    edges = torch.arange(9.0)[None]
    density = torch.tensor([0.1, 0.2, 0.3, 59874.0, 59874.0, 0.1, 59874.0, 0.0])
    rgb = torch.eye(8)[:, :3].contiguous()
    rgb[3] = 0.5
    seen, depth, opacity = composite(density, rgb, edges, background=None)
    exact = reference.render(density.double()[None], rgb.double()[None], edges.double(), None)
    assert apart(seen, exact) < 2e-6
    assert depth[0] == pytest.approx(3 + (math.exp(-0.6) - 0.5) / math.exp(-0.6), abs=1e-5)
    assert opacity[0] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("background", [None, [0.1, 0.5, 0.9]])
@pytest.mark.parametrize("samples", [8, 24, 48, 96])
def test_on_a_gpu(samples: int, background: list[float] | None):
    density, rgb, edges = _fog(1, 2**16 // samples + 1, samples, "cuda")
    behind = None if background is None else torch.tensor(background, device="cuda")
    found = composite(density, rgb, edges, background=behind)
    exact = plain.composite(
        density.double(), rgb.double(), edges.double(), background=None if behind is None else behind.double()
    )
    assert apart(found[0], exact[0]) < 1e-5
    assert ((found[1] - exact[1]).abs() < 1e-3 * exact[1]).double().mean() > 0.999
    assert apart(found[2], exact[2]) < 1e-5
