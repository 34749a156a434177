"""Scores against hand-made pictures."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from nndl_suite.nerf.evaluation import evaluate, evenly_spaced, score_pictures
from nndl_suite.nerf.field import FieldSettings, new_field
from nndl_suite.nerf.lpips import Lpips
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


def _noisy(seed: int, size: tuple[int, int] = (40, 56)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((*size, 3)).astype(np.float32)
    return (truth + rng.normal(0, 0.1, truth.shape).astype(np.float32)).clip(0, 1), truth


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_torchmetrics_own(seed: int):
    rendered, truth = _noisy(seed)
    ours, photo = (torch.from_numpy(picture.transpose(2, 0, 1)[None]) for picture in (rendered, truth))
    psnr, ssim = PeakSignalNoiseRatio(data_range=1.0), StructuralSimilarityIndexMeasure(data_range=1.0)
    scored = score_pictures(rendered, truth, None, None)
    assert scored[0] == pytest.approx(float(psnr(ours, photo)), abs=1e-4)
    assert scored[1] == pytest.approx(float(ssim(ours, photo)), abs=1e-5)
    assert scored[2] is None
    everything = score_pictures(rendered, truth, np.ones(truth.shape[:2], bool), None)
    assert everything[:2] == pytest.approx(scored[:2], abs=1e-5)


def test_what_is_not_counted_cannot_change_a_score():
    rendered, truth = _noisy(0)
    counted = np.ones(truth.shape[:2], bool)
    counted[:, :20] = False
    scores = score_pictures(rendered, truth, counted, None)
    errors = ((rendered - truth)[:, 20:].astype(np.float64) ** 2).mean()
    assert scores[0] == pytest.approx(-10 * math.log10(errors), abs=1e-4)
    spoilt = rendered.copy()
    spoilt[:, :20] = 0
    assert score_pictures(spoilt, truth, counted, None) == scores
    assert score_pictures(spoilt, truth, None, None)[0] < scores[0] - 1
    far = score_pictures(rendered[:, 26:], truth[:, 26:], None, None)[1]  # the window of SSIM reaches over five pixels
    assert scores[1] == pytest.approx(far, abs=0.05)


def test_means_and_missing_lpips():
    pixels = np.zeros((2, H, W, 3), np.uint8)
    assert evaluate(_grey_field(None), _photos(pixels)).lpips is None

    class Always(Lpips):
        def distance(self, rendered: torch.Tensor, truth: torch.Tensor) -> float:
            return 0.25

    assert evaluate(_grey_field(None), _photos(pixels), lpips=Always(torch.nn.Sequential(), ())).lpips == 0.25


def test_a_few_are_spread_over_all():
    assert evenly_spaced(range(100, 108), 2) == (102, 106)
    assert evenly_spaced((3, 5, 9), 8) == (3, 5, 9)
    assert len(set(evenly_spaced(range(57), 8))) == 8
