"""A machine of toy bricks, part by part, in studs (the pitch of the knobs)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from brick_tracer import BOX, TUBE, Part

Colour = tuple[float, float, float]
YELLOW, RED, BLUE, GREEN = (0.85, 0.52, 0.03), (0.62, 0.03, 0.03), (0.03, 0.13, 0.55), (0.04, 0.32, 0.08)
ORANGE, WHITE, GREY, DARK, TAN = (
    (0.80, 0.22, 0.02),
    (0.80, 0.80, 0.78),
    (0.30, 0.31, 0.33),
    (0.035, 0.035, 0.04),
    (0.62, 0.47, 0.27),
)
PLATE, BRICK, GAP = 0.4, 1.2, 0.03


def box(lo: tuple[float, float, float], hi: tuple[float, float, float], colour: Colour, gloss: float = 0.5) -> Part:
    """A box between two corners."""
    a, b = np.array(lo, float), np.array(hi, float)
    return Part(
        kind=BOX, size=tuple((b - a) / 2), centre=(a + b) / 2, turn=np.eye(3), colour=colour, gloss=gloss, shine=40.0
    )


def tube(
    start: tuple[float, float, float], stop: tuple[float, float, float], outer: float, inner: float, colour: Colour
) -> Part:
    """A tube (a rod where `inner` is 0) from one point to another; rods and rims shine more than bricks."""
    a, b = np.array(start, float), np.array(stop, float)
    axis = (b - a) / np.linalg.norm(b - a)
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    size, turn = (outer, inner, float(np.linalg.norm(b - a) / 2)), np.stack([side, np.cross(axis, side), axis], 1)
    return Part(kind=TUBE, size=size, centre=(a + b) / 2, turn=turn, colour=colour, gloss=0.8, shine=90.0)


def brick(x: float, y: float, z: float, nx: int, ny: int, colour: Colour, height: float = BRICK) -> list[Part]:
    """A brick of nx by ny studs, its lower corner at (x, y, z), with its round studs."""
    body = box((x + GAP, y + GAP, z + GAP / 2), (x + nx - GAP, y + ny - GAP, z + height), colour)
    top = z + height
    knobs = [
        tube((x + i + 0.5, y + j + 0.5, top - 0.05), (x + i + 0.5, y + j + 0.5, top + 0.2), 0.3, 0.0, colour)
        for i in range(nx)
        for j in range(ny)
    ]
    return [body, *(replace(knob, gloss=0.5, shine=40.0) for knob in knobs)]


def turned(parts: list[Part], angle_rad: float, axis: int, pivot: tuple[float, float, float]) -> list[Part]:
    """The parts turned about an axis (0 x, 1 y, 2 z) through a pivot."""
    c, s, (i, j) = np.cos(angle_rad), np.sin(angle_rad), [(1, 2), (2, 0), (0, 1)][axis]
    turn, point = np.eye(3), np.array(pivot)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return [replace(p, centre=turn @ (p.centre - point) + point, turn=turn @ p.turn) for p in parts]


def wall(
    x: float, y: float, z: float, length: int, layers: int, colours: list[Colour], rng: np.random.Generator
) -> list[Part]:
    """Bricks two studs deep along x in a running bond, of lengths 1 to 4."""
    parts = []
    for layer in range(layers):
        start = 0
        while start < length:
            step = int(min(rng.integers(1, 5), length - start))
            parts += brick(x + start, y, z + layer * BRICK, step, 2, colours[rng.integers(len(colours))])
            start += step
    return parts


def wheel(x: float, y: float, z: float, radius: float, width: float, treads: int) -> list[Part]:
    """A tyre with tread blocks, a rim, five spokes and a hub, its axle along y."""
    a, b, c = (x, y, z), (x, y + width, z), (x, y + width / 2, z)
    tyre = replace(tube(a, b, radius, 0.72 * radius, DARK), gloss=0.1, shine=8.0)
    lug = box((x - 0.14, y - 0.05, z + radius - 0.1), (x + 0.14, y + width + 0.05, z + radius + 0.18), DARK, 0.05)
    spoke = tube(c, (x, y + width / 2, z + 0.75 * radius), 0.13 * radius, 0.0, GREY)
    parts = [
        tyre,
        tube(a, b, 0.74 * radius, 0.62 * radius, GREY),
        tube((x, y - 0.15, z), (x, y + width + 0.15, z), 0.25 * radius, 0.1 * radius, RED),
    ]
    for k in range(treads):
        parts += turned([lug], 2 * np.pi * k / treads, 1, a)
    for k in range(5):
        parts += turned([spoke], 2 * np.pi * k / 5, 1, a)
    return parts


def track(y: float, z: float, x0: float, x1: float, radius: float) -> list[Part]:
    """A crawler track two studs wide: links around two sprockets, with three road wheels between."""
    straight, arc = x1 - x0, np.pi * radius
    links, parts = int((2 * straight + 2 * arc) / 0.62), []
    link = [
        box((-0.25, y, -0.09), (0.25, y + 2, 0.09), DARK, 0.15),
        box((-0.07, y - 0.06, 0.05), (0.07, y + 2.06, 0.28), DARK, 0.15),
    ]
    for k in range(links):
        s = k * (2 * straight + 2 * arc) / links
        if s < straight:
            x, up, angle = x0 + s, radius, 0.0
        elif s < straight + arc:
            angle = (s - straight) / radius
            x, up = x1 + radius * np.sin(angle), radius * np.cos(angle)
        elif s < 2 * straight + arc:
            x, up, angle = x1 - (s - straight - arc), -radius, np.pi
        else:
            angle = np.pi + (s - 2 * straight - arc) / radius
            x, up = x0 + radius * np.sin(angle), radius * np.cos(angle)
        shift = np.array([x, 0.0, z + up])
        parts += [replace(p, centre=p.centre + shift) for p in turned(link, angle, 1, (0.0, 0.0, 0.0))]
    for x in np.linspace(x0, x1, 4):
        size = radius - 0.15 if x in (x0, x1) else radius * 0.7
        parts.append(tube((x, y + 0.1, z), (x, y + 1.9, z), size, size * 0.72, GREY))
        parts.append(tube((x, y + 0.4, z), (x, y + 1.6, z), size * 0.74, size * 0.25, YELLOW))
    return parts


def beam(x: float, y: float, z: float, holes: int, colour: Colour) -> list[Part]:
    """A liftarm along x with round holes through y: two thin rails joined by tubes."""
    rails = [box((x, y, z + e), (x + holes, y + 0.9, z + e + 0.12), colour) for e in (0.0, 0.88)]
    rings = [
        tube((x + k + 0.5, y + 0.02, z + 0.5), (x + k + 0.5, y + 0.88, z + 0.5), 0.47, 0.29, colour)
        for k in range(holes)
    ]
    return rails + [replace(ring, gloss=0.5, shine=40.0) for ring in rings]


def boom(x: float, y: float, z: float, bays: int) -> list[Part]:
    """A lattice boom along x: four chords and thin zig-zag braces on its four sides."""
    corners = [(y, z), (y + 1.6, z), (y + 1.6, z + 1.6), (y, z + 1.6)]
    parts = [tube((x, a, b), (x + 1.5 * bays, a, b), 0.12, 0.0, ORANGE) for a, b in corners]
    for k in range(bays):
        left, right = x + 1.5 * k, x + 1.5 * (k + 1)
        for i in range(4):
            (a, b), (c, d) = corners[i], corners[(i + 1) % 4]
            parts.append(tube((left, a, b), (right, c, d), 0.065, 0.0, WHITE))
            parts.append(tube((right, a, b), (right, c, d), 0.065, 0.0, WHITE))
    return parts


def blade(x: float, y: float, z: float, width: int) -> list[Part]:
    """A striped dozer blade of single bricks, leaning back, with teeth and two arms."""
    parts = []
    for j in range(width):
        for layer in range(3):
            parts += brick(x, y + j, z + layer * BRICK, 1, 1, DARK if (j + layer) % 3 == 0 else YELLOW)
        parts.append(box((x + 0.9, y + j + 0.3, z - 0.25), (x + 1.5, y + j + 0.7, z), GREY, 0.8))
    leaning = turned(parts, 0.22, 1, (x, y, z))
    return leaning + beam(x - 5, y + 2, z + 0.5, 5, RED) + beam(x - 5, y + width - 2.9, z + 0.5, 5, RED)


def cabin(x: float, y: float, z: float) -> list[Part]:
    """Pillars, a studded roof, a seat, two levers, a grille and two lamps."""
    parts = brick(x, y, z + 4.8, 5, 4, RED, PLATE)
    for i, j in ((0, 0), (4, 0), (0, 3), (4, 3)):
        for layer in range(4):
            parts += brick(x + i, y + j, z + layer * BRICK, 1, 1, WHITE if layer < 3 else RED)
    parts += brick(x + 1, y + 1, z, 2, 2, BLUE) + brick(x + 1, y + 1, z + BRICK, 1, 2, BLUE)
    parts += [tube((x + 3.6, y + j, z), (x + 3.0, y + j, z + 2.2), 0.08, 0.0, GREY) for j in (1.4, 2.6)]
    parts += [
        box((x + 5.0, y + 0.2 + 0.3 * k, z + 0.1), (x + 5.3, y + 0.32 + 0.3 * k, z + 1.3), GREY, 0.8) for k in range(12)
    ]
    return parts + [tube((x + 4.9, y + j, z + 4.3), (x + 5.35, y + j, z + 4.3), 0.4, 0.26, WHITE) for j in (0.5, 3.5)]


def machine(rng: np.random.Generator) -> list[Part]:
    """The whole machine on its stepped plate, in studs."""
    parts = brick(-11, -7, -0.8, 22, 14, TAN, PLATE)
    parts += brick(-10, -6, -0.4, 20, 12, GREEN, PLATE)
    parts += track(-5.0, 1.7, -5.5, 5.0, 1.5) + track(3.0, 1.7, -5.5, 5.0, 1.5)
    parts += wall(-7, -3, 2.0, 13, 2, [YELLOW, YELLOW, ORANGE, GREY], rng) + wall(-7, -1, 2.0, 13, 2, [YELLOW], rng)
    parts += wall(-7, 1, 2.0, 13, 2, [YELLOW, YELLOW, ORANGE, GREY], rng)
    parts += beam(-7, -3.9, 3.6, 13, BLUE) + beam(-7, 3.0, 3.6, 13, BLUE)
    parts += (
        cabin(-3, -2, 4.4)
        + wall(-7, -3, 4.4, 4, 1, [RED, ORANGE, WHITE], rng)
        + wall(-7, 1, 4.4, 4, 2, [YELLOW, BLUE], rng)
    )
    parts += [
        tube((-6.4 + 0.9 * k, -2.0, 5.4), (-6.4 + 0.9 * k, -2.0, 8.6 - 0.6 * k), 0.32, 0.22, GREY) for k in range(3)
    ]
    parts.append(tube((-6.5, 2.5, 6.6), (-6.9, 2.7, 12.5), 0.06, 0.0, DARK))
    parts += turned(wheel(-8.0, -1.0, 4.4, 2.0, 1.6, 22), np.pi / 2, 2, (-8.0, 0.0, 4.4))
    lattice = boom(3.0, -0.8, 4.6, 7)
    parts += turned(lattice, -0.62, 1, (3.0, 0.0, 4.6)) + brick(2, -1, 4.4, 2, 2, GREY)
    tip = (3.0 + 10.5 * np.cos(0.62), 0.0, 5.4 + 10.5 * np.sin(0.62))
    parts += [tube((tip[0], s, tip[2]), (tip[0], s, 6.5), 0.05, 0.0, DARK) for s in (-0.3, 0.3)]
    parts += brick(tip[0] - 1, -1, 5.0, 2, 2, RED)
    return parts + blade(8.0, -5.0, 0.5, 10)
