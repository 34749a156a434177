# ruff: noqa: PLR0913
# Signatures are the public functions', which are those of the kernels.
"""The kernels in batched torch: what runs where Triton cannot, and what Triton's kernels are measured against.

Functions follow the device and precision of their inputs, so float64 inputs make them references. What the arguments
mean is said beside the public functions.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nndl_suite.nerf.gpu.learning import Learned, Rules
from nndl_suite.nerf.kernels.hash_grid import FEATURES, HashLayout
from nndl_suite.nerf.kernels.marching import BINS, GRID, MOST_DEPTH
from nndl_suite.nerf.kernels.nets import MAX_LOG_DENSITY, SHAPES, START_LOG_DENSITY
from nndl_suite.nerf.sampling import Reach

_PRIME_Y, _PRIME_Z = 2654435761, 805459861
_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-15
FLOOR = 1e-3
"""Share of light below which a ray's samples spread evenly."""
_THROUGH = 1 / 12
"""The variance of a uniformly random background: the weight of light that passes wrongly."""


# hash grid


def _around(points: Float[Tensor, "3 n"], cells: int, rows: int) -> tuple[Int64[Tensor, "8 n"], Float[Tensor, "3 2 n"]]:
    """The table rows of a cell's vertices (x fastest), and along each axis the shares of its lower and upper ones."""
    scaled = points.clamp(0, 1) * cells
    lower = scaled.long().clamp_(max=cells - 1)  # [3, n]
    inside = scaled - lower
    x, y, z = torch.stack([lower, lower + 1], dim=1)  # [2, n] each
    x, y, z = x[None, None], y[None, :, None], z[:, None, None]
    side = cells + 1
    direct = x + side * (y + side * z)
    # only low bits of the hash are kept, so 64 bits wrap as 32 do
    found = direct if side**3 <= rows else (x ^ (y * _PRIME_Y) ^ (z * _PRIME_Z)) & (rows - 1)
    return found.reshape(8, -1), torch.stack([1 - inside, inside], dim=1)


def _shares(sides: Float[Tensor, "3 2 n"]) -> Float[Tensor, "8 n"]:
    x, y, z = sides
    return (z[:, None, None] * y[None, :, None] * x[None, None]).reshape(8, -1)


def _levels(layout: HashLayout) -> list[tuple[int, int, int]]:
    starts = [int(start) for start in layout.starts]
    return [(int(layout.cells[i]), starts[i], starts[i + 1] - starts[i]) for i in range(len(starts) - 1)]


def encode(points: Float[Tensor, "3 n"], table: Float[Tensor, "rows 2"], layout: HashLayout) -> Float[Tensor, "2l n"]:
    """See `hash_grid.encode`."""
    levels = _levels(layout)
    out = points.new_empty(FEATURES * len(levels), points.shape[1])
    for level, (cells, start, rows) in enumerate(levels):
        found, sides = _around(points, cells, rows)
        blended = (_shares(sides)[..., None] * table[start + found]).sum(dim=0)  # [n, 2]
        out[FEATURES * level : FEATURES * (level + 1)] = blended.T
    return out


def encode_backward(
    points: Float[Tensor, "3 n"],
    grad_encoding: Float[Tensor, "2l n"],
    layout: HashLayout,
    grad_table: Float[Tensor, "rows 2"],
) -> None:
    """See `hash_grid.encode_backward`."""
    for level, (cells, start, rows) in enumerate(_levels(layout)):
        found, sides = _around(points, cells, rows)
        grad = grad_encoding[FEATURES * level : FEATURES * (level + 1)].T  # [n, 2]
        each = _shares(sides)[..., None] * grad  # [8, n, 2]
        grad_table.index_add_(0, start + found.reshape(-1), each.reshape(-1, FEATURES))


# Adam


def starts(step: int) -> tuple[float, float]:
    """What makes up for moments that began at zero, `step` steps ago."""
    return 1 / (1 - _BETA1 ** (step + 1)), 1 / (1 - _BETA2 ** (step + 1))


def adam_touched(
    values: Tensor, grads: Tensor, first: Tensor, second: Tensor, *, rate: float, step: int, decay: float
) -> None:
    """See `adam.adam_touched`."""
    pace = values.new_tensor([1.0, *starts(step)])
    adam_paced(values, grads, first, second, pace, rate=rate, decay=decay)


