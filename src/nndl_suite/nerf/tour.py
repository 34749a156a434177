"""In which order a camera visits the places where photos were taken."""

import numpy as np
from jaxtyping import Float64, Int64

_LEAP = 5.0
"""A step that many times as long as most photos are from their nearest neighbour leaps over ground nobody saw."""
_SWEEPS = 30
"""Rounds of mending a tour at most; a few do."""
_STARTS = 12
"""Photos that a greedy tour is begun at; the best tour is taken."""


def visit(cameras: Float64[np.ndarray, "n 3 4"]) -> Int64[np.ndarray, "n"]:
    """The order in which to fly through all cameras: as they are, where no step leaps; else a short tour of them.

    Whoever filmed walked from photo to photo, and that walk is the best way to see them again. Photos of several walks,
    or with names in no order, make it leap: through places without photos, or through the object. Then they are visited
    so that the squares of the steps sum to little, which rather takes many short steps than a long one (greedily from
    some of them, then by turning stretches round, 2-opt).

    Args:
        cameras: Poses in any frame, in the photos' order.

    Returns:
        Every index once.
    """
    apart = steps_between(cameras)
    order = np.arange(len(cameras))
    if len(cameras) < 4 or not _leaps(apart):
        return order
    squares = apart**2
    starts = [_greedy(squares, first) for first in order[:: -(-len(order) // _STARTS)]]
    tours = [_mended(start, squares) for start in (order, *starts)]
    best = min(tours, key=lambda tour: float(squares[tour[:-1], tour[1:]].sum()))
    return best if best[0] < best[-1] else best[::-1]


def steps_between(cameras: Float64[np.ndarray, "n 3 4"]) -> Float64[np.ndarray, "n n"]:
    """How long a step from each camera to each other is: the way, in radii of the capture, and the turn in radians."""
    centres = cameras[:, :, 3]
    radius = float(np.linalg.norm(centres - centres.mean(axis=0), axis=-1).max()) or 1.0
    way = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    rotations = cameras[:, :, :3].reshape(len(cameras), 9)
    cosine = (rotations @ rotations.T - 1) / 2  # the trace of one's inverse times the other
    return way / radius + np.arccos(cosine.clip(-1, 1))


def _leaps(apart: Float64[np.ndarray, "n n"]) -> bool:
    steps = np.diagonal(apart, offset=1)
    others = apart + np.diag(np.full(len(apart), np.inf))
    return float(steps.max()) > _LEAP * float(np.median(others.min(axis=1)))


def _greedy(squares: Float64[np.ndarray, "n n"], first: int) -> Int64[np.ndarray, "n"]:
    """From one always on to the nearest that has not been visited."""
    left = squares.copy()
    tour = [first]
    for _ in range(len(squares) - 1):
        left[:, tour[-1]] = np.inf
        tour.append(int(left[tour[-1]].argmin()))
    return np.array(tour)


def _mended(tour: Int64[np.ndarray, "n"], squares: Float64[np.ndarray, "n n"]) -> Int64[np.ndarray, "n"]:
    """Stretches turned round for as long as that helps."""
    nowhere = len(tour)  # before the first and behind the last: a step to it costs nothing
    cost = np.pad(squares, (0, 1))
    tour = np.concatenate([[nowhere], tour, [nowhere]])
    for _ in range(_SWEEPS):
        turned = False
        for first in range(1, nowhere):
            before, start, ends, behind = tour[first - 1], tour[first], tour[first + 1 : -1], tour[first + 2 :]
            saved = cost[before, start] + cost[ends, behind] - cost[before, ends] - cost[start, behind]
            best = int(saved.argmax())
            if saved[best] > 1e-12:
                last = first + 1 + best
                tour[first : last + 1] = tour[first : last + 1][::-1]
                turned = True
        if not turned:
            break
    return tour[1:-1]
