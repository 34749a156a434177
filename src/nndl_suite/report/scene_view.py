"""A reconstruction's cameras and sparse cloud as a small turnable drawing, and as a still for pages without scripts."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from nndl_suite.errors import RunError
from nndl_suite.report.colours import PALETTE
from nndl_suite.training.files import Json, read_json

_FARTHEST = 1e12
_MAX_POINTS = 6000
_UNIT = 1000  # coordinates are whole thousandths of the drawing's half width
_YAW_RAD, _PITCH_RAD = 0.6, 0.45  # where the drawing starts, here and in page.js
_CAMERA = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneView:
    """Cameras and points in the drawing's frame: z is up, the scene's centre at 0, the farthest camera at 1."""

    centres: Float64[np.ndarray, "n 3"]
    forwards: Float64[np.ndarray, "n 3"]
    ups: Float64[np.ndarray, "n 3"]
    test: tuple[bool, ...]
    xyz: Float64[np.ndarray, "p 3"]
    rgb: UInt8[np.ndarray, "p 3"]

    @property
    def caption(self) -> str:
        """What is shown."""
        cloud = f"{len(self.xyz):,} points of the sparse cloud" if len(self.xyz) else "no sparse points"
        return f"{len(self.test)} cameras and {cloud}."

    @property
    def alt(self) -> str:
        """The same for those who do not see it."""
        return f"A drawing of {self.caption} Of the cameras {sum(self.test)} are held out."

    def drawing(self) -> dict[str, Json]:
        """What the script in `page.js` draws: flat lists of whole numbers."""
        return {
            "yaw": _YAW_RAD,
            "pitch": _PITCH_RAD,
            "unit": _UNIT,
            "size": _CAMERA,
            "centres": _whole(self.centres),
            "forwards": _whole(self.forwards),
            "ups": _whole(self.ups),
            "test": [int(held_out) for held_out in self.test],
            "xyz": _whole(self.xyz),
            "rgb": self.rgb.ravel().tolist(),
        }

    def still(self) -> bytes:
        """The first view as a PNG with a transparent ground."""
        figure = Figure(figsize=(6.4, 4.0), dpi=150)
        figure.patch.set_alpha(0)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_aspect("equal")
        shown = _turned(self.xyz)
        order = shown[:, 2].argsort()
        axes.scatter(shown[order, 0], shown[order, 1], c=self.rgb[order] / 255, s=1.5, linewidths=0)
        for held_out in (False, True):
            chosen = np.array(self.test, dtype=bool) == held_out
            strokes = [_turned(stroke)[:, :2] for stroke in self._frusta()[chosen]]
            axes.add_collection(LineCollection(strokes, colors=PALETTE[int(held_out)], linewidths=0.9))
        axes.set_xlim(-1.6, 1.6)
        axes.set_ylim(-1.0, 1.0)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
        return content.getvalue()

    def _frusta(self) -> Float64[np.ndarray, "n 10 3"]:
        """Each camera as one stroke: apex to corner to corner …"""
        rights = np.cross(self.forwards, self.ups)
        apex = self.centres
        middle = apex + _CAMERA * self.forwards
        across, along = 0.6 * _CAMERA * rights, 0.45 * _CAMERA * self.ups
        a, b, c, d = middle - across + along, middle + across + along, middle + across - along, middle - across - along
        return np.stack([apex, a, b, apex, c, d, apex, a, d, c, b], axis=1)


def read_scene(file: Path) -> SceneView:
    """The scene that a nerf run left in `scene.json`.

    Raises:
        RunError: the file is missing, or does not hold cameras and points.
    """
    content = read_json(file)
    try:
        cameras, points = content["cameras"], content["points"]
        if not isinstance(cameras, list) or not isinstance(points, dict) or not cameras:
            raise ValueError("no cameras or no points")
        rows = [camera for camera in cameras if isinstance(camera, dict)]
        centres, forwards, ups = (_vectors([row[key] for row in rows]) for key in ("center", "forward", "up"))
        xyz, rgb = _vectors(points["xyz"]), _vectors(points["rgb"]).clip(0, 255).astype(np.uint8)
        up, centre = _vectors([content["up"]])[0], _vectors([content["center"]])[0]
        if len(xyz) != len(rgb) or not np.linalg.norm(up) > 0:
            raise ValueError("points without colours, or no upward direction")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise RunError(f"{file} does not describe a scene ({error}); evaluate the run again to rewrite it") from error
    to_drawing = _upright(up)  # [3, 3]
    reach = max(float(np.linalg.norm(centres - centre, axis=1).max()), 1e-12)
    xyz = (xyz - centre) @ to_drawing.T / reach
    near = np.linalg.norm(xyz, axis=1) <= 2  # stray points far behind would shrink everything else
    kept = np.flatnonzero(near)
    kept = kept[:: max(1, -(-len(kept) // _MAX_POINTS))]
    return SceneView(
        centres=(centres - centre) @ to_drawing.T / reach,
        forwards=_unit(forwards @ to_drawing.T),
        ups=_unit(ups @ to_drawing.T),
        test=tuple(bool(row.get("test")) for row in rows),
        xyz=xyz[kept],
        rgb=rgb[kept],
    )


def _vectors(rows: Json) -> Float64[np.ndarray, "n 3"]:
    vectors = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
    if not (np.abs(vectors) < _FARTHEST).all():
        raise ValueError("numbers that are not finite, or too large for a place")
    return vectors


def _upright(up: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """The rotation that takes `up` to z."""
    z = up / np.linalg.norm(up)
    x = np.cross(np.eye(3)[np.abs(z).argmin()], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _unit(vectors: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _turned(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """Right, up and towards the viewer, at the first view; the same two turns as in `page.js`."""
    x, y, z = points.T
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = np.cos(_YAW_RAD), np.sin(_YAW_RAD), np.cos(_PITCH_RAD), np.sin(_PITCH_RAD)
    right, away = x * cos_yaw - y * sin_yaw, x * sin_yaw + y * cos_yaw
    return np.stack([right, z * cos_pitch + away * sin_pitch, z * sin_pitch - away * cos_pitch], axis=1)


def _whole(vectors: Float64[np.ndarray, "n 3"]) -> list[Json]:
    return np.rint(vectors * _UNIT).astype(int).ravel().tolist()
