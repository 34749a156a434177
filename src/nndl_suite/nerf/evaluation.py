"""Scores of a field on photos that it has not seen."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from nndl_suite.nerf.field import Field
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import render_view
from nndl_suite.training.watch import Step, Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """How near one rendered picture comes to the photo."""

    name: str
    psnr: float
    """dB, on RGB in [0, 1]."""
    ssim: float
    rendered: UInt8[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "h w 3"]
    """The photo; where it has alpha, over the field's background."""


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


def evaluate(field: Field, photos: PosedPhotos, *, watch: Watcher = ignore) -> Evaluation:
    """Render every photo's view at neutral exposure and compare.

    PSNR and SSIM (torchmetrics, `data_range=1`) are taken on the rendered floats, not on rounded bytes.

    Args:
        field: A trained field.
        photos: What it is compared with; poses are taken as they are, never refined.
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
        scores.append(_score(name, rendered, _truth(photos, index, field)))
        watch(Step(stage="evaluating", done=index + 1, total=len(photos.names), metrics={"psnr": scores[-1].psnr}))
    return Evaluation(images=tuple(scores), seconds_per_frame=float(np.median(seconds)))


def _truth(photos: PosedPhotos, index: int, field: Field) -> Float32[np.ndarray, "h w 3"]:
    height, width = photos.sizes[index]
    pixels = photos.pixels[photos.starts[index] : photos.starts[index + 1]].reshape(height, width, -1) / np.float32(255)
    if field.settings.background is None:
        return pixels[..., :3]
    alpha = pixels[..., 3:] if pixels.shape[-1] == 4 else np.ones_like(pixels[..., :1])
    return alpha * pixels[..., :3] + (1 - alpha) * np.array(field.settings.background, np.float32)


def _score(name: str, rendered: Float32[np.ndarray, "h w 3"], truth: Float32[np.ndarray, "h w 3"]) -> ImageScore:
    ours, photo = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in (rendered, truth))  # [1, 3, h, w]
    ssim = structural_similarity_index_measure(ours, photo, data_range=1.0)
    assert isinstance(ssim, torch.Tensor)  # a tuple only where parts of it are asked for
    return ImageScore(
        name=name,
        psnr=float(peak_signal_noise_ratio(ours, photo, data_range=1.0)),
        ssim=float(ssim),
        rendered=np.round(rendered * 255).astype(np.uint8),
        truth=np.round(truth * 255).astype(np.uint8),
    )
