"""Masks beside photos: white where a photo counts, black where it does not (COLMAP's and nerfstudio's convention)."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Bool
from PIL import Image

from nndl_suite.errors import CaptureError, DataError
from nndl_suite.nerf.decode import UNREADABLE, as_8_bit, open_photo, reason

_COUNTS_FROM = 128  # of 255: between the two that a mask should have, for those that were saved as JPEG
_HOLDS_PHOTOS = frozenset({"images", "input"})
_QUARTER_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def find_masks(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The masks of the photos in a folder, by the photos' names; empty where there is no `masks` folder.

    A mask lies in `masks` inside the photos' folder, or beside that if it is called `images` or `input`. It is called
    like its photo with ".png" after it (COLMAP's way), or like its photo, or has the photo's name up to the ending
    where no two photos share that.

    Raises:
        CaptureError: there is such a folder, but no file in it is named after a photo.
    """
    stems = Counter(str(PurePath(name).with_suffix("")) for name in names)
    for place in (folder / "masks", *([folder.parent / "masks"] if folder.name in _HOLDS_PHOTOS else [])):
        if not place.is_dir():
            continue
        found: dict[str, Path] = {}
        for name in names:
            stem = str(PurePath(name).with_suffix(""))
            candidates = [f"{name}.png", name, *([f"{stem}.png"] if stems[stem] == 1 else [])]
            mask = next((place / file for file in candidates if (place / file).is_file()), None)
            if mask is not None:
                found[name] = mask
        if names and not found and any(place.iterdir()):
            raise CaptureError(
                f"{place} holds no mask that is named after a photo; call the one of {names[0]} {names[0]}.png, "
                "or take the folder away"
            )
        return found
    return {}


def read_mask(mask: Path, size: tuple[int, int], turn: int) -> Image.Image:
    """Black (0) and white (255), in the width and height of its photo.

    Args:
        mask: The file, of the photo's shape; it may have been drawn on the photo before that was turned.
        size: Width and height to bring it to.
        turn: The EXIF orientation that turns such a mask as its photo was turned.

    Raises:
        DataError: the mask cannot be read, or has another shape.
    """
    try:
        with open_photo(mask) as opened:
            grey = as_8_bit(opened).convert("L")
    except UNREADABLE as error:
        raise DataError(f"cannot read the mask {mask}: {reason(error, mask)}") from error
    drawn = grey.point([0] * _COUNTS_FROM + [255] * (256 - _COUNTS_FROM))
    if not same_shape(drawn.size, size) and turn in _QUARTER_TURNS:
        drawn = drawn.transpose(_QUARTER_TURNS[turn])
    if not same_shape(drawn.size, size):
        raise DataError(
            f"the mask {mask} is {grey.width} x {grey.height} pixels, its photo {size[0]} x {size[1]}: "
            "they must have the same shape"
        )
    return drawn if drawn.size == size else drawn.resize(size, Image.Resampling.NEAREST)


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Equal up to scale, give or take the pixel that rounding costs."""
    slope = other[1] / other[0]
    return abs(size[0] * slope - size[1]) <= 1.0 + slope


def counting(reduced: Image.Image) -> Bool[np.ndarray, "h w"]:
    """Which pixels of a reduced mask count: those that cover nothing which does not."""
    return np.asarray(reduced) == 255
