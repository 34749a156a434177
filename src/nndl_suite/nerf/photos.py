"""Posed photos as flat arrays: every pixel of every photo one after the other, whatever their sizes."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import ExifTags, Image, ImageOps

from nndl_suite.errors import CaptureError, DataError
from nndl_suite.nerf.cameras import Camera, directions_where_any
from nndl_suite.nerf.decode import UNREADABLE, as_8_bit, open_photo, reason
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.masks import counting, read_mask, same_shape
from nndl_suite.nerf.scene import Scene, View
from nndl_suite.training.watch import Step, Watcher, ignore

_AHEAD = np.array([0.0, 0.0, 1.0])
_BACK = {6: 8, 8: 6}  # the EXIF orientations that undo one another; all others undo themselves


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
    counted: Bool[np.ndarray, "p"] | None = None
    """Which pixels the masks let count; None where all do. A reduced pixel counts if all that it covers does. A pixel
    without a ray (in the corners of a fisheye photo) never counts, and its direction says nothing."""


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
        DataError: a photo or mask is missing, unreadable, larger than Pillow decodes (178 megapixels), or of another
            shape than its camera.
        CaptureError: most pixels of a camera have no ray.
    """
    views = [scene.views[index] for index in indices]
    if not views:
        raise DataError("no photo was chosen; a fraction or rule must leave at least one on either side")
    cameras = [scene.cameras[view.camera] for view in views]
    images: list[UInt8[np.ndarray, "h w c"]] = []
    masks: list[Bool[np.ndarray, "h w"] | None] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for image, mask in pool.map(_read_view, views, cameras, [max_side] * len(views)):
            images.append(image)
            masks.append(mask)
            watch(Step(stage="loading photos", done=len(images), total=len(views)))
    sizes = tuple((image.shape[0], image.shape[1]) for image in images)
    resized = [camera.resized(width, height) for camera, (height, width) in zip(cameras, sizes, strict=True)]
    distinct = list(dict.fromkeys(resized))
    tables = directions_where_any(distinct)
    rays = [~np.isnan(table[..., 0]) for table in tables]  # [h, w] each
    _check_rays(distinct, rays)
    camera_of = [distinct.index(camera) for camera in resized]
    poses = field_from_world.apply_pose(np.stack([view.world_from_camera for view in views]))
    return PosedPhotos(
        names=tuple(view.name for view in views),
        sizes=sizes,
        pixels=np.concatenate(list(_flat(images))),
        starts=_starts([height * width for height, width in sizes]),
        camera_of=np.array(camera_of, dtype=np.int64),
        directions=np.concatenate(
            [
                np.where(has_ray[..., None], table, _AHEAD).reshape(-1, 3).astype(np.float32)
                for table, has_ray in zip(tables, rays, strict=True)
            ]
        ),
        direction_starts=_starts([camera.height * camera.width for camera in distinct]),
        field_from_camera=poses.astype(np.float32),
        counted=_counted([_both(mask, rays[camera]) for mask, camera in zip(masks, camera_of, strict=True)]),
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


def _check_rays(cameras: Sequence[Camera], rays: Sequence[Bool[np.ndarray, "h w"]]) -> None:
    for camera, has_ray in zip(cameras, rays, strict=True):
        if has_ray.mean() < 0.5:
            raise CaptureError(
                f"{int((~has_ray).sum())} of the {camera.width} x {camera.height} pixels of a {camera.model} camera "
                f"have no ray; its parameters {camera.params} are not those of these photos"
            )


def _both(mask: Bool[np.ndarray, "h w"] | None, has_ray: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    return has_ray if mask is None else mask & has_ray


def _counted(masks: Sequence[Bool[np.ndarray, "h w"]]) -> Bool[np.ndarray, "p"] | None:
    if all(mask.all() for mask in masks):
        return None
    return np.concatenate([mask.ravel() for mask in masks])


def _read_view(
    view: View, camera: Camera, max_side: int | None
) -> tuple[UInt8[np.ndarray, "h w c"], Bool[np.ndarray, "h w"] | None]:
    """A photo and its mask, reduced."""
    try:
        with open_photo(view.image) as opened:
            posed, turn = _as_posed(opened, camera, view.image)
            image = as_8_bit(posed)
    except UNREADABLE as error:
        raise DataError(f"cannot read the photo {view.image}: {reason(error, view.image)}") from error
    pixels = np.asarray(_reduced(image, max_side))
    if view.mask is None:
        return pixels, None
    return pixels, counting(_reduced(read_mask(view.mask, image.size, turn), max_side))


def _as_posed(image: Image.Image, camera: Camera, file: Path) -> tuple[Image.Image, int]:
    """The photo as its camera saw it: as stored, or turned by EXIF where only that gives the camera's shape.

    Also the EXIF orientation by which a mask of another shape would have to be turned.
    """
    wanted = (camera.width, camera.height)
    turn = int(image.getexif().get(ExifTags.Base.Orientation) or 1)
    if same_shape(image.size, wanted):
        return image, _BACK.get(turn, turn)
    upright = ImageOps.exif_transpose(image)
    if same_shape(upright.size, wanted):
        return upright, turn
    raise DataError(
        f"{file} is {image.width} x {image.height} pixels, its camera {camera.width} x {camera.height}: "
        "the photo must have the camera's size, or the same shape at another size"
    )


def reduced_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Width and height that a photo of `size` is reduced to."""
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    return max(1, round(size[0] * max_side / longest)), max(1, round(size[1] * max_side / longest))


def _reduced(image: Image.Image, max_side: int | None) -> Image.Image:
    width, height = reduced_size(image.size, max_side)
    if max_side is None or (width, height) == image.size:
        return image
    longest = max(image.size)
    if image.width == width * (longest // max_side) and image.height == height * (longest // max_side):
        return image.reduce(longest // max_side)  # whole blocks: the mean is exact, without a rounding between the axes
    return image.resize((width, height), Image.Resampling.BOX)
