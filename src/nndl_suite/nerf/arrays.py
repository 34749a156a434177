"""Photos and cameras as plain arrays and tensors, for people who bring a model of their own."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor

from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoTensors:
    """`PhotoArrays` for torch: one entry a photo, float32, on the CPU."""

    images: tuple[Float32[Tensor, "c h w"], ...]
    """sRGB in [0, 1]; a fourth channel is straight alpha."""
    intrinsics: Float32[Tensor, "n 3 3"]
    world_from_camera: Float32[Tensor, "n 3 4"]
    directions: tuple[Float32[Tensor, "h w 3"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoArrays:
    """Photos as they are trained on, and their cameras at that size, in the capture's own frame.

    The ray of pixel (y, x) of photo i leaves `world_from_camera[i, :, 3]` along
    `world_from_camera[i, :, :3] @ directions[i][y, x]`; its centre lies at (x + 0.5, y + 0.5).
    """

    names: tuple[str, ...]
    images: tuple[UInt8[np.ndarray, "h w c"], ...]
    """sRGB, or sRGB and straight alpha; one array a photo, as their sizes may differ."""
    counted: tuple[Bool[np.ndarray, "h w"] | None, ...]
    """Which pixels the masks let count; None where all do."""
    cameras: tuple[Camera, ...]
    """Of each photo, with its distortion."""
    intrinsics: Float64[np.ndarray, "n 3 3"]
    """[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels; all there is to say only of a pinhole, NaN of a panorama."""
    world_from_camera: Float64[np.ndarray, "n 3 4"]
    """OpenCV axes (x right, y down, z forward), the capture's own units."""
    directions: tuple[Float32[np.ndarray, "h w 3"], ...]
    """Unit length, in the camera's frame, distortion undone; photos of one camera share an array."""
    train: tuple[int, ...]
    """Places in these arrays of the photos to learn from."""
    test: tuple[int, ...]
    """Those of the photos that are kept for the score."""

    def tensors(self) -> PhotoTensors:
        """For torch; the directions share their memory with these."""
        return PhotoTensors(
            images=tuple(torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in self.images),
            intrinsics=torch.from_numpy(self.intrinsics).float(),
            world_from_camera=torch.from_numpy(self.world_from_camera).float(),
            directions=tuple(torch.from_numpy(table) for table in self.directions),
        )


def photo_arrays(scene: Scene, photos: PosedPhotos, split: tuple[tuple[int, ...], tuple[int, ...]]) -> PhotoArrays:
    """The arrays of all of a scene's photos.

    Args:
        scene: The cameras.
        photos: All its views, in order, at the size that is wanted.
        split: From `hold_out`.
    """
    pixels = np.split(photos.pixels, photos.starts[1:-1])
    counts = [None] * len(pixels) if photos.counted is None else np.split(photos.counted, photos.starts[1:-1])
    cameras = tuple(
        scene.cameras[view.camera].resized(width, height)
        for view, (height, width) in zip(scene.views, photos.sizes, strict=True)
    )
    tables: list[Float32[np.ndarray, "h w 3"]] = []
    for number, start in enumerate(photos.direction_starts[:-1]):
        height, width = photos.sizes[int(np.argmax(photos.camera_of == number))]
        tables.append(photos.directions[start : start + height * width].reshape(height, width, 3))
    return PhotoArrays(
        names=photos.names,
        images=tuple(image.reshape(*size, -1) for image, size in zip(pixels, photos.sizes, strict=True)),
        counted=tuple(
            None if part is None else part.reshape(size) for part, size in zip(counts, photos.sizes, strict=True)
        ),
        cameras=cameras,
        intrinsics=np.stack([_matrix(camera) for camera in cameras]),
        world_from_camera=np.stack([view.world_from_camera for view in scene.views]),
        directions=tuple(tables[camera] for camera in photos.camera_of),
        train=split[0],
        test=split[1],
    )


def _matrix(camera: Camera) -> Float64[np.ndarray, "3 3"]:
    if not camera.num_focals:  # a panorama has no focal length
        return np.full((3, 3), np.nan)
    fx, fy = camera.params[0], camera.params[camera.num_focals - 1]
    cx, cy = camera.params[camera.num_focals : camera.num_focals + 2]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