def adam_paced(
    values: Tensor, grads: Tensor, first: Tensor, second: Tensor, pace: Tensor, *, rate: float, decay: float
) -> None:
    """See `adam.adam_paced`."""
    factor, start1, start2 = pace
    touched = grads != 0
    grad = grads + decay * values
    first.copy_(torch.where(touched, _BETA1 * first + (1 - _BETA1) * grad, first))
    second.copy_(torch.where(touched, _BETA2 * second + (1 - _BETA2) * grad * grad, second))
    change = rate * factor * (first * start1) / ((second * start2).sqrt() + _EPSILON)
    values.sub_(torch.where(touched, change, 0))
    grads.zero_()


# where to look


def contract(points: Float[Tensor, "n 3"], bound: float) -> Float[Tensor, "n 3"]:
    """See `kernels.marching.contract`."""
    if bound < math.inf:
        return 0.5 + 0.5 / bound * points
    norm = points.norm(dim=-1, keepdim=True).clamp(min=1)
    return 0.5 + 0.25 * (2 - 1 / norm) / norm * points


def place_of(distance: Tensor, knee: float) -> Tensor:
    """See `kernels.marching.place_of`."""
    return torch.where(distance < knee, 0.5 / knee * distance, 1 - 0.5 * knee / distance)


def _distance_at(place: Tensor, knee: float) -> Tensor:
    return torch.where(place < 0.5, 2 * knee * place, 0.5 * knee / (1 - place))


def _grid_cells(points: Float[Tensor, "... 3"]) -> Int64[Tensor, "..."]:
    x, y, z = (points * GRID).long().clamp_(0, GRID - 1).unbind(dim=-1)
    return (z * GRID + y) * GRID + x


