"""What a reconstruction shows of itself: held-out photos beside their renderings, and pictures that move."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image

from nndl_suite.errors import RunError
from nndl_suite.report.embed import data_uri
from nndl_suite.report.pictures import as_number, as_object
from nndl_suite.training.files import Json

_SHOWN_PHOTOS = 6
_LARGEST_VIDEO = 2 * 2**20  # bytes; base64 adds a third, and a page should be mailed and opened on a phone
_LARGEST_PHOTO = 60_000  # bytes
_PHOTO_SIDE = 480  # pixels of larger ones


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A held-out photo, what the field renders from the same place, and where it is off, as data URIs."""

    name: str
    psnr: float
    ssim: float
    lpips: float | None
    width: int
    height: int
    photo: str
    render: str
    error: str | None
    """None in a run of an earlier version."""


def held_out_photos(result: dict[str, Json], folder: Path) -> Iterable[HeldOut]:
    """Up to six of the held-out photos in `views/`, evenly spaced from the worst to the best PSNR.

    Raises:
        RunError: a file cannot be read.
    """
    test = as_object(result["test"])
    rows = [as_object(row) for row in cast(list[Json], test["per_image"])]
    pairs: list[tuple[dict[str, Json], Path, Path]] = []
    for row in sorted(rows, key=lambda row: as_number(row["psnr"])):
        name = str(row["name"])
        for stem in (Path(name).stem, name.replace("/", "_")):
            photo, render = folder / f"{stem}-photo.jpg", folder / f"{stem}-render.jpg"
            if photo.is_file() and render.is_file():
                pairs.append((row, photo, render))
                break
    shown = min(_SHOWN_PHOTOS, len(pairs))
    for place in range(shown):
        row, photo, render = pairs[place * (len(pairs) - 1) // max(1, shown - 1)]
        error = photo.with_name(photo.name.removesuffix("photo.jpg") + "error.jpg")
        lpips = row.get("lpips")
        width, height = _size(photo)
        yield HeldOut(
            name=str(row["name"]),
            psnr=as_number(row["psnr"]),
            ssim=as_number(row["ssim"]),
            lpips=None if lpips is None else as_number(lpips),
            width=width,
            height=height,
            photo=_small(photo),
            render=_small(render),
            error=_small(error) if error.is_file() else None,
        )


def find_video(folder: Path) -> tuple[str | None, str]:
    """The orbit video as a URI, or None and why there is none."""
    video = folder / "orbit.mp4"
    if not video.is_file():
        return None, f"For a larger one: nndl-suite nerf render {folder} --path orbit --out {video}"
    if video.stat().st_size > _LARGEST_VIDEO:
        return None, f"The orbit video is {video.stat().st_size / 2**20:.0f} MB, too large for a page; see {video}."
    return data_uri(video, "video/mp4"), ""


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as picture:  # the header only
            return picture.size
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"cannot read {file} ({error}); evaluate the run again to rewrite it") from error


def _small(file: Path) -> str:
    """A JPEG as it is or, where it is large, with fewer pixels and a coarser quality."""
    if file.stat().st_size <= _LARGEST_PHOTO:
        return data_uri(file, "image/jpeg")
    try:
        with Image.open(file) as picture:
            picture.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE))
            content = io.BytesIO()
            picture.save(content, format="JPEG", quality=82)
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"cannot read {file} ({error}); evaluate the run again to rewrite it") from error
    return data_uri(content.getvalue(), "image/jpeg")
