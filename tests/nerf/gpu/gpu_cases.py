"""Inputs and measures that the tests of the tensor kernels share."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nndl_suite.nerf.kernels import reference
from nndl_suite.nerf.kernels.hash_grid import HashLayout, hash_layout
from nndl_suite.nerf.kernels.nets import ENCODED, WEIGHTS

LAYOUT = hash_layout(16, coarsest=4, finest=97, log2_rows=9)
"""Three direct levels and thirteen hashed ones."""
BIG = hash_layout(16, coarsest=16, finest=2048, log2_rows=18)
UNBOUNDED = (0.05, 100.0, 2.0, math.inf)
BALL = (0.05, 100.0, 100.0, 2.0)


def apart(ours: Tensor, expected: Tensor) -> float:
    """The norm of the difference beside that of the expected; infinite where anything is not finite."""
    ours, expected = ours.detach().double().cpu(), expected.detach().double().cpu()
    assert ours.shape == expected.shape
    found = float((ours - expected).norm() / expected.norm().clamp(min=1e-30))
    return found if math.isfinite(found) else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rays with everything that learning asks for, float32."""

    weights: Tensor
    encoding: Tensor
    edges: Tensor
    directions: Tensor
    target: Tensor
    background: Tensor
    through: Tensor
    gain: Tensor

    def all(self) -> tuple[Tensor, ...]:
        """In the order that `shade_and_learn` takes them."""
        return (
            self.weights, self.encoding, self.edges, self.directions, self.target, self.background, self.through,
            self.gain,
        )  # fmt: skip


def ray_case(seed: int, rays: int, samples: int, device: str = "cpu") -> Case:
    """Random rays; the nets' weights are such that densities spread over a few orders of magnitude."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(rays, 3))
    arrays = {
        "weights": rng.normal(size=WEIGHTS) * 0.25,
        "encoding": rng.normal(size=(ENCODED, rays * samples)),
        "edges": np.sort(rng.random((rays, samples + 1)) * 4 + 0.05, axis=1),
        "directions": directions / np.linalg.norm(directions, axis=1, keepdims=True),
        "target": rng.random((rays, 3)),
        "background": rng.random((rays, 3)),
        "through": rng.random(rays),
        "gain": np.exp(rng.normal(size=(rays, 3)) * 0.2),
    }
    for name in ("weights", "encoding"):  # else half precision and the reference would begin with different numbers
        arrays[name] = arrays[name].astype(np.float16)
    return Case(**{name: torch.from_numpy(array.astype(np.float32)).to(device) for name, array in arrays.items()})


def grid_case(
    seed: int, n: int, layout: HashLayout = LAYOUT, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, the cube's corners among them, a table, and a gradient of the encoding, with points that have none."""
    rng = np.random.default_rng(seed)
    points, table = rng.random((3, n), dtype=np.float32), rng.normal(size=(layout.rows, 2)).astype(np.float32)
    points[:, 0], points[:, 1] = 0, 1
    grad = rng.normal(size=(2 * len(layout.cells), n)).astype(np.float32)
    grad[:, 5::7] = 0
    return *(torch.from_numpy(array).to(device) for array in (points, table, grad)), torch.zeros(
        layout.rows, 2, device=device
    )


def camera_rays(seed: int, rays: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Origins at distance 1 and unit directions that pass the middle."""
    rng = np.random.default_rng(seed)
    origins, aims = rng.normal(size=(rays, 3)), 0.3 * rng.normal(size=(rays, 3))
    origins /= np.linalg.norm(origins, axis=1, keepdims=True)
    directions = (aims - origins) / np.linalg.norm(aims - origins, axis=1, keepdims=True)
    return tuple(torch.from_numpy(array.astype(np.float32)).to(device) for array in (origins, directions))


def _halved(values: Tensor) -> Tensor:
    """Rounded to float16, as if it had not been for gradients."""
    return values + (values.half() - values).detach()


def rounded_shade(weights: Tensor, encoding: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.shade`, with what is multiplied rounded to float16: the same rectified units are at rest.

    Without it, the few units that rounding wakes are most of the difference between two gradients.
    """
    w0, w1, w2, w3, w4, toward = reference.matrices(_halved(weights))
    hidden = _halved((_halved(encoding) @ w0.T).relu())
    geometry = hidden @ w1.T
    added = _halved(reference.harmonics(directions)) @ toward.T
    hidden = _halved((_halved(geometry) @ w2.T + added).relu())
    colours = _halved((hidden @ w3.T).relu()) @ w4.T
    return (geometry[:, 0] - 1).clamp(max=11).exp(), colours[:, :3].sigmoid()


def exact_loss(
    case: Case, *, open_end: bool, spread: float, close: float, fog: float, rounded: bool
) -> dict[str, Tensor]:
    """What `shade_and_learn` should find, by autograd on the reference, or on `rounded_shade`."""
    weights, encoding = (t.double().requires_grad_() for t in (case.weights, case.encoding))
    log_gain = case.gain.double().log().requires_grad_()
    rays, samples = len(case.edges), case.edges.shape[1] - 1
    edges, target, background = case.edges.double(), case.target.double(), case.background.double()
    toward = case.directions.double().repeat_interleave(samples, dim=0)
    sigma, rgb = (rounded_shade if rounded else reference.shade)(weights, encoding.T, toward)
    sigma, rgb = sigma.view(rays, samples), rgb.view(rays, samples, 3)
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    slow = (middles / close).clamp(max=1).square()
    sigma = slow * sigma + ((1 - slow) * sigma).detach()
    rgb = slow[..., None] * rgb + ((1 - slow[..., None]) * rgb).detach()
    seen = reference.render(sigma, rgb, edges, None if open_end else background)
    stopped, passed = reference.ray_weights(sigma, edges)
    error = (seen * log_gain.exp() - target).square().mean(dim=1)
    if not open_end:
        error = error + (passed - case.through.double()).square() / 12
    distortion = reference.distortion(stopped, reference.place_of(edges, 2.0))
    price = (stopped * (1 - middles / close).clamp(min=0)).sum(dim=1)
    (error + spread * distortion + fog * price).sum().backward()
    return {
        "density": sigma.detach().reshape(-1),
        "grad_encoding": encoding.grad,
        "grad_gain": log_gain.grad,
        "losses": torch.stack([error, distortion], dim=1).detach(),
        "grad_weights": weights.grad,
    }
