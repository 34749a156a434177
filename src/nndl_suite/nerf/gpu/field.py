"""A field on a device, and what it looks like from there."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from nndl_suite.nerf.field import Field, FieldSettings
from nndl_suite.nerf.gpu.compositing import composite
from nndl_suite.nerf.gpu.hash_grid import encode
from nndl_suite.nerf.gpu.marching import march
from nndl_suite.nerf.gpu.shading import shade
from nndl_suite.nerf.kernels.hash_grid import HashLayout
from nndl_suite.nerf.rendering import NOTHING, UNIFORM, Rendering, check_samples
from nndl_suite.nerf.sampling import into_cube
from nndl_suite.training.checkpoints import State

_POINTS_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceField:
    """A field's parameters as tensors, changed in place by training; see `field.Field`."""

    settings: FieldSettings
    layout: HashLayout
    table: Float32[Tensor, "rows 2"]
    weights: Float32[Tensor, "w"]
    grid: Float32[Tensor, "g"]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.table.device

    def query(
        self, points: Float32[np.ndarray, "n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 3"]]:
        """See `field.Field.query`."""
        density, rgb = np.empty(len(points), np.float32), np.empty((len(points), 3), np.float32)
        for start in range(0, len(points), _POINTS_AT_ONCE):
            part = slice(start, start + _POINTS_AT_ONCE)
            cube = self._on_device(into_cube(points[part], self.settings.bound).T)
            found = shade(self.weights, encode(cube, self.table, self.layout), self._on_device(directions[part]))
            density[part], rgb[part] = (tensor.cpu().numpy() for tensor in found)
        if self.settings.bound is not None:
            density[np.linalg.norm(points, axis=1) > self.settings.bound] = 0
        return density, rgb

    def render_view(
        self,
        directions: Float32[np.ndarray, "h w 3"],
        field_from_camera: Float32[np.ndarray, "3 4"],
        *,
        samples: int = 32,
    ) -> Rendering:
        """See `rendering.render_view`."""
        shape = directions.shape[:2]
        rotation, centre = (self._on_device(part) for part in (field_from_camera[:, :3], field_from_camera[:, 3]))
        local = self._on_device(directions.reshape(-1, 3))
        # products of float32, which CUDA may be allowed to round to 11 bits where it multiplies matrices
        toward = (local[:, None] * rotation).sum(dim=2)
        rgb, depth, opacity = (
            part.cpu().numpy() for part in self.render_rays(centre.expand_as(toward).contiguous(), toward, samples)
        )
        return Rendering(rgb.reshape(*shape, 3), depth.reshape(shape), opacity.reshape(shape))

    def render_rays(
        self, origins: Float32[Tensor, "r 3"], directions: Float32[Tensor, "r 3"], samples: int = 32
    ) -> tuple[Float32[Tensor, "r 3"], Float32[Tensor, "r"], Float32[Tensor, "r"]]:
        """Colours, depths and opacities of rays on the field's device; see `rendering.Rendering`.

        Raises:
            ConfigError: a number of samples that the CPU does not take either.
        """
        check_samples(samples)
        at_once = 2**17 if self.device.type == "cuda" else 2**12
        # a ray takes about 170 bytes a sample: 0.7 GB at once on CUDA
        parts = [
            self._seen(some, toward, samples)
            for some, toward in zip(origins.split(at_once), directions.split(at_once), strict=True)
        ]
        rgb, depth, opacity = (torch.cat(column) for column in zip(*parts, strict=True))
        return rgb, depth, opacity

    def _seen(self, origins: Tensor, directions: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        rays, behind = len(origins), self.settings.background
        jitter = origins.new_full((rays, samples + 1), 0.5)
        edges, points, thickness = march(
            origins, directions, self.grid, jitter, reach=self.settings.reach, uniform=UNIFORM
        )
        if behind is None:
            return self._shaded(points, edges, directions, None)
        # most of an object's picture is background: rays that meet nothing are not asked for
        background = origins.new_tensor(behind)
        rgb, depth, opacity = background.repeat(rays, 1), edges[:, -1].clone(), torch.zeros_like(thickness)
        met = (thickness > NOTHING).nonzero()[:, 0]
        if len(met):
            points = points.view(3, rays, samples)[:, met].reshape(3, -1)
            seen = self._shaded(points, edges[met], directions[met], background)
            rgb[met], depth[met], opacity[met] = seen
        return rgb, depth, opacity

    def _shaded(
        self, points: Tensor, edges: Tensor, directions: Tensor, background: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        density, rgb = shade(self.weights, encode(points, self.table, self.layout), directions)
        return composite(density, rgb, edges, background=background)

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def state(self) -> dict[str, State]:
        """What `field.Field.state` gives, on the CPU; there the tensors share the field's memory."""
        return {
            "settings": asdict(self.settings),
            "table": self.table.cpu(),
            "weights": self.weights.cpu(),
            "grid": self.grid.cpu(),
        }


def place_field(field: Field, device: torch.device) -> DeviceField:
    """A copy of a field on a device."""
    table, weights, grid = (
        torch.from_numpy(array).to(device, copy=True) for array in (field.table, field.weights, field.grid)
    )
    return DeviceField(settings=field.settings, layout=field.layout, table=table, weights=weights, grid=grid)
