"""Live pictures of a field for pages that look at it: coarse while a camera moves, sharper the longer it rests.

Knows nothing of the pages but a number and where their camera is; one thread renders for all of them.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from nndl_suite.nerf.rendering import Rendering

_SHARPER = (0.2, 0.5, 1.0)
"""Share of the full size at each stage; the first is shown whatever happens, the others only to a camera at rest."""
_SMALLEST = 24
_RAYS_AT_ONCE = 2**14
"""Between two bands of rays, a few tenths of a second, a picture can be given up."""

RenderBand = Callable[[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "3 4"], int], Rendering]
"""What a camera sees, from its pixels' directions in its own frame, its pose, and the samples a ray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A pinhole camera that somebody moves."""

    field_from_camera: Float64[np.ndarray, "3 4"]
    """OpenCV axes."""
    fov_rad: float
    """Vertical angle of view."""
    aspect: float
    """Width over height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How fine the pictures of a camera at rest are."""

    longest: int = 640
    """Pixels of the longer side."""
    samples: int = 32
    """Samples a ray, of a kind that `render_view` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a camera sees."""

    rgb: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]
    """Along the optical axis, field units."""
    stage: int
    """0 is the coarsest."""
    last: bool
    """Nothing finer will follow while the camera rests."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a page waits for."""

    look: Look
    stage: int
    served: int
    """When it last got a picture, counted in pictures."""


def stage_size(look: Look, longest: int, stage: int) -> tuple[int, int]:
    """Height and width of the picture at a stage, in the camera's shape."""
    side = max(_SMALLEST, round(longest * _SHARPER[stage]))
    if look.aspect >= 1:
        return max(1, round(side / look.aspect)), side
    return side, max(1, round(side * look.aspect))


def look_directions(look: Look, size: tuple[int, int]) -> Float32[np.ndarray, "h w 3"]:
    """Unit directions through the pixel centres of a camera, in its own frame (OpenCV axes)."""
    height, width = size
    up = math.tan(look.fov_rad / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * up * look.aspect
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * up
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)
    return (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)


class LiveView:
    """Renders what pages want to see, one picture at a time; of each page only the newest camera counts."""

    def __init__(self, render: RenderBand, send: Callable[[int, Picture], None], detail: Detail) -> None:
        """Nothing is rendered before `step` or `run`.

        Args:
            render: The field; called from one thread at a time.
            send: Takes a picture to a page. Must not wait for a slow page.
            detail: Of pictures at rest.
        """
        self._render = render
        self._send = send
        self._detail = detail
        self._wanted: dict[int, _Wanted] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._served = 0

    def look(self, page: int, look: Look) -> None:
        """A page's camera is here now; what it wanted before is forgotten, unless it has not moved."""
        with self._changed:
            old = self._wanted.get(page)
            if old is not None and _same(old.look, look):
                return
            self._wanted[page] = _Wanted(look, 0, old.served if old else 0)
            self._changed.notify()

    def forget(self, page: int) -> None:
        """A page wants no more pictures."""
        with self._changed:
            self._wanted.pop(page, None)

    def set_detail(self, detail: Detail) -> None:
        """Render everything again, as finely as this."""
        with self._changed:
            self._detail = detail
            self._wanted = {page: replace(wanted, stage=0) for page, wanted in self._wanted.items()}
            self._changed.notify()

    def step(self) -> bool:
        """Render the picture that is most wanted, and send it; False where nobody wants one.

        Those who have seen the least come first, and among them those who have waited the longest.
        """
        with self._changed:
            waiting = [page for page, wanted in self._wanted.items() if wanted.stage < len(_SHARPER)]
            if not waiting:
                return False
            page = min(waiting, key=lambda page: (self._wanted[page].stage, self._wanted[page].served))
            wanted, detail = self._wanted[page], self._detail
        picture = self._picture(page, wanted, detail)
        with self._changed:
            self._served += 1
            now = self._wanted.get(page)
            if picture is None or now is None:
                return True
            stage = wanted.stage + 1 if now is wanted else now.stage
            self._wanted[page] = replace(now, stage=stage, served=self._served)
        self._send(page, picture)
        return True

    def run(self) -> None:
        """Step until `stop`, sleeping while nobody wants anything."""
        while not self._stopped:
            if not self.step():
                with self._changed:
                    self._changed.wait(timeout=0.2)

    def stop(self) -> None:
        """Make `run` return, within a band of rays."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _picture(self, page: int, wanted: _Wanted, detail: Detail) -> Picture | None:
        """The picture, or None where a camera moved on before it was done."""
        look, stage = wanted.look, wanted.stage
        directions = look_directions(look, stage_size(look, detail.longest, stage))
        height, width = directions.shape[:2]
        rows = max(1, _RAYS_AT_ONCE // width)
        pose = look.field_from_camera.astype(np.float32)
        rgb = np.empty((height, width, 3), np.uint8)
        depth = np.empty((height, width), np.float32)
        for top in range(0, height, rows):
            given_up = self._stopped or page not in self._wanted
            if given_up or (stage > 0 and self._wanted.get(page) is not wanted):
                return None
            part = slice(top, top + rows)
            seen = self._render(np.ascontiguousarray(directions[part]), pose, detail.samples)
            rgb[part] = (seen.rgb * 255 + 0.5).clip(0, 255).astype(np.uint8)
            depth[part] = seen.depth * directions[part, :, 2]
        return Picture(rgb=rgb, depth=depth, stage=stage, last=stage == len(_SHARPER) - 1)


def _same(one: Look, other: Look) -> bool:
    lens = (one.fov_rad, one.aspect) == (other.fov_rad, other.aspect)
    return lens and np.array_equal(one.field_from_camera, other.field_from_camera)
