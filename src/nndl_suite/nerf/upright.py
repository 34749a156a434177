"""One photo as a person sees it: upright, 8 bits, no larger than asked, with the lens that its EXIF names."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from nndl_suite.nerf.decode import as_8_bit, open_photo, scaled_down
from nndl_suite.nerf.masks import read_mask

JPEG_QUALITY = 95
_COLMAP_READS = frozenset({"JPEG", "PNG", "TIFF", "BMP"})
_COLMAP_MODES = frozenset({"L", "RGB", "RGBA"})
_BODY = (ExifTags.Base.Make, ExifTags.Base.Model)
_OPTICS = (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """A decoded photo."""

    image: Image.Image
    lens: tuple[tuple[int, str], ...]
    """What EXIF says about camera and focal length, as text: equal text, equal camera."""
    turn: int
    """The EXIF orientation that was baked into the pixels."""
    exif: Image.Exif
    """What COLMAP guesses a focal length from; not where the photo was taken, and not its old orientation."""
    file_format: str
    untouched: bool
    """The file itself is what COLMAP should see."""


def read_upright(photo: Path, max_side: int) -> Upright:
    """Decode a photo.

    Raises:
        UNREADABLE: see `decode`.
    """
    with open_photo(photo) as opened:
        file_format = "JPEG" if opened.format == "MPO" else opened.format or ""  # JPEG with more behind it
        exif = opened.getexif()
        turn = int(exif.get(ExifTags.Base.Orientation) or 1)  # before the pixels: Pillow turns a TIFF as it loads it
        opened.load()  # all of it: a truncated file shows only here
        as_stored = opened.mode in _COLMAP_MODES and file_format in _COLMAP_READS
        full = as_8_bit(ImageOps.exif_transpose(opened))
    image = scaled_down(full, max_side)
    lens = _lens(exif)
    return Upright(
        image=image,
        lens=tuple(sorted(lens.items())),
        turn=turn,
        exif=_lens_exif(lens),
        file_format=file_format,
        untouched=as_stored and turn == 1 and image is full,
    )


def write_upright(upright: Upright, photo: Path, folder: Path) -> str:
    """Copy the photo into a folder, or write what was made of it; returns its name there."""
    name = photo.name
    if upright.untouched:
        shutil.copyfile(photo, folder / name)
        return name
    # Nothing else than these two takes the lens along when Pillow writes it.
    keeps = upright.file_format == "PNG" or (upright.file_format == "JPEG" and upright.image.mode == "RGB")
    while not keeps and (name == photo.name or (photo.parent / name).exists()):
        name = f"{name}.png"
    jpeg = {"quality": JPEG_QUALITY, "subsampling": 0} if keeps and upright.file_format == "JPEG" else {}
    upright.image.save(folder / name, format=upright.file_format if keeps else "PNG", exif=upright.exif, **jpeg)
    return name


def write_mask(mask: Path | None, upright: Upright, file: Path) -> None:
    """The mask of an upright photo; a white one where it has none, for COLMAP drops a photo without one.

    Raises:
        DataError: the mask cannot be used.
    """
    size = upright.image.size
    (Image.new("L", size, 255) if mask is None else read_mask(mask, size, upright.turn)).save(file)


def _lens(exif: Image.Exif) -> dict[int, str]:
    optics = exif.get_ifd(ExifTags.IFD.Exif)
    found = {int(tag): exif.get(tag) for tag in _BODY} | {int(tag): optics.get(tag) for tag in _OPTICS}
    return {tag: str(value) for tag, value in found.items() if value is not None}


def _lens_exif(lens: dict[int, str]) -> Image.Exif:
    exif = Image.Exif()
    optics = exif.get_ifd(ExifTags.IFD.Exif)
    for tag in _BODY:
        if tag in lens:
            exif[tag] = lens[tag]
    focal_mm = _positive(lens.get(ExifTags.Base.FocalLength))
    if focal_mm is not None:
        optics[ExifTags.Base.FocalLength] = focal_mm
    in_35_mm = _positive(lens.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if in_35_mm is not None:
        optics[ExifTags.Base.FocalLengthIn35mmFilm] = round(in_35_mm)
    return exif


def _positive(text: str | None) -> float | None:
    """The number that EXIF gives, if it is one that a lens can have: cameras without an electronic lens write 0."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < 1e4 else None
