"""The built-in capture: photos of a made-up still life, ray traced, with cameras that are known exactly.

A box, a ball and a pot stand on a printed floor under a hazy sky. Every surface is matt and carries seeded shapes of
several sizes that never repeat, so structure from motion finds its way through the bare photos, and a radiance field
can be scored against cameras that nobody had to estimate.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from PIL import Image, ImageColor, ImageDraw

from nndl_suite.errors import ConfigError, DataError
from nndl_suite.training.files import Json, write_atomically, write_json
from nndl_suite.training.watch import Step, Watcher, ignore

LOOK_AT = (0.0, 0.0, 0.4)
"""The point that every camera faces; z is up, the floor is z = 0."""
DISTANCE = 2.6
"""From `LOOK_AT` to each camera, give or take the hand's 2 %."""

_ELEVATIONS = (math.radians(20.0), math.radians(42.0))
_FOCAL_PER_WIDTH = 1.1
_SUBPIXELS = 2  # per axis
_BOX_HALF = np.array([0.5, 0.38, 0.3], np.float32)
_BOX_TURN = math.radians(25.0)
_BALL_CENTRE = np.array([0.08, -0.04, 0.88], np.float32)
_BALL_RADIUS = 0.28
_POT_CENTRE = np.array([-0.72, 0.42], np.float32)
_POT_RADIUS = 0.2
_POT_HEIGHT = 0.5
_FLOOR_HALF = 3.0  # the print ends here and fades into the haze before
_TO_LAMP = np.array([0.45, -0.35, 0.82], np.float32)
_LAMP_SPREAD = 0.05  # half the side of the square lamp, seen from distance 1
_HAZE = np.array([0.80, 0.83, 0.87], np.float32)
_ZENITH = np.array([0.45, 0.60, 0.82], np.float32)

