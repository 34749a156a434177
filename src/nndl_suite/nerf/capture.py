"""What somebody captured, a folder of photos or a video, made into photos that COLMAP reads as a person sees them."""

import hashlib
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from nndl_suite.errors import CaptureError, RunError
from nndl_suite.nerf.clip import VIDEO_SUFFIXES, is_video, sharpest_frames
from nndl_suite.nerf.decode import UNREADABLE, as_8_bit, open_photo, reason, scaled_down
from nndl_suite.nerf.masks import find_masks
from nndl_suite.nerf.photo_files import find_photos, is_photo
from nndl_suite.nerf.upright import JPEG_QUALITY, read_upright, write_mask, write_upright
from nndl_suite.training.watch import Step, Watcher, ignore

FEWEST_PHOTOS = 5
_ALIKE = 3.0  # of 255: what noise and compression change in a picture of 16 x 16 pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Photos ready for COLMAP in one folder."""

    folder: Path
    masks: Path | None = None
    """A folder with a mask for each photo, called like it with ".png" after it; None where no photo has one."""
    groups: tuple[tuple[str, ...], ...]
    """File names, those of one camera together: same size, same lens as far as EXIF tells."""
    skipped: tuple[tuple[str, str], ...]
    """Names that could not be used, each with the reason."""
    notes: tuple[str, ...] = ()
    """What else a person should know, a sentence each: a video that breaks off."""

    @property
    def names(self) -> tuple[str, ...]:
        """All file names, sorted."""
        return tuple(sorted(name for group in self.groups for name in group))


def prepare_capture(
    capture: Path, folder: Path, *, masks: Path, max_side: int, video_frames: int, watch: Watcher = ignore
) -> Prepared:
    """Put the usable photos of a capture, or the sharpest frames of a video, into `folder` (emptied first).

    Args:
        capture: A folder of photos or a video file.
        folder: Where the prepared photos go.
        masks: Where their masks go, if the capture has any; emptied too.
        max_side: Longer photos are scaled down to this many pixels.
        video_frames: About how many frames to take from a video.
        watch: Told of the progress.

    Raises:
        CaptureError: no capture there, fewer than 5 usable photos in it, or all of them the same.
        DataError: a mask that cannot be used.
        RunError: `folder` cannot be written.
    """
    with _writing(folder):
        for stale in (folder, masks):
            shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir(parents=True)
    if capture.is_file() and is_video(capture):
        prepared = _prepare_video(capture, folder, max_side=max_side, count=video_frames, watch=watch)
    elif capture.is_file() and not is_photo(capture):
        known = ", ".join(sorted(VIDEO_SUFFIXES))
        raise CaptureError(f"{capture} is neither a folder of photos nor a video ({known})")
    else:
        prepared = _prepare_photos(find_photos(capture), folder, masks, max_side=max_side, watch=watch)
    _check(capture, prepared)
    return prepared


def _check(capture: Path, prepared: Prepared) -> None:
    usable = len(prepared.names)
    if usable < FEWEST_PHOTOS:
        lost = "; ".join(f"{name}: {reason}" for name, reason in prepared.skipped[:5])
        told = f" ({len(prepared.skipped)} unusable: {lost})" if lost else ""
        noted = "".join(f"; {note}" for note in prepared.notes)
        raise CaptureError(
            f"{capture} has {usable} usable photo{'' if usable == 1 else 's'}, at least {FEWEST_PHOTOS} are needed "
            f"and 30 or more are good{told}{noted}"
        )
    first, *others = (_small(prepared.folder / name) for name in prepared.names)
    if all(np.abs(other - first).max() < _ALIKE for other in others):
        what = "a single even surface" if np.ptp(first) < _ALIKE else "the same picture, taken from one place"
        raise CaptureError(f"all {usable} photos of {capture} show {what}; walk round the object while you record it")


def _small(photo: Path) -> Float32[np.ndarray, "16 16"]:
    """What is left of a photo when noise is averaged away."""
    with open_photo(photo) as opened:
        grey = as_8_bit(opened).convert("L").resize((16, 16), Image.Resampling.BOX, reducing_gap=2.0)
        return np.asarray(grey, dtype=np.float32)


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    """Turn what goes wrong while writing into one sentence: it is not the photo's fault."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write to {folder}: {error.strerror or error}; free some space or choose another --out"
        ) from error


def _prepare_photos(photos: Sequence[Path], folder: Path, masks: Path, *, max_side: int, watch: Watcher) -> Prepared:
    groups: dict[tuple[object, ...], list[str]] = {}
    skipped: list[tuple[str, str]] = []
    seen: dict[bytes, str] = {}
    mask_of = find_masks(photos[0].parent, [photo.name for photo in photos])
    if mask_of:
        with _writing(masks):
            masks.mkdir()
    for done, photo in enumerate(photos, start=1):
        try:
            _check_name(photo.name)
            content = _digest(photo)
            if content in seen:
                raise ValueError(f"the same file as {seen[content]}")
            upright = read_upright(photo, max_side)
        except UNREADABLE as error:
            skipped.append((_printable(photo.name), reason(error, photo)))
        else:
            seen[content] = photo.name
            with _writing(folder):
                name = write_upright(upright, photo, folder)
                if mask_of:
                    write_mask(mask_of.get(photo.name), upright, masks / f"{name}.png")
            groups.setdefault((upright.image.size, upright.lens), []).append(name)
        watch(Step(stage="reading photos", done=done, total=len(photos)))
    return Prepared(
        folder=folder,
        masks=masks if mask_of else None,
        groups=tuple(map(tuple, groups.values())),
        skipped=tuple(skipped),
    )


def _check_name(name: str) -> None:
    if _printable(name) != name:
        raise ValueError("its name is not valid Unicode; rename it")


def _printable(name: str) -> str:
    return name.encode(errors="replace").decode()


def _digest(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _prepare_video(video: Path, folder: Path, *, max_side: int, count: int, watch: Watcher) -> Prepared:
    names: list[str] = []
    notes: list[str] = []
    for number, pixels in sharpest_frames(video, count, watch=watch, note=notes.append):
        name = f"frame_{number:06d}.jpg"
        with _writing(folder):
            scaled_down(Image.fromarray(pixels), max_side).save(folder / name, quality=JPEG_QUALITY, subsampling=0)
        names.append(name)
    return Prepared(folder=folder, groups=(tuple(names),), skipped=(), notes=tuple(notes))
