"""The radiance field: what is learned, and the questions that it answers.

A hash grid over contracted space feeds a density net and a colour net (`kernels.tiles`); a coarse density grid, kept
up to date by training, tells where along a ray to look. All parameters are plain float32 arrays.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from nndl_suite.errors import ConfigError, RunError
from nndl_suite.nerf.kernels import ONE_AT_A_TIME
from nndl_suite.nerf.kernels.hash_grid import FEATURES, HashLayout, encode, hash_layout
from nndl_suite.nerf.kernels.marching import GRID
from nndl_suite.nerf.kernels.nets import ENCODED, SHAPES
from nndl_suite.nerf.kernels.tiles import shade
from nndl_suite.nerf.sampling import Reach, into_cube
from nndl_suite.training.checkpoints import State, load_newest
from nndl_suite.training.runs import RunFolder
from nndl_suite.training.seeds import generator_for

CHUNKS = 16
"""Pieces that the kernels cut their work into; a constant, so that sums do not depend on the number of threads."""
_COARSEST = 16
_POINTS_AT_ONCE = 2**17


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSettings:
    """Size and extent of a field. Lengths are in field units: cameras stand at about 1 from the object's centre."""

    log2_rows: int = 18
    """Rows of a hash level, as a power of two: 18 makes a table of 26 MB."""
    finest: int = 2048
    """Cells of the finest level along the contracted cube, whose inner half is the unit ball."""
    near: float = 0.05
    far: float = 100.0
    knee: float = 2.0
    """Distance along a ray up to which samples are spaced evenly, and from which in inverse distance."""
    bound: float | None = None
    """Radius of the ball about the origin that holds everything; None: space has no end, and is contracted."""
    background: tuple[float, float, float] | None = None
    """The sRGB colour in [0, 1] behind everything. None: the scene goes on, and the last sample of a ray takes all
    the light that is left, as far things do (the photos have no alpha)."""

    def __post_init__(self) -> None:
        if not 8 <= self.log2_rows <= 24:
            raise ConfigError(f"log2_rows must be from 8 to 24, got {self.log2_rows}")
        if self.finest < _COARSEST:
            raise ConfigError(f"finest must be >= {_COARSEST} cells, got {self.finest}")
        if not 0 < self.near < self.knee <= self.far:
            raise ConfigError(f"need 0 < near < knee <= far, got {self.near}, {self.knee}, {self.far}")
        if self.bound is not None and not self.bound > 0:
            raise ConfigError(f"bound must be > 0, got {self.bound}")

    @property
    def reach(self) -> Reach:
        """What kernels need to know of the extent."""
        return self.near, self.far, self.knee, math.inf if self.bound is None else self.bound

    @property
    def layout(self) -> HashLayout:
        """Levels of the hash grid."""
        return hash_layout(ENCODED // FEATURES, coarsest=_COARSEST, finest=self.finest, log2_rows=self.log2_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field's parameters, float32, changed in place by training."""

    settings: FieldSettings
    layout: HashLayout
    table: Float32[np.ndarray, "rows 2"]
    weights: Float32[np.ndarray, "w"]
    """The matrices of both nets, one after the other; `kernels.tiles.SHAPES` says which."""
    grid: Float32[np.ndarray, "g"]
    """The density grid, GRID^3 cells of the unit cube, x fastest."""

    def query(
        self, points: Float32[np.ndarray, "n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"]]:
        """Densities (per field unit) and sRGB colours in [0, 1] at points, seen along unit directions; field frame."""
        density = np.empty(len(points), np.float32)
        rgb = np.empty((len(points), 3), np.float32)
        for start in range(0, len(points), _POINTS_AT_ONCE):
            part = slice(start, start + _POINTS_AT_ONCE)
            cube = np.ascontiguousarray(into_cube(points[part], self.settings.bound).T, np.float32)
            toward = np.ascontiguousarray(directions[part], np.float32)
            with ONE_AT_A_TIME:
                density[part], rgb[part] = self.shade(cube, toward)
        if self.settings.bound is not None:
            density[np.linalg.norm(points, axis=1) > self.settings.bound] = 0
        return density, rgb

    def shade(
        self, cube: Float32[np.ndarray, "3 n"], directions: Float32[np.ndarray, "r 3"]
    ) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"]]:
        """As `query`, for points of the unit cube; each direction serves n / r consecutive points."""
        n = cube.shape[1]
        encoding = np.empty((ENCODED, n), np.float32)
        encode(cube, self.table, self.layout.cells, self.layout.starts, encoding)
        density, rgb = np.empty(n, np.float32), np.empty((n, 3), np.float32)
        shade(self.weights, encoding, directions, CHUNKS, density, rgb)
        return density, rgb

    def state(self) -> dict[str, State]:
        """The parameters and the settings, for a checkpoint; tensors share the arrays' memory."""
        return {
            "settings": asdict(self.settings),
            "table": torch.from_numpy(self.table),
            "weights": torch.from_numpy(self.weights),
            "grid": torch.from_numpy(self.grid),
        }


def new_field(settings: FieldSettings, seed: int) -> Field:
    """A field that knows nothing: thin even fog. The seed alone decides its parameters."""
    layout = settings.layout
    generator = generator_for(seed, "field")
    table = (torch.rand(layout.rows, FEATURES, generator=generator) * 2 - 1) * 1e-4
    matrices = [
        (torch.rand(rows * columns, generator=generator) * 2 - 1) * (6 / columns) ** 0.5 for rows, columns in SHAPES
    ]
    return Field(
        settings=settings,
        layout=layout,
        table=table.numpy(),
        weights=torch.cat(matrices).numpy(),
        grid=np.zeros(GRID**3, np.float32),
    )


def field_from_state(state: Mapping[str, State]) -> Field:
    """The field that `Field.state` described, in memory of its own."""
    saved: dict[str, Any] = dict(cast(Mapping[str, Any], state["settings"]))
    if saved["background"] is not None:
        saved["background"] = tuple(saved["background"])
    settings = FieldSettings(**saved)
    table, weights, grid = (cast(Tensor, state[name]).numpy().copy() for name in ("table", "weights", "grid"))
    layout = settings.layout
    shapes = ((layout.rows, FEATURES), (sum(rows * columns for rows, columns in SHAPES),), (GRID**3,))
    for found, shape in zip((table, weights, grid), shapes, strict=True):  # compiled kernels check no bounds
        if found.shape != shape or found.dtype != np.float32:
            raise ValueError(f"its {found.dtype} {list(found.shape)} should be float32 {list(shape)}")
    return Field(settings=settings, layout=layout, table=table, weights=weights, grid=grid)


def load_field(run: RunFolder) -> Field:
    """The field of a run's newest checkpoint.

    Raises:
        RunError: there is no checkpoint yet, none is whole, or the newest holds no field that this version knows.
    """
    checkpoint = load_newest(run.checkpoints)
    if checkpoint is None:
        raise RunError(f"{run.path} has no checkpoint yet; train first (nndl-suite nerf train)")
    try:
        return field_from_state(cast(Mapping[str, State], checkpoint.state["field"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        began = f"nndl-suite {checkpoint.package}" if checkpoint.package else "the version that trained it"
        raise RunError(
            f"the checkpoint of step {checkpoint.step} in {run.path} holds no field that this version knows "
            f"({error!r}); open the run with {began}, or train anew"
        ) from error