_README = """These photos are made: ray traced by nndl_suite.data.demo_capture, not taken with a camera.
transforms.json holds the exact cameras (OpenGL axes: x right, y up, z backwards).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prints:
    """What is printed on each surface; [h, w, 3] in [0, 1]."""

    floor: Float32[np.ndarray, "h w 3"]
    box: Float32[np.ndarray, "h w 3"]
    ball: Float32[np.ndarray, "h w 3"]
    pot: Float32[np.ndarray, "h w 3"]


def make_demo_capture(
    out: Path, *, photos: int = 36, size: tuple[int, int] = (320, 240), seed: int = 0, watch: Watcher = ignore
) -> Path:
    """Ray trace a capture into `out`: `images/0000.png` and on, `transforms.json`, and a README that says it is made.

    The cameras walk two rounds about the object, the second one higher up, with the small unsteadiness of a hand.
    The same arguments give the same pixels.

    Args:
        out: The capture's folder; new, empty, or an earlier demo capture, whose files are replaced.
        photos: At least 4; from about 24 on COLMAP finds the cameras by itself.
        size: Width and height in pixels.
        seed: Draws the prints and the hand.
        watch: Told about every photo.

    Returns:
        `out`.

    Raises:
        ConfigError: too few photos, or a side below 16 pixels.
        DataError: `out` holds something else.
    """
    width, height = size
    if photos < 4:
        raise ConfigError(f"photos must be >= 4, got {photos}; fewer do not show the object from all sides")
    if min(size) < 16:
        raise ConfigError(f"both sides of size must be >= 16 pixels, got {width}x{height}")
    readme = out / "README.txt"
    if out.exists() and any(out.iterdir()) and not (readme.is_file() and readme.read_text() == _README):
        raise DataError(f"{out} is not empty and holds no demo capture; give a new folder")
    (out / "images").mkdir(parents=True, exist_ok=True)
    for old in [out / "transforms.json", *(out / "images").glob("*.png")]:
        old.unlink(missing_ok=True)
    readme.write_text(_README)

    rng = np.random.default_rng(seed)
    prints = _draw_prints(rng)
    poses = _walk(photos, rng)  # [n, 3, 4]
    frames: list[Json] = []
    for index, pose in enumerate(poses):
        name = f"images/{index:04d}.png"
        image = Image.fromarray(_photo(pose, size, prints))
        write_atomically(out / name, lambda part, image=image: image.save(part, format="PNG"))
        opengl = np.vstack([pose * [1.0, -1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
        frames.append({"file_path": name, "transform_matrix": opengl.tolist()})
        watch(Step(stage="making the demo capture", done=index + 1, total=photos))
    focal = _FOCAL_PER_WIDTH * width
    write_json(
        out / "transforms.json",
        {
            "made": True,
            "camera_model": "PINHOLE",
            "fl_x": focal,
            "fl_y": focal,
            "cx": width / 2,
            "cy": height / 2,
            "w": width,
            "h": height,
            "frames": frames,
        },
    )
    return out


def _walk(photos: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 3 4"]:
    """world_from_camera (OpenCV axes) of cameras that go once round the object at each height."""
    turn = np.arange(photos) / photos * len(_ELEVATIONS)  # [n] rounds walked
    azimuth = 2 * np.pi * turn + rng.normal(0, 0.02, photos)
    elevation = np.take(_ELEVATIONS, turn.astype(int)) + rng.normal(0, 0.02, photos)
    distance = DISTANCE * (1 + 0.02 * rng.uniform(-1, 1, photos))
    level = np.cos(elevation)
    towards = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])  # [3, n]
    centre = np.array(LOOK_AT) + (distance * towards).T
    forward = np.array(LOOK_AT) + rng.normal(0, 0.02, (photos, 3)) - centre
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.02, (photos, 3))
    right = np.cross(forward, up)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward, centre], axis=-1)


def _photo(pose: Float64[np.ndarray, "3 4"], size: tuple[int, int], prints: _Prints) -> UInt8[np.ndarray, "h w 3"]:
    """One photo; each sub-pixel sees another part of the lamp, which softens the shadows' edges."""
    width, height = size
    focal = _FOCAL_PER_WIDTH * width
    origin = pose[:, 3].astype(np.float32)
    total = np.zeros((height * width, 3), np.float32)
    offsets = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS
    for dy in offsets:
        for dx in offsets:
            camera = np.ones((height, width, 3))
            camera[..., 0] = (np.arange(width) + dx - width / 2) / focal
            camera[..., 1] = (np.arange(height)[:, None] + dy - height / 2) / focal
            world = (camera.reshape(-1, 3) @ pose[:, :3].T).astype(np.float32)
            world /= np.linalg.norm(world, axis=-1, keepdims=True)
            lamp = _TO_LAMP + np.array([dx - 0.5, dy - 0.5, 0], np.float32) * (4 * _LAMP_SPREAD)
            total += _trace(origin, world, lamp / np.linalg.norm(lamp), prints)
    mean = total / _SUBPIXELS**2
    return (mean.reshape(height, width, 3) * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _trace(
    origin: Float32[np.ndarray, "3"],
    directions: Float32[np.ndarray, "r 3"],
    to_lamp: Float32[np.ndarray, "3"],
    prints: _Prints,
) -> Float32[np.ndarray, "r 3"]:
    """Colours along rays of unit length from one origin."""
    origins = np.broadcast_to(origin, directions.shape)
    distances = np.stack(
        [
            _hit_floor(origins, directions),
            _hit_box(origins, directions),
            _hit_ball(origins, directions),
            _hit_pot(origins, directions),
        ]
    )  # [4, r]
    nearest = distances.argmin(axis=0)
    distance = distances.min(axis=0)
    colours = _sky(directions)
    for surface, paint in enumerate((_paint_floor, _paint_box, _paint_ball, _paint_pot)):
        seen = np.flatnonzero((nearest == surface) & np.isfinite(distance))
        points = origin + distance[seen, None] * directions[seen]
        albedo, normals = paint(points, prints)
        lit = (normals @ to_lamp).clip(0) * ~_in_shadow(points + 1e-3 * normals, to_lamp)
        shaded = albedo * (0.5 + 0.1 * normals[:, 2:] + 0.45 * lit[:, None])
        if surface == 0:
            clear = _clearness(points)[:, None]
            shaded = clear * shaded + (1 - clear) * _HAZE
        colours[seen] = shaded
    return colours


def _sky(directions: Float32[np.ndarray, "r 3"]) -> Float32[np.ndarray, "r 3"]:
    rise = directions[:, 2:].clip(0) ** 0.5
    return (1 - rise) * _HAZE + rise * _ZENITH


def _clearness(points: Float32[np.ndarray, "r 3"]) -> Float32[np.ndarray, "r"]:
    """1 on the floor near the object, falling to 0 where the print ends: far floor would only alias."""
    radius = np.linalg.norm(points[:, :2], axis=-1)
    fade = ((radius - 0.5 * _FLOOR_HALF) / (0.5 * _FLOOR_HALF)).clip(0, 1)
    return 1 - fade * fade * (3 - 2 * fade)


def _in_shadow(points: Float32[np.ndarray, "r 3"], to_lamp: Float32[np.ndarray, "3"]) -> np.ndarray:
    """Whether something stands between each point and the lamp; bool [r]. Far floor has nothing above it."""
    shadow = np.zeros(len(points), dtype=bool)
    near = np.flatnonzero((points[:, :2] ** 2).sum(axis=-1) < 2.0**2)
    origins, directions = points[near], np.broadcast_to(to_lamp, (len(near), 3))
    for hit in (_hit_box, _hit_ball, _hit_pot):
        shadow[near] |= np.isfinite(hit(origins, directions))
    return shadow


# Hits: the distance along each unit ray to the first crossing in front of its origin, inf where there is none.


def _hit_floor(origins: Float32[np.ndarray, "r 3"], directions: Float32[np.ndarray, "r 3"]) -> Float32[np.ndarray, "r"]:
    down = np.minimum(directions[:, 2], -1e-6)
    return np.where(directions[:, 2] < -1e-6, -origins[:, 2] / down, np.inf).astype(np.float32)


def _hit_box(origins: Float32[np.ndarray, "r 3"], directions: Float32[np.ndarray, "r 3"]) -> Float32[np.ndarray, "r"]:
    turned = _into_box(directions)
    turned = np.where(np.abs(turned) < 1e-8, np.float32(1e-8), turned)
    start = _into_box(origins - [0, 0, _BOX_HALF[2]])
    first, second = (-_BOX_HALF - start) / turned, (_BOX_HALF - start) / turned
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def _hit_ball(origins: Float32[np.ndarray, "r 3"], directions: Float32[np.ndarray, "r 3"]) -> Float32[np.ndarray, "r"]:
    start = origins - _BALL_CENTRE
    b = np.einsum("rc,rc->r", start, directions)
    c = np.einsum("rc,rc->r", start, start) - _BALL_RADIUS**2
    root = b * b - c
    distance = -b - np.sqrt(root.clip(0))
    return np.where((root > 0) & (distance > 0), distance, np.inf)


def _hit_pot(origins: Float32[np.ndarray, "r 3"], directions: Float32[np.ndarray, "r 3"]) -> Float32[np.ndarray, "r"]:
    start, ahead = origins[:, :2] - _POT_CENTRE, directions[:, :2]
    a = np.maximum(np.einsum("rc,rc->r", ahead, ahead), 1e-12)
    b = np.einsum("rc,rc->r", start, ahead)
    c = np.einsum("rc,rc->r", start, start) - _POT_RADIUS**2
    root = b * b - a * c
    side = (-b - np.sqrt(root.clip(0))) / a
    height = origins[:, 2] + side * directions[:, 2]
    side = np.where((root > 0) & (side > 0) & (height > 0) & (height < _POT_HEIGHT), side, np.inf)
    rise = np.where(np.abs(directions[:, 2]) < 1e-8, np.float32(1e-8), directions[:, 2])
    lid = (_POT_HEIGHT - origins[:, 2]) / rise
    across = start + lid[:, None] * ahead
    lid = np.where((lid > 0) & (np.einsum("rc,rc->r", across, across) < _POT_RADIUS**2), lid, np.inf)
    return np.minimum(side, lid)


def _into_box(vectors: np.ndarray) -> Float32[np.ndarray, "r 3"]:
    """World vectors in the box's own axes."""
    cos, sin = math.cos(_BOX_TURN), math.sin(_BOX_TURN)
    return (vectors @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])).astype(np.float32)


