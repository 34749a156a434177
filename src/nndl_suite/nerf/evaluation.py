"""Scores of a field on photos that it has not seen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from nndl_suite.nerf.lpips import SMALLEST_SIDE, Lpips
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import AnyField, render_view
from nndl_suite.training.watch import Step, Watcher, ignore

Part = Literal["whole photo", "right half"]
"""What of a photo is scored; the right half begins with column w // 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """How near one rendered picture comes to the photo."""

    name: str
    psnr: float
    """dB, on RGB in [0, 1]."""
    ssim: float
    lpips: float | None
    """With SqueezeNet; None without its weights, or where a side has less than 17 pixels."""
    rendered: UInt8[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "h w 3"]
    """The photo; where it has alpha, over the field's background."""
    counted: Bool[np.ndarray, "h w"] | None = None
    """The pixels that the scores are about; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of all photos."""

    images: tuple[ImageScore, ...]
    seconds_per_frame: float
    """Median time to render a picture."""

    @property
    def psnr(self) -> float:
        """Mean of the images' PSNR, in dB."""
        return float(np.mean([image.psnr for image in self.images]))

    @property
    def ssim(self) -> float:
        """Mean of the images' SSIM."""
        return float(np.mean([image.ssim for image in self.images]))

    @property
    def lpips(self) -> float | None:
        """Mean of the images' LPIPS; None where none has one."""
        known = [image.lpips for image in self.images if image.lpips is not None]
        return float(np.mean(known)) if known else None


def evaluate(  # noqa: PLR0913 - what to compare, and who hears of it
    field: AnyField,
    photos: PosedPhotos,
    *,
    lpips: Lpips | None = None,
    part: Part = "whole photo",
    stage: str = "evaluating",
    watch: Watcher = ignore,
) -> Evaluation:
    """Render every photo's view at neutral exposure and compare.

    All scores are taken on the rendered floats, not on rounded bytes: PSNR and SSIM by torchmetrics (`data_range=1`).

    Args:
        field: A trained field.
        photos: What it is compared with; poses are taken as they are, never refined. Where some pixels are not to be
            counted, those of the photo stand in for the rendered ones, and neither PSNR nor SSIM averages over them.
        lpips: From `find_lpips`.
        part: What is scored; pictures are rendered whole, and what is not scored does not count in them either.
        stage: What the watcher is told.
        watch: Told of every photo.
    """
    scores: list[ImageScore] = []
    seconds: list[float] = []
    for index, name in enumerate(photos.names):
        height, width = photos.sizes[index]
        first = int(photos.direction_starts[photos.camera_of[index]])
        directions = photos.directions[first : first + height * width].reshape(height, width, 3)
        start = time.perf_counter()
        rendered = np.clip(render_view(field, directions, photos.field_from_camera[index]).rgb, 0, 1)
        seconds.append(time.perf_counter() - start)
        truth, counted = _truth(photos, index, field), _counted(photos, index)
        first_column = width // 2 if part == "right half" else 0
        if first_column:
            counted = np.ones((height, width), bool) if counted is None else counted.copy()
            counted[:, :first_column] = False
        psnr, ssim, distance = _score_from(first_column, rendered, truth, counted, lpips)
        scores.append(
            ImageScore(
                name=name,
                psnr=psnr,
                ssim=ssim,
                lpips=distance,
                rendered=np.round(rendered * 255).astype(np.uint8),
                truth=np.round(truth * 255).astype(np.uint8),
                counted=counted,
            )
        )
        watch(Step(stage=stage, done=index + 1, total=len(photos.names), metrics={"psnr": psnr}))
    return Evaluation(images=tuple(scores), seconds_per_frame=float(np.median(seconds)))


def _score_from(
    first_column: int,
    rendered: Float32[np.ndarray, "h w 3"],
    truth: Float32[np.ndarray, "h w 3"],
    counted: Bool[np.ndarray, "h w"] | None,
    lpips: Lpips | None,
) -> tuple[float, float, float | None]:
    """As `score_pictures`, of the columns from the first on: cut off, so that no window of SSIM or LPIPS looks back."""
    right = np.s_[:, first_column:]
    some = None if counted is None or counted[right].all() or not counted[right].any() else counted[right]
    return score_pictures(np.ascontiguousarray(rendered[right]), np.ascontiguousarray(truth[right]), some, lpips)


def score_pictures(
    rendered: Float32[np.ndarray, "h w 3"],
    truth: Float32[np.ndarray, "h w 3"],
    counted: Bool[np.ndarray, "h w"] | None,
    lpips: Lpips | None,
) -> tuple[float, float, float | None]:
    """PSNR in dB, SSIM and LPIPS of two pictures in [0, 1], over the counted pixels."""
    if counted is not None:
        rendered = np.where(counted[..., None], rendered, truth)
    ours, photo = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in (rendered, truth))  # [1, 3, h, w]
    enough = min(rendered.shape[:2]) >= SMALLEST_SIDE
    distance = lpips.distance(ours, photo) if lpips is not None and enough else None
    if counted is None:
        ssim = structural_similarity_index_measure(ours, photo, data_range=1.0)
        assert isinstance(ssim, torch.Tensor)  # a tuple only where parts of it are asked for
        return float(peak_signal_noise_ratio(ours, photo, data_range=1.0)), float(ssim), distance
    mask = torch.from_numpy(counted)
    psnr = peak_signal_noise_ratio(ours[..., mask], photo[..., mask], data_range=1.0)
    _, everywhere = structural_similarity_index_measure(ours, photo, data_range=1.0, return_full_image=True)
    return float(psnr), float(everywhere[..., mask].mean()), distance


def evenly_spaced(indices: Sequence[int], most: int) -> tuple[int, ...]:
    """At most `most` of the indices, the same ones every time, spread over them all."""
    count = min(most, len(indices))
    return tuple(indices[int((place + 0.5) * len(indices) / count)] for place in range(count))


def _truth(photos: PosedPhotos, index: int, field: AnyField) -> Float32[np.ndarray, "h w 3"]:
    height, width = photos.sizes[index]
    pixels = photos.pixels[photos.starts[index] : photos.starts[index + 1]].reshape(height, width, -1) / np.float32(255)
    if field.settings.background is None:
        return pixels[..., :3]
    alpha = pixels[..., 3:] if pixels.shape[-1] == 4 else np.ones_like(pixels[..., :1])
    return alpha * pixels[..., :3] + (1 - alpha) * np.array(field.settings.background, np.float32)


def _counted(photos: PosedPhotos, index: int) -> Bool[np.ndarray, "h w"] | None:
    """The photo's pixels that count, or None for all; a photo without any is scored as a whole."""
    if photos.counted is None:
        return None
    counted = photos.counted[photos.starts[index] : photos.starts[index + 1]].reshape(photos.sizes[index])
    return counted if counted.any() else None
