"""`poses_bounds.npy` of LLFF (arXiv 1905.00889): one row a photo."""

from pathlib import Path

import numpy as np

from nndl_suite.errors import CaptureError, DataError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.masks import find_masks
from nndl_suite.nerf.photo_files import find_photos
from nndl_suite.nerf.read_transforms import nearest_rotation
from nndl_suite.nerf.scene import PoseReport, Scene, View
from nndl_suite.training.array_files import load_npy


def read_llff(folder: Path) -> Scene:
    """Row i is photo i by name: a 3 x 5 matrix [down, right, backwards, centre, (height, width, focal)], near, far.

    Raises:
        DataError: the array is malformed, or has another number of rows than there are photos.
    """
    file = folder / "poses_bounds.npy"
    try:
        rows = load_npy(file)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
        raise DataError(f"{file} must hold [n, 17] finite numbers, got {rows.dtype} {list(rows.shape)}")
    try:
        photos = sorted(find_photos(folder), key=lambda photo: photo.name)
    except CaptureError as error:
        raise DataError(f"{file} has {len(rows)} poses, but no photos: {error}") from error
    if len(photos) != len(rows):
        raise DataError(f"{file} has {len(rows)} poses for the {len(photos)} photos in {photos[0].parent}")
    masks = find_masks(photos[0].parent, [photo.name for photo in photos])
    cameras: dict[Camera, int] = {}
    views: list[View] = []
    for number, (photo, row) in enumerate(zip(photos, rows.astype(np.float64), strict=True)):
        matrix = row[:15].reshape(3, 5)
        height, width, focal = matrix[:, 4].tolist()
        where = f"{file}, row {number}"
        axes = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2]], axis=1)
        try:
            params = (focal, width / 2, height / 2)
            camera = Camera(model="SIMPLE_PINHOLE", width=round(width), height=round(height), params=params)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        views.append(
            View(
                name=photo.name,
                image=photo,
                camera=cameras.setdefault(camera, len(cameras)),
                world_from_camera=np.concatenate([nearest_rotation(axes, where), matrix[:, 3:4]], axis=1),
                mask=masks.get(photo.name),
            )
        )
    report = PoseReport(registered=len(views), total=len(views), mean_reprojection_error=None)
    return Scene(
        root=folder, cameras=tuple(cameras), views=tuple(views), test_names=frozenset(), points=None, poses=report
    )
