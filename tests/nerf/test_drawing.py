"""Which pixels are drawn: those that count, and of an object those that show it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nndl_suite.errors import DataError
from nndl_suite.nerf.drawing import draw_pixels, pixel_pools
from nndl_suite.nerf.photos import PosedPhotos

SIZE = 50


def _photos() -> PosedPhotos:
    """Two photos of a square that takes their middle ninth."""
    alpha = np.zeros((SIZE, SIZE), np.uint8)
    alpha[20:30, 20:30] = 255
    pixels = np.concatenate([np.zeros((SIZE * SIZE, 3), np.uint8), alpha.reshape(-1, 1)], axis=1)
    return PosedPhotos(
        names=("a.png", "b.png"),
        sizes=((SIZE, SIZE),) * 2,
        pixels=np.concatenate([pixels, pixels]),
        starts=np.array([0, SIZE * SIZE, 2 * SIZE * SIZE]),
        camera_of=np.zeros(2, np.int64),
        directions=np.tile(np.array([[0, 0, 1]], np.float32), (SIZE * SIZE, 1)),
        direction_starts=np.array([0, SIZE * SIZE]),
        field_from_camera=np.tile(np.eye(3, 4, dtype=np.float32), (2, 1, 1)),
    )


def _drawn(photos: PosedPhotos, bound: float | None, rays: int = 4000) -> np.ndarray:
    return draw_pixels(pixel_pools(photos, bound), rays, torch.Generator().manual_seed(0))


def test_every_pixel_is_as_likely_as_any_other():
    drawn = _drawn(_photos(), None, 500_000)
    counts = np.bincount(drawn, minlength=2 * SIZE * SIZE)
    assert counts.sum() == 500_000
    assert (((counts - 100) ** 2) / 100).mean() == pytest.approx(1, abs=0.06)  # as a chi-square wants it


def test_an_object_in_a_ball_gets_nine_rays_of_ten():
    photos = _photos()
    drawn = _drawn(photos, 1.0)
    row, column = drawn % (SIZE * SIZE) // SIZE, drawn % SIZE
    near = (abs(row - 24.5) < 6.6) & (abs(column - 24.5) < 6.6)  # the square and a margin of a pixel
    assert near.mean() == pytest.approx(0.9, abs=0.01)
    assert len(drawn) == 4000


@pytest.mark.parametrize("bound", [None, 1.0])
def test_what_a_mask_hides_is_never_drawn(bound: float | None):
    photos = _photos()
    counted = np.random.default_rng(0).random(len(photos.pixels)) < 0.5
    drawn = _drawn(replace(photos, counted=counted), bound)
    assert counted[drawn].all()
    assert len(np.unique(drawn)) > 200


@pytest.mark.parametrize("bound", [None, 1.0])
def test_masks_that_hide_everything_are_told(bound: float | None):
    with pytest.raises(DataError, match="no pixel"):
        pixel_pools(replace(_photos(), counted=np.zeros(2 * SIZE * SIZE, bool)), bound)
