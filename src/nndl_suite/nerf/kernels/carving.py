# pyright: basic
# ruff: noqa: PLR0913
# Types are numba's, found at the first call, and kernels fill arrays that they are given.
"""Carving a block of space by silhouettes."""

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True)
def carve(corner, cell, side, poses, pinholes, masks, starts, sizes, kept):
    """Find the cells whose middle every photo that sees it shows inside the silhouette.

    Args:
        corner: float32 [3], the least corner of the block, which has `side` cells of size `cell` along each axis.
        cell, side: See `corner`.
        poses: float32 [n, 3, 4], rotation and centre of each camera, OpenCV axes.
        pinholes: float32 [n, 4], fx, fy, cx, cy in pixels.
        masks: uint8 [p], the photos' silhouettes, one after the other.
        starts: int64 [n], where each photo's begins.
        sizes: int64 [n, 2], height and width.
        kept: uint8 [side**3], x fastest, filled: 1 where at least half of the photos see the cell and all that do show
            it inside.
    """
    n = poses.shape[0]
    for plane in prange(side * side):
        y = corner[1] + (plane % side + 0.5) * cell
        z = corner[2] + (plane // side + 0.5) * cell
        for i in range(side):
            x = corner[0] + (i + 0.5) * cell
            seen, inside = 0, True
            for photo in range(n):
                pose = poses[photo]
                dx, dy, dz = x - pose[0, 3], y - pose[1, 3], z - pose[2, 3]
                depth = pose[0, 2] * dx + pose[1, 2] * dy + pose[2, 2] * dz
                if depth <= 0:
                    continue
                u = (pose[0, 0] * dx + pose[1, 0] * dy + pose[2, 0] * dz) / depth * pinholes[photo, 0]
                v = (pose[0, 1] * dx + pose[1, 1] * dy + pose[2, 1] * dz) / depth * pinholes[photo, 1]
                column = np.int64(np.floor(u + pinholes[photo, 2]))
                row = np.int64(np.floor(v + pinholes[photo, 3]))
                if 0 <= row < sizes[photo, 0] and 0 <= column < sizes[photo, 1]:
                    seen += 1
                    if masks[starts[photo] + row * sizes[photo, 1] + column] == 0:
                        inside = False
                        break
            kept[plane * side + i] = 1 if inside and 2 * seen >= n else 0