def _stretch(origins: Tensor, directions: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
    """The distances between which each ray lies in the ball and the field's reach, [r, 1]; equal where it does not."""
    near, far, _, bound = reach
    if bound == math.inf:
        return origins.new_full((len(origins), 1), near), origins.new_full((len(origins), 1), far)
    along = -(origins * directions).sum(dim=1, keepdim=True)
    depth = along * along - origins.square().sum(dim=1, keepdim=True) + bound * bound
    half = depth.clamp(min=0).sqrt()
    meets = depth > 0
    first = torch.where(meets, (along - half).clamp(min=near), near)
    return first, torch.where(meets, (along + half).clamp(max=far).maximum(first), near)


def march(
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    grid: Float[Tensor, "g"],
    jitter: Float[Tensor, "r s+1"],
    *,
    reach: Reach,
    uniform: float,
) -> tuple[Float[Tensor, "r s+1"], Float[Tensor, "3 n"], Float[Tensor, "r"]]:
    """See `marching.march`."""
    _, _, knee, bound = reach
    start, end = _stretch(origins, directions, reach)
    first = place_of(start, knee)
    width = (place_of(end, knee) - first) / BINS
    walls = _distance_at(first + width * torch.arange(BINS + 1, device=grid.device), knee)  # [r, BINS + 1]
    middles = (walls[:, 1:] + walls[:, :-1]) / 2
    cells = _grid_cells(contract(origins[:, None] + middles[..., None] * directions[:, None], bound))
    depth = (grid[cells] * walls.diff(dim=1)).clamp(max=float(MOST_DEPTH))
    passed = torch.cumprod(1 / (1 + depth * (1 + 0.5 * depth)), dim=1)
    shares = torch.cat([torch.ones_like(start), passed], dim=1).diff(dim=1).neg()
    padded = torch.cat([shares[:, :1], shares, shares[:, -1:]], dim=1)
    shares = padded.unfold(1, 3, 1).amax(dim=-1)  # [r, BINS]
    scale = (1 - uniform) / (shares.sum(dim=1, keepdim=True) + FLOOR)
    shares = shares * scale + (uniform + FLOOR * scale) / BINS
    upto = shares.cumsum(dim=1)
    count = jitter.shape[1]
    target = (torch.arange(count, device=grid.device) + jitter) / count
    found = torch.searchsorted(upto, target).clamp_(max=BINS - 1)
    share = shares.gather(1, found)
    inside = ((target - (upto.gather(1, found) - share)) / share).clamp(0, 1)
    edges = _distance_at(first + width * (found + inside), knee)
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    points = contract(origins[:, None] + middles[..., None] * directions[:, None], bound)
    return edges, points.reshape(-1, 3).T.contiguous(), depth.sum(dim=1)


def splat(
    points: Float[Tensor, "3 n"], density: Float[Tensor, "n"], grid: Float[Tensor, "g"], *, rise: float, fall: float
) -> None:
    """See `marching.splat`."""
    outside = ((points < 0) | (points > 1)).any(dim=0)
    cells = _grid_cells(points.T)
    gap = density - grid[cells]
    part = torch.where(outside, 0, torch.where(gap > 0, rise, fall))
    parts = torch.zeros_like(grid).index_add_(0, cells, part)
    moves = torch.zeros_like(grid).index_add_(0, cells, part * gap)
    grid.add_(moves / parts.clamp(min=1))


# the nets


def harmonics(directions: Float[Tensor, "r 3"]) -> Float[Tensor, "r 16"]:
    """Real spherical harmonics to degree 3; see `kernels.nets.harmonics`."""
    x, y, z = directions.unbind(dim=1)
    xx, yy, zz = x * x, y * y, z * z
    columns = [
        torch.full_like(x, 0.28209479177387814),
        -0.48860251190291987 * y,
        0.48860251190291987 * z,
        -0.48860251190291987 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (3 * zz - 1),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (5 * zz - 1),
        0.3731763325901154 * z * (5 * zz - 3),
        -0.4570457994644658 * x * (5 * zz - 1),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return torch.stack(columns, dim=1)


def shade(
    weights: Float[Tensor, "w"], encoding: Float[Tensor, "32 n"], directions: Float[Tensor, "r 3"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
    """See `shading.shade`."""
    parts = weights.split([rows * columns for rows, columns in SHAPES])
    w0, w1, w2, w3, w4, toward = (part.view(shape) for part, shape in zip(parts, SHAPES, strict=True))
    samples = encoding.shape[1] // len(directions)
    geometry = w1 @ (w0 @ encoding).relu()  # [16, n]
    turned = (toward @ harmonics(directions).T).repeat_interleave(samples, dim=1)
    colours = w4 @ (w3 @ (w2 @ geometry + turned).relu()).relu()
    density = (geometry[0] + float(START_LOG_DENSITY)).clamp(max=float(MAX_LOG_DENSITY)).exp()
    return density, colours[:3].sigmoid().T.contiguous()


def ray_weights(
    density: Float[Tensor, "r s"], edges: Float[Tensor, "r s+1"]
) -> tuple[Float[Tensor, "r s"], Float[Tensor, "r"]]:
    """Compositing weights, and the transmittance behind the last sample (arXiv 2003.08934, eq. 3)."""
    depth = density * edges.diff(dim=1)
    passed = torch.exp(-depth.cumsum(dim=1))
    before = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=1)
    return -before * torch.expm1(-depth), passed[:, -1]


def _distortion(weights: Float[Tensor, "r s"], places: Float[Tensor, "r s+1"]) -> Float[Tensor, "r"]:
    """Mip-NeRF 360 (arXiv 2111.12077), eq. 15; each pair once, from the right one's view."""
    middles = (places[:, 1:] + places[:, :-1]) / 2
    left = weights.cumsum(dim=1) - weights
    left_middles = (weights * middles).cumsum(dim=1) - weights * middles
    return (weights * (2 * (middles * left - left_middles) + weights * places.diff(dim=1) / 3)).sum(dim=1)


def _slowed(value: Tensor, slow: Tensor) -> Tensor:
    """The value itself, whose gradient is `slow` times smaller."""
    return slow * value + ((1 - slow) * value).detach()


def shade_and_learn(
    weights: Float[Tensor, "w"],
    encoding: Float[Tensor, "32 n"],
    edges: Float[Tensor, "r s+1"],
    directions: Float[Tensor, "r 3"],
    target: Float[Tensor, "r 3"],
    background: Float[Tensor, "r 3"],
    through: Float[Tensor, "r"],
    gain: Float[Tensor, "r 3"],
    *,
    rules: Rules,
) -> Learned:
    """See `shading.shade_and_learn`."""
    rays, samples = len(edges), edges.shape[1] - 1
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    slow = (middles / rules.close).clamp(max=1).square()
    with torch.enable_grad():
        wanted = weights.detach().requires_grad_(), encoding.detach().requires_grad_()
        density, rgb = shade(*wanted, directions)
        colours = _slowed(rgb.view(rays, samples, 3), slow[..., None])
        stopped, left_over = ray_weights(_slowed(density.view(rays, samples), slow), edges)
        behind = colours[:, -1] if rules.open_end else background
        seen = gain * ((stopped[..., None] * colours).sum(dim=1) + left_over[:, None] * behind)
        miss = seen - target
        error = miss.square().mean(dim=1)
        if not rules.open_end:
            error = error + _THROUGH * (left_over - through).square()
        spread = _distortion(stopped, place_of(edges, rules.knee))
        fog = (stopped * (1 - middles / rules.close).clamp(min=0)).sum(dim=1)
        cost = (error + rules.spread * spread + rules.fog * fog).sum()
        grad_weights, grad_encoding = torch.autograd.grad(cost, wanted)
    return Learned(
        density=density.detach(),
        grad_encoding=grad_encoding,
        grad_gain=(2 / 3 * miss * seen).detach(),
        losses=torch.stack([error, spread], dim=1).detach(),
        grad_weights=grad_weights,
    )


def composite(
    density: Float[Tensor, "n"],
    rgb: Float[Tensor, "n 3"],
    edges: Float[Tensor, "r s+1"],
    *,
    background: Float[Tensor, "3"] | None,
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r"], Float[Tensor, "r"]]:
    """See `compositing.composite`."""
    rays, samples = len(edges), edges.shape[1] - 1
    colours = rgb.view(rays, samples, 3)
    stopped, left_over = ray_weights(density.view(rays, samples), edges)
    behind = colours[:, -1] if background is None else background
    seen = (stopped[..., None] * colours).sum(dim=1) + left_over[:, None] * behind
    upto = stopped.cumsum(dim=1)
    at = (upto < 0.5).sum(dim=1, keepdim=True)
    found = at.clamp(max=samples - 1)
    share = stopped.gather(1, found)
    inside = (0.5 - (upto.gather(1, found) - share)) / share
    near, far = edges.gather(1, found), edges.gather(1, found + 1)
    depth = torch.where(at < samples, near + inside * (far - near), edges[:, -1:])
    return seen, depth[:, 0], 1 - left_over


# cameras


def _slopes(points: Tensor, grad_encoding: Tensor, table: Tensor, layout: HashLayout) -> Float[Tensor, "3 n"]:
    """The gradient with respect to the points."""
    total = torch.zeros_like(points)
    for level, (cells, start, rows) in enumerate(_levels(layout)):
        found, (x, y, z) = _around(points, cells, rows)
        grad = grad_encoding[FEATURES * level : FEATURES * (level + 1)].T
        value = (table[start + found] * grad).sum(dim=-1).view(2, 2, 2, -1)  # z, y, x, n
        total[0] += cells * (z[:, None] * y[None] * (value[:, :, 1] - value[:, :, 0])).sum(dim=(0, 1))
        total[1] += cells * (z[:, None] * x[None] * (value[:, 1] - value[:, 0])).sum(dim=(0, 1))
        total[2] += cells * (y[:, None] * x[None] * (value[1] - value[0])).sum(dim=(0, 1))
    return total


def pose_gradient(
    points: Float[Tensor, "3 n"],
    grad_encoding: Float[Tensor, "2l n"],
    table: Float[Tensor, "rows 2"],
    layout: HashLayout,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    edges: Float[Tensor, "r s+1"],
    *,
    bound: float,
) -> Float[Tensor, "r 6"]:
    """See `pose_gradient.pose_gradient`."""
    grad = _slopes(points, grad_encoding, table, layout).T.reshape(len(edges), -1, 3)  # [r, s, 3]
    far = (edges[:, 1:] + edges[:, :-1])[..., None] / 2
    if bound < math.inf:
        grad = 0.5 / bound * grad
    else:  # the transpose of the Jacobian of `contract`: a multiple of the identity, and of p p^T outside the ball
        place = origins[:, None] + far * directions[:, None]
        inverse = 1 / place.norm(dim=-1, keepdim=True).clamp(min=1)
        radial = 0.5 * (inverse - 1) * inverse**3 * (place * grad).sum(dim=-1, keepdim=True)
        grad = 0.25 * (2 - inverse) * inverse * grad + radial * place
    turn = torch.linalg.cross(directions[:, None].expand_as(grad), far * grad)
    return torch.cat([grad.sum(dim=1), turn.sum(dim=1)], dim=1)
