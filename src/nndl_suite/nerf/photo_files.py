"""Which files of a folder are photos, and in which order people mean them."""

import re
from pathlib import Path

from nndl_suite.errors import CaptureError
from nndl_suite.nerf.decode import PHOTO_SUFFIXES


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts `IMG_10` after `IMG_9`: runs of digits by value, the rest by letters, case apart."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts if part)


def find_photos(folder: Path) -> list[Path]:
    """The photos in a folder, or in its `images` or `input` folder, in natural order of their names.

    Raises:
        CaptureError: there is no such folder, or no photo in it.
    """
    if not folder.exists():
        raise CaptureError(f"{folder} does not exist; give a folder of photos or a video file")
    if not folder.is_dir():
        raise CaptureError(f"{folder} is not a folder; give a folder of photos or a video file")
    for place in (folder, folder / "images", folder / "input"):
        photos = [file for file in place.glob("*") if is_photo(file)]
        if photos:
            return sorted(photos, key=lambda file: (natural_key(file.name), file.name))  # 1.jpg beside 01.jpg
    files = [file for file in folder.glob("*") if not file.name.startswith(".")]
    if not files:
        raise CaptureError(f"{folder} is empty; put the photos in it")
    known = ", ".join(sorted(PHOTO_SUFFIXES))
    raise CaptureError(f"{folder} holds {len(files)} entries but no photo ({known})")


def is_photo(file: Path) -> bool:
    """Whether a file is a photo, by its ending; hidden files are none."""
    return file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".") and file.is_file()
