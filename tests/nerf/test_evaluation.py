"""Scores against hand-made pictures."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from nndl_suite.nerf.evaluation import evaluate
from nndl_suite.nerf.field import FieldSettings, new_field
from nndl_suite.nerf.photos import PosedPhotos

H, W = 20, 30


def _photos(pixels: np.ndarray) -> PosedPhotos:
    count = len(pixels)
    directions = np.random.default_rng(0).normal(size=(H * W, 3))
    return PosedPhotos(
        names=tuple(f"{i}.png" for i in range(count)),
        sizes=((H, W),) * count,
        pixels=pixels.reshape(count * H * W, -1),
        starts=np.arange(count + 1) * H * W,
        camera_of=np.zeros(count, np.int64),
        directions=(directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32),
        direction_starts=np.array([0, H * W]),
        field_from_camera=np.tile(np.eye(3, 4, dtype=np.float32), (count, 1, 1)),
    )


def _grey_field(background: tuple[float, float, float] | None):
    field = new_field(FieldSettings(log2_rows=8, finest=64, background=background), seed=0)
    field.weights[:] = 0  # sigmoid(0): mid-grey everywhere
    return field


def test_scores_are_means_of_the_images_own():
    rng = np.random.default_rng(0)
    pixels = np.stack([np.full((H, W, 3), 255), rng.integers(0, 256, (H, W, 3))]).astype(np.uint8)
    told = []
    score = evaluate(_grey_field(None), _photos(pixels), watch=told.append)
    expected = [-10 * math.log10(((photo / 255 - 0.5) ** 2).mean()) for photo in pixels]
    assert [image.psnr for image in score.images] == pytest.approx(expected, abs=1e-3)
    assert score.psnr == pytest.approx(np.mean(expected), abs=1e-3)
    assert score.ssim == pytest.approx(np.mean([image.ssim for image in score.images]))
    ours = structural_similarity(
        pixels[1] / 255, np.full((H, W, 3), 0.5), data_range=1.0, channel_axis=2,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert score.images[1].ssim == pytest.approx(ours, abs=0.02)
    assert score.images[0].rendered.shape == (H, W, 3)
    assert score.images[0].rendered.dtype == np.uint8
    np.testing.assert_array_equal(score.images[1].truth, pixels[1])
    assert score.seconds_per_frame > 0
    assert [step.done for step in told] == [1, 2]


def test_photos_with_alpha_are_compared_over_the_fields_background():
    pixels = np.zeros((1, H, W, 4), np.uint8)
    pixels[0, : H // 2] = 255
    score = evaluate(_grey_field((0.0, 1.0, 0.0)), _photos(pixels))
    np.testing.assert_array_equal(score.images[0].truth[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(score.images[0].truth[-1, 0], [0, 255, 0])
