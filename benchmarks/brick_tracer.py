"""A small ray tracer for boxes and tubes: a bounding-volume tree, hard shadows, Blinn-Phong, adaptive antialiasing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

BOX, TUBE = 0, 1
FAR = 1e30
NOWHERE = np.zeros(3)
SUN = np.array([0.45, -0.55, 0.70])
SKY = np.array(
    [[-0.75, -0.35, 0.55], [0.2, 0.85, 0.5], [0.1, 0.05, 0.99]]
)  # three weak lights instead of noisy occlusion
SKY_SHARE = np.array([0.30, 0.25, 0.45])


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A box (`size`: half extents) or a tube along its own z (`size`: outer radius, inner radius, half length)."""

    kind: int
    size: tuple[float, float, float]
    centre: np.ndarray
    """[3], in the frame of the whole."""
    turn: np.ndarray
    """[3, 3]; columns are the part's own axes."""
    colour: tuple[float, float, float]
    """Linear RGB albedo."""
    gloss: float
    """Strength of the highlight."""
    shine: float
    """Exponent of the highlight."""


def bounds(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the axis-aligned box around a part."""
    half = part.size if part.kind == BOX else (part.size[0], part.size[0], part.size[2])
    reach = np.abs(part.turn) @ np.asarray(half) + 1e-6
    return part.centre - reach, part.centre + reach


def build_tree(lows: np.ndarray, highs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median splits along the widest side: order [p], boxes [n, 2, 3], (first part or right child, count) [n, 2]."""
    order, boxes, links = np.arange(len(lows)), [], []

    def split(start: int, stop: int) -> int:
        node, span = len(boxes), order[start:stop].copy()
        boxes.append((lows[span].min(0), highs[span].max(0)))
        links.append([start, stop - start])
        if stop - start > 3:
            middle = (lows[span] + highs[span]) / 2
            order[start:stop] = span[np.argsort(middle[:, np.ptp(middle, axis=0).argmax()], kind="stable")]
            split(start, (start + stop) // 2)
            links[node] = [split((start + stop) // 2, stop), 0]
        return node

    split(0, len(lows))
    return order, np.array(boxes), np.array(links)


def pack(parts: list[Part]) -> tuple[np.ndarray, ...]:
    """Arrays that the compiled code reads, the parts in the order of the tree's leaves."""
    lows, highs = (np.array(corner) for corner in zip(*map(bounds, parts), strict=True))
    order, boxes, links = build_tree(lows, highs)
    sorted_parts = [parts[i] for i in order]
    kinds = np.array([part.kind for part in sorted_parts])
    sizes = np.array([part.size for part in sorted_parts])
    centres = np.array([part.centre for part in sorted_parts])
    turns = np.array([part.turn for part in sorted_parts])
    looks = np.array([(*part.colour, part.gloss, part.shine) for part in sorted_parts])
    return kinds, sizes, centres, turns, looks, boxes, links


@njit(cache=True, fastmath=True)
def _box_distance(p, d, size):
    near, far = -FAR, FAR
    for k in range(3):
        inverse = 1.0 / d[k] if abs(d[k]) > 1e-12 else FAR
        a, b = (-size[k] - p[k]) * inverse, (size[k] - p[k]) * inverse
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near if far >= near and near > 1e-5 else FAR


@njit(cache=True, fastmath=True)
def _tube_distance(p, d, size):
    """First of: outer wall from outside, inner wall from inside, the two rings at the ends."""
    outer, inner, half = size
    best = FAR
    a, b = d[0] * d[0] + d[1] * d[1], p[0] * d[0] + p[1] * d[1]
    square = p[0] * p[0] + p[1] * p[1]
    if a > 1e-12:
        root = b * b - a * (square - outer * outer)
        if root > 0.0:
            t = (-b - np.sqrt(root)) / a
            if t > 1e-5 and abs(p[2] + t * d[2]) < half:
                best = t
        root = b * b - a * (square - inner * inner)
        if inner > 0.0 and root > 0.0:
            t = (-b + np.sqrt(root)) / a
            if 1e-5 < t < best and abs(p[2] + t * d[2]) < half:
                best = t
    if abs(d[2]) > 1e-12:
        for side in (-half, half):
            t = (side - p[2]) / d[2]
            radius2 = (p[0] + t * d[0]) ** 2 + (p[1] + t * d[1]) ** 2
            if 1e-5 < t < best and inner * inner <= radius2 <= outer * outer:
                best = t
    return best


@njit(cache=True, fastmath=True)
def _local(vector, origin, turn, out):
    x, y, z = vector[0] - origin[0], vector[1] - origin[1], vector[2] - origin[2]
    for k in range(3):
        out[k] = turn[0, k] * x + turn[1, k] * y + turn[2, k] * z


@njit(cache=True, fastmath=True)
def _enters(box, origin, inverse, limit):
    near, far = 0.0, limit
    for k in range(3):
        a, b = (box[0, k] - origin[k]) * inverse[k], (box[1, k] - origin[k]) * inverse[k]
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near <= far


@njit(cache=True, fastmath=True)
def _hit(scene, origin, direction, enough, scratch):
    """Distance and index of the nearest part (FAR, -1 if none); any part nearer than `enough` ends the search."""
    kinds, sizes, centres, turns, _, boxes, links = scene
    inverse, p, d, stack = scratch[0], scratch[1], scratch[2], scratch[3]
    for k in range(3):
        inverse[k] = 1.0 / direction[k] if abs(direction[k]) > 1e-12 else FAR
    best, found, top = FAR, -1, 1
    stack[0] = 0.0
    while top > 0:
        top -= 1
        node = int(stack[top])
        if not _enters(boxes[node], origin, inverse, best):
            continue
        first, count = links[node]
        if count == 0:
            stack[top], stack[top + 1] = first, node + 1
            top += 2
        for i in range(first, first + count):
            _local(origin, centres[i], turns[i], p)
            _local(direction, NOWHERE, turns[i], d)
            t = _box_distance(p, d, sizes[i]) if kinds[i] == BOX else _tube_distance(p, d, sizes[i])
            if t < best:
                best, found = t, i
                if best < enough:
                    return best, found
    return best, found


@njit(cache=True, fastmath=True)
def _normal(kind, size, centre, turn, point):
    p, n = np.zeros(3), np.zeros(3)
    _local(point, centre, turn, p)
    if kind == BOX:
        k = np.argmin(size - np.abs(p))
        n[k] = np.sign(p[k])
    elif size[2] - abs(p[2]) < 1e-6:
        n[2] = np.sign(p[2])
    else:
        radius = np.hypot(p[0], p[1])
        side = 1.0 if radius > 0.5 * (size[0] + size[1]) else -1.0
        n[0], n[1] = side * p[0] / radius, side * p[1] / radius
    return turn @ n


@njit(cache=True, fastmath=True)
def _shade(scene, origin, direction, lights, scratch, out):
    """Writes linear RGB and coverage of one ray: [4]."""
    t, i = _hit(scene, origin, direction, 0.0, scratch)
    out[:] = 0.0
    if i < 0:
        return
    kinds, sizes, centres, turns, looks, _, _ = scene
    sun, sky, shares = lights
    point = origin + t * direction
    normal = _normal(kinds[i], sizes[i], centres[i], turns[i], point)
    start = point + 1e-4 * normal
    light, glint = 0.10 + 0.08 * normal[2], 0.0
    if normal @ sun > 0.0 and _hit(scene, start, sun, FAR, scratch)[1] < 0:
        light += 0.75 * (normal @ sun)
        half = sun - direction
        glint = looks[i, 3] * max(normal @ half / np.sqrt(half @ half), 0.0) ** looks[i, 4]
    for s in range(len(sky)):
        if normal @ sky[s] > 0.0 and _hit(scene, start, sky[s], FAR, scratch)[1] < 0:
            light += 0.45 * shares[s] * (normal @ sky[s])
    mirrored = direction - 2.0 * (normal @ direction) * normal
    grazing = 0.04 + 0.96 * (1.0 + normal @ direction) ** 5  # Schlick's reflectance of a plastic
    glint += looks[i, 3] * grazing * max(mirrored[2], 0.0) * 0.5
    for k in range(3):
        out[k] = looks[i, k] * light + glint
    out[3] = 1.0


@njit(cache=True, parallel=True)
def trace(scene, world_from_camera, focal, side, offsets, chosen, lights):
    """Mean of one ray per offset for the chosen pixels [h, w]: linear RGB times coverage, and coverage; [h, w, 4]."""
    picture, turn, centre = np.zeros((side, side, 4)), world_from_camera[:3, :3].copy(), world_from_camera[:3, 3].copy()
    for row in prange(side):
        scratch, sample = np.zeros((4, 64)), np.zeros(4)
        for column in range(side):
            if not chosen[row, column]:
                continue
            for k in range(len(offsets)):
                x = (column + offsets[k, 0] - side / 2) / focal
                y = (side / 2 - row - offsets[k, 1]) / focal
                direction = turn @ np.array([x, y, -1.0])
                direction /= np.sqrt(direction @ direction)
                _shade(scene, centre, direction, lights, scratch, sample)
                picture[row, column] += sample / len(offsets)
    return picture


def photograph(scene: tuple[np.ndarray, ...], world_from_camera: np.ndarray, focal: float, side: int) -> np.ndarray:
    """RGBA uint8 [side, side, 4], sRGB with straight alpha; pixels on an edge get 3 x 3 rays."""
    lights = (SUN / np.linalg.norm(SUN), SKY / np.linalg.norm(SKY, axis=1, keepdims=True), SKY_SHARE)
    view = (scene, world_from_camera, focal, side)
    rough = trace(*view, np.array([[0.5, 0.5]]), np.ones((side, side), bool), lights)
    edges = np.zeros((side, side), bool)
    for axis in (0, 1):
        jump = (np.abs(np.diff(np.sqrt(rough), axis=axis)) > 0.06).any(-1)
        edges |= np.insert(jump, 0, False, axis=axis) | np.insert(jump, jump.shape[axis], False, axis=axis)
    grid = (np.stack(np.meshgrid(np.arange(3), np.arange(3)), -1).reshape(-1, 2) + 0.5) / 3
    fine = trace(*view, grid, edges, lights)
    picture = np.where(edges[..., None], fine, rough)
    alpha = picture[..., 3:]
    linear = np.clip(picture[..., :3] / np.maximum(alpha, 1e-6), 0, 1)
    colour = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(np.concatenate([colour, alpha], -1) * 255).astype(np.uint8)