def _out_of_box(vectors: np.ndarray) -> Float32[np.ndarray, "r 3"]:
    cos, sin = math.cos(_BOX_TURN), math.sin(_BOX_TURN)
    return (vectors @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])).astype(np.float32)


# Paints: the print's colour and the outward normal at points on a surface.

_Painted = tuple[Float32[np.ndarray, "r 3"], Float32[np.ndarray, "r 3"]]


def _paint_floor(points: Float32[np.ndarray, "r 3"], prints: _Prints) -> _Painted:
    albedo = _look_up(prints.floor, points[:, :2] / (2 * _FLOOR_HALF) + 0.5)
    return albedo, np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape)


def _paint_box(points: Float32[np.ndarray, "r 3"], prints: _Prints) -> _Painted:
    local = _into_box(points - [0, 0, _BOX_HALF[2]]) / _BOX_HALF
    axis = np.abs(local).argmax(axis=-1)  # [r] the face's axis: its coordinate is +-1
    rows = np.arange(len(local))
    sign = np.sign(local[rows, axis])
    face = 2 * axis + (sign > 0)  # 0..5, tiles of the print three across and two down
    across, along = np.array([[1, 2], [0, 2], [0, 1]])[axis].T  # the face's own two axes
    within = np.stack([local[rows, across], local[rows, along]], axis=-1) * 0.49 + 0.5
    uv = (within + np.stack([face % 3, face // 3], axis=-1)) / [3, 2]
    normals = np.zeros_like(local)
    normals[rows, axis] = sign
    return _look_up(prints.box, uv), _out_of_box(normals)


def _paint_ball(points: Float32[np.ndarray, "r 3"], prints: _Prints) -> _Painted:
    normals = (points - _BALL_CENTRE) / np.float32(_BALL_RADIUS)
    azimuth = np.arctan2(normals[:, 1], normals[:, 0]) / (2 * np.pi) + 0.5
    polar = np.arccos(normals[:, 2].clip(-1, 1)) / np.pi
    return _look_up(prints.ball, np.stack([azimuth, polar], axis=-1)), normals


def _paint_pot(points: Float32[np.ndarray, "r 3"], prints: _Prints) -> _Painted:
    """The wall takes the print's upper three quarters, the lid what is below."""
    out = (points[:, :2] - _POT_CENTRE) / np.float32(_POT_RADIUS)
    azimuth = np.arctan2(out[:, 1], out[:, 0]) / (2 * np.pi) + 0.5
    is_lid = points[:, 2] > _POT_HEIGHT - 1e-4
    wall = np.stack([azimuth, 0.74 * points[:, 2] / _POT_HEIGHT], axis=-1)
    lid = np.stack([out[:, 0] * 0.2 + 0.25, out[:, 1] * 0.12 + 0.875], axis=-1)
    normals = np.concatenate([out, np.zeros((len(out), 1), np.float32)], axis=-1)
    normals[is_lid] = [0, 0, 1]
    return _look_up(prints.pot, np.where(is_lid[:, None], lid, wall)), normals


def _look_up(print_: Float32[np.ndarray, "h w 3"], uv: np.ndarray) -> Float32[np.ndarray, "r 3"]:
    """The print at uv in [0, 1] (u across, v down), bilinear, clamped at its edges."""
    height, width, _ = print_.shape
    position = (uv * [width, height] - 0.5).clip(0, [width - 1.001, height - 1.001]).astype(np.float32)
    corner: Int64[np.ndarray, "r 2"] = position.astype(np.int64)
    right, down = np.split(position - corner, 2, axis=-1)
    flat = print_.reshape(-1, 3)
    index = corner[:, 1] * width + corner[:, 0]
    above = flat[index] * (1 - right) + flat[index + 1] * right
    below = flat[index + width] * (1 - right) + flat[index + width + 1] * right
    return above * (1 - down) + below * down


# Prints.

_PALETTES = {
    "floor": ("#f3ece0", "#d9c7ab", "#8a6f52", "#3b2f2a", "#6d8a96", "#c96f4a"),
    "box": ("#f7f3e8", "#1d3557", "#457b9d", "#a8dadc", "#e9c46a", "#0b132b"),
    "ball": ("#fff1d6", "#d62828", "#f77f00", "#fcbf49", "#5a1a1a", "#003049"),
    "pot": ("#f1faee", "#2a9d8f", "#264653", "#8ab17d", "#e76f51", "#10261f"),
}


def _draw_prints(rng: np.random.Generator) -> _Prints:
    """Texels are about 6 thousandths of a unit on every surface, below a 320-pixel photo's 9."""
    return _Prints(
        floor=_print(rng, "floor", (1024, 1024), ((140, 60), (60, 300), (28, 1300), (14, 3500))),
        box=_print(rng, "box", (480, 240), ((50, 30), (24, 220), (12, 900))),
        ball=_print(rng, "ball", (288, 144), ((36, 20), (20, 90), (10, 350))),
        pot=_print(rng, "pot", (208, 112), ((28, 16), (16, 60), (9, 220))),
    )


def _print(
    rng: np.random.Generator, palette: str, size: tuple[int, int], scales: tuple[tuple[int, int], ...]
) -> Float32[np.ndarray, "h w 3"]:
    """Shapes over cloudy paper, big ones first. `scales`: (diameter in texels, how many)."""
    inks = np.array([ImageColor.getrgb(ink) for ink in _PALETTES[palette]])  # [k, 3]
    clouds = Image.fromarray(inks[rng.integers(0, 3, (8, 8))].astype(np.uint8))
    oversize = (2 * size[0], 2 * size[1])  # drawn twice as large: reducing it smooths the shapes' edges
    canvas = clouds.resize(oversize, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    for diameter, count in scales:
        centres = rng.uniform((0, 0), oversize, (count, 2))
        radii = diameter * rng.uniform(0.5, 1.2, count)  # half the diameter, twice the size
        corners = rng.integers(3, 7, count)
        colours = inks[rng.integers(0, len(inks), count)] + rng.integers(-25, 26, (count, 3))
        for centre, radius, number, colour in zip(centres, radii, corners, colours.clip(0, 255), strict=True):
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(number)))
            outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
            draw.polygon([(float(x), float(y)) for x, y in outline], fill=tuple(int(c) for c in colour))
    return np.asarray(canvas.reduce(2), np.float32) / 255
