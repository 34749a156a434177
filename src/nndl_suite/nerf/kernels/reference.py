"""The kernels' mathematics in plain float64 torch, with autograd for the gradients; only the tests use it."""

from itertools import product

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from nndl_suite.nerf.kernels.nets import SHAPES, START_LOG_DENSITY

Matrices = list[Float64[Tensor, "rows columns"]]


def encode(
    points: Float64[Tensor, "n 3"], table: Float64[Tensor, "rows 2"], cells: np.ndarray, starts: np.ndarray
) -> Float64[Tensor, "n 2l"]:
    """Multi-resolution hash encoding (arXiv 2201.05989, eqs. 1-4)."""
    features: list[Tensor] = []
    for level in range(len(cells)):
        side, rows = int(cells[level]) + 1, int(starts[level + 1] - starts[level])
        scaled = points * (side - 1)
        lower = scaled.floor().long().clamp(max=side - 2)
        inside = scaled - lower  # [n, 3]
        total = torch.zeros(len(points), 2, dtype=torch.float64)
        for corner in product((0, 1), repeat=3):
            vertex = lower + torch.tensor(corner)
            share = torch.where(torch.tensor(corner) == 1, inside, 1 - inside).prod(dim=1)
            x, y, z = vertex.unbind(dim=1)
            if rows == side**3:
                row = x + side * (y + side * z)
            else:
                row = (x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % rows
            total = total + share[:, None] * table[int(starts[level]) + row]
        features.append(total)
    return torch.cat(features, dim=1)


def matrices(weights: Float64[Tensor, "w"]) -> Matrices:
    """The nets' matrices from the flat vector of weights."""
    parts = weights.split([rows * columns for rows, columns in SHAPES])
    return [part.view(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def harmonics(directions: Float64[Tensor, "n 3"]) -> Float64[Tensor, "n 16"]:
    """Real spherical harmonics to degree 3, from Legendre polynomials: sign (-1)^m, azimuth from x towards y."""
    x, y, z = directions.unbind(dim=1)
    rho, azimuth = torch.hypot(x, y), torch.atan2(y, x)
    columns: list[Tensor] = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            m = abs(order)
            count = np.prod(np.arange(degree - m + 1, degree + m + 1, dtype=np.float64))  # (l + m)! / (l - m)!
            scale = np.sqrt((2 * degree + 1) / (4 * np.pi) / count) * (np.sqrt(2) if m else 1)
            derivative = (
                np.polynomial.legendre.Legendre.basis(degree).deriv(m)
                if m
                else np.polynomial.legendre.Legendre.basis(degree)
            )
            polynomial = derivative.convert(kind=np.polynomial.Polynomial).coef
            along = sum((float(c) * z**i for i, c in enumerate(polynomial)), torch.zeros_like(z))
            turn = torch.cos(m * azimuth) if order >= 0 else torch.sin(m * azimuth)
            columns.append((-1) ** m * scale * rho**m * along * turn)
    return torch.stack(columns, dim=1)


def shade(
    weights: Float64[Tensor, "w"], encoding: Float64[Tensor, "n 32"], directions: Float64[Tensor, "n 3"]
) -> tuple[Float64[Tensor, "n"], Float64[Tensor, "n 3"]]:
    """Densities and colours."""
    w0, w1, w2, w3, w4, toward = matrices(weights)
    geometry = (encoding @ w0.T).relu() @ w1.T
    hidden = (geometry @ w2.T + harmonics(directions) @ toward.T).relu()
    colours = (hidden @ w3.T).relu() @ w4.T
    return (geometry[:, 0] + float(START_LOG_DENSITY)).clamp(max=11).exp(), colours[:, :3].sigmoid()


def ray_weights(
    density: Float64[Tensor, "r s"], edges: Float64[Tensor, "r s+1"]
) -> tuple[Float64[Tensor, "r s"], Float64[Tensor, "r"]]:
    """Compositing weights and the transmittance behind the last sample (arXiv 2003.08934, eq. 3)."""
    depth = density * edges.diff(dim=1)
    before = torch.cumsum(depth, dim=1) - depth
    return torch.exp(-before) * (1 - torch.exp(-depth)), torch.exp(-depth.sum(dim=1))


def distortion(weights: Float64[Tensor, "r s"], places: Float64[Tensor, "r s+1"]) -> Float64[Tensor, "r"]:
    """Mip-NeRF 360 (arXiv 2111.12077), eq. 15, as its double sum."""
    middles = (places[:, 1:] + places[:, :-1]) / 2
    apart = (middles[:, :, None] - middles[:, None, :]).abs()
    pairs = (weights[:, :, None] * weights[:, None, :] * apart).sum(dim=(1, 2))
    return pairs + (weights**2 * places.diff(dim=1)).sum(dim=1) / 3


def place_of(distance: Tensor, knee: float) -> Tensor:
    """See `marching.place_of`."""
    return torch.where(distance < knee, distance / (2 * knee), 1 - knee / (2 * distance))


def render(
    density: Float64[Tensor, "r s"],
    rgb: Float64[Tensor, "r s 3"],
    edges: Float64[Tensor, "r s+1"],
    background: Float64[Tensor, "r 3"] | None,
) -> Float64[Tensor, "r 3"]:
    """Colours of rays; without a background the last sample takes all the light that is left."""
    weights, left_over = ray_weights(density, edges)
    behind = rgb[:, -1] if background is None else background
    return (weights[:, :, None] * rgb).sum(dim=1) + left_over[:, None] * behind


def contract(points: Float64[Tensor, "n 3"], bound: float) -> Float64[Tensor, "n 3"]:
    """See `marching.contract`."""
    if bound < np.inf:
        return 0.5 + 0.5 / bound * points
    norm = points.norm(dim=1, keepdim=True).clamp(min=1)
    return 0.5 + 0.25 * (2 - 1 / norm) / norm * points


def points_of_moved_rays(
    moves: Float64[Tensor, "r 6"],
    origins: Float64[Tensor, "r 3"],
    directions: Float64[Tensor, "r 3"],
    edges: Float64[Tensor, "r s+1"],
    bound: float,
) -> Float64[Tensor, "r*s 3"]:
    """Middles of the intervals, in the unit cube, after each ray was shifted by `moves[:, :3]`, and turned by
    `moves[:, 3:]` about its origin (exponential map)."""
    skew = torch.zeros(len(moves), 3, 3, dtype=torch.float64)
    a, b, c = moves[:, 3:].unbind(dim=1)
    skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0] = a, b, c
    turn = torch.linalg.matrix_exp(skew - skew.mT)
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    toward = (turn @ directions[:, :, None])[:, None, :, 0]  # [r, 1, 3]
    return contract(((origins + moves[:, :3])[:, None] + middles[:, :, None] * toward).reshape(-1, 3), bound)
