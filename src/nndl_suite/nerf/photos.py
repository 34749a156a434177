"""Posed photos as flat arrays: every pixel of every photo one after the other, whatever their sizes."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image, ImageOps

from nndl_suite.errors import DataError
from nndl_suite.nerf.cameras import Camera, all_pixel_directions
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.scene import Scene
from nndl_suite.training.watch import Step, Watcher, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedPhotos:
    """Photos ready for rays, in the field's frame.

    Pixel `starts[i] + y * w + x` of `pixels` is pixel (y, x) of photo i; its ray leaves `field_from_camera[i][:, 3]`
    along `field_from_camera[i][:, :3] @ directions[direction_starts[camera_of[i]] + y * w + x]`.
    """

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each photo."""
    pixels: UInt8[np.ndarray, "p c"]
    """sRGB, or sRGB and straight alpha where c is 4."""
    starts: Int64[np.ndarray, "n+1"]
    camera_of: Int64[np.ndarray, "n"]
    directions: Float32[np.ndarray, "q 3"]
    """Unit length, in the camera's own frame (OpenCV axes), distortion undone."""
    direction_starts: Int64[np.ndarray, "m+1"]
    field_from_camera: Float32[np.ndarray, "n 3 4"]
    """Rotation (orthonormal, no scale) and centre in field units."""


def load_photos(
    scene: Scene,
    indices: Sequence[int],
    *,
    field_from_world: Similarity,
    max_side: int | None = None,
    watch: Watcher = ignore,
) -> PosedPhotos:
    """Decode some of a scene's photos and set them up for rays.

    Args:
        scene: Where the photos and cameras come from.
        indices: Into `scene.views`; the photos come out in this order.
        field_from_world: From `field_frame`.
        max_side: Longer photos are reduced to this many pixels, each new pixel the mean of those it covers.
        watch: Told about every photo.

    Raises:
        DataError: a photo is missing, unreadable, larger than Pillow decodes (178 megapixels), or of another shape than
            its camera.
        CaptureError: a camera has pixels without a ray.
    """
    views = [scene.views[index] for index in indices]
    if not views:
        raise DataError("no photo was chosen; a fraction or rule must leave at least one on either side")
    cameras = [scene.cameras[view.camera] for view in views]
    images: list[UInt8[np.ndarray, "h w c"]] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = pool.map(_read_photo, [view.image for view in views], cameras, [max_side] * len(views))
        for image in jobs:
            images.append(image)
            watch(Step(stage="loading photos", done=len(images), total=len(views)))
    sizes = tuple((image.shape[0], image.shape[1]) for image in images)
    resized = [camera.resized(width, height) for camera, (height, width) in zip(cameras, sizes, strict=True)]
    distinct = list(dict.fromkeys(resized))
    tables = all_pixel_directions(distinct)
    poses = field_from_world.apply_pose(np.stack([view.world_from_camera for view in views]))
    return PosedPhotos(
        names=tuple(view.name for view in views),
        sizes=sizes,
        pixels=np.concatenate(list(_flat(images))),
        starts=_starts([height * width for height, width in sizes]),
        camera_of=np.array([distinct.index(camera) for camera in resized], dtype=np.int64),
        directions=np.concatenate([table.reshape(-1, 3).astype(np.float32) for table in tables]),
        direction_starts=_starts([camera.height * camera.width for camera in distinct]),
        field_from_camera=poses.astype(np.float32),
    )


def _starts(lengths: Sequence[int]) -> Int64[np.ndarray, "n+1"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _flat(images: Sequence[UInt8[np.ndarray, "h w c"]]) -> Iterator[UInt8[np.ndarray, "p c"]]:
    """Each photo as rows of pixels: with alpha where any photo is anywhere transparent, without where none is."""
    transparent = any(image.shape[2] == 4 and bool((image[..., 3] < 255).any()) for image in images)
    for image in images:
        rows = image.reshape(-1, image.shape[2])
        if not transparent:
            yield rows[:, :3]
        elif image.shape[2] == 4:
            yield rows
        else:
            yield np.concatenate([rows, np.full((len(rows), 1), 255, np.uint8)], axis=1)


def _read_photo(file: Path, camera: Camera, max_side: int | None) -> UInt8[np.ndarray, "h w c"]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is fine, enormous still raises
            with Image.open(file) as opened:
                image = _as_posed(opened, camera, file)
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the photo {file}: {error}") from error
    return np.asarray(_reduced(image, max_side))


def _as_posed(image: Image.Image, camera: Camera, file: Path) -> Image.Image:
    """The photo as its camera saw it: as stored, or turned by EXIF where only that gives the camera's shape."""
    if _same_shape(image, camera):
        return image
    upright = ImageOps.exif_transpose(image)
    if _same_shape(upright, camera):
        return upright
    raise DataError(
        f"{file} is {image.width} x {image.height} pixels, its camera {camera.width} x {camera.height}: "
        "the photo must have the camera's size, or the same shape at another size"
    )


def _same_shape(image: Image.Image, camera: Camera) -> bool:
    """Equal up to scale, give or take the pixel that rounding costs."""
    return abs(image.width * camera.height / camera.width - image.height) <= 1.0 + camera.height / camera.width


def _reduced(image: Image.Image, max_side: int | None) -> Image.Image:
    longest = max(image.size)
    if max_side is None or longest <= max_side:
        return image
    width = max(1, round(image.width * max_side / longest))
    height = max(1, round(image.height * max_side / longest))
    if image.width == width * (longest // max_side) and image.height == height * (longest // max_side):
        return image.reduce(longest // max_side)  # whole blocks: the mean is exact, without a rounding between the axes
    return image.resize((width, height), Image.Resampling.BOX)
