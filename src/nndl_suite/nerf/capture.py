"""What somebody captured, a folder of photos or a video, made into photos that COLMAP reads as a person sees them."""

import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from av import VideoFrame, VideoStream
from av.container import InputContainer
from jaxtyping import Float32, UInt8
from PIL import ExifTags, Image, ImageOps

from nndl_suite.errors import CaptureError
from nndl_suite.training.watch import Step, Watcher, ignore

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"})
_COLMAP_READS = frozenset({"JPEG", "PNG", "TIFF", "BMP"})
_FEWEST_PHOTOS = 5
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Photos ready for COLMAP in one folder."""

    folder: Path
    groups: tuple[tuple[str, ...], ...]
    """File names, those of one camera together: same size, same lens as far as EXIF tells."""
    skipped: tuple[tuple[str, str], ...]
    """Names that could not be used, each with the reason."""

    @property
    def names(self) -> tuple[str, ...]:
        """All file names, sorted."""
        return tuple(sorted(name for group in self.groups for name in group))


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
        photos = [file for file in place.glob("*") if _is_photo(file)]
        if photos:
            return sorted(photos, key=lambda file: natural_key(file.name))
    files = [file for file in folder.glob("*") if not file.name.startswith(".")]
    if not files:
        raise CaptureError(f"{folder} is empty; put the photos in it")
    known = ", ".join(sorted(PHOTO_SUFFIXES))
    heic = (
        " (HEIC photos: export them as JPEG first)"
        if any(f.suffix.lower() in {".heic", ".heif"} for f in files)
        else ""
    )
    raise CaptureError(f"{folder} holds {len(files)} entries but no photo ({known}){heic}")


def is_video(path: Path) -> bool:
    """Whether a path names a video, by its ending."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def prepare_capture(
    capture: Path, folder: Path, *, max_side: int, video_frames: int, watch: Watcher = ignore
) -> Prepared:
    """Put the usable photos of a capture, or the sharpest frames of a video, into `folder` (emptied first).

    Args:
        capture: A folder of photos or a video file.
        folder: Where the prepared photos go.
        max_side: Longer photos are scaled down to this many pixels.
        video_frames: About how many frames to take from a video.
        watch: Told of the progress.

    Raises:
        CaptureError: no capture there, or fewer than 5 usable photos in it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if capture.is_file() and is_video(capture):
        prepared = _prepare_video(capture, folder, max_side=max_side, count=video_frames, watch=watch)
    elif capture.is_file() and not _is_photo(capture):
        known = ", ".join(sorted(VIDEO_SUFFIXES))
        raise CaptureError(f"{capture} is neither a folder of photos nor a video ({known})")
    else:
        prepared = _prepare_photos(find_photos(capture), folder, max_side=max_side, watch=watch)
    usable = len(prepared.names)
    if usable < _FEWEST_PHOTOS:
        lost = "; ".join(f"{name}: {reason}" for name, reason in prepared.skipped[:5])
        told = f" ({len(prepared.skipped)} unusable: {lost})" if lost else ""
        raise CaptureError(
            f"{capture} has {usable} usable photos, at least {_FEWEST_PHOTOS} are needed and 30 or more are good{told}"
        )
    return prepared


def _is_photo(file: Path) -> bool:
    return file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".") and file.is_file()


def _prepare_photos(photos: Sequence[Path], folder: Path, *, max_side: int, watch: Watcher) -> Prepared:
    groups: dict[tuple[object, ...], list[str]] = {}
    skipped: list[tuple[str, str]] = []
    for done, photo in enumerate(photos, start=1):
        try:
            name, key = _prepare_photo(photo, folder, max_side)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            # Pillow's decoders raise all of these for files that are cut short or are no image at all.
            skipped.append((photo.name, str(error) or type(error).__name__))
        else:
            groups.setdefault(key, []).append(name)
        watch(Step(stage="reading photos", done=done, total=len(photos)))
    return Prepared(folder=folder, groups=tuple(map(tuple, groups.values())), skipped=tuple(skipped))


def _prepare_photo(photo: Path, folder: Path, max_side: int) -> tuple[str, tuple[object, ...]]:
    """Copy a photo, or rewrite it upright and smaller; returns its new name and what tells its camera from others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is fine, enormous still raises
        with Image.open(photo) as opened:
            opened.load()  # all of it: a truncated file shows only here
            file_format = opened.format or ""
            exif = opened.getexif()
            image = ImageOps.exif_transpose(opened)
    lens = _lens(exif)
    scale = max_side / max(image.size)
    upright = exif.get(ExifTags.Base.Orientation, 1) == 1
    if upright and scale >= 1 and file_format in _COLMAP_READS:
        shutil.copyfile(photo, folder / photo.name)
        return photo.name, (image.size, *sorted(lens.items()))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    name = photo.name if file_format in _COLMAP_READS else f"{photo.name}.png"
    image.save(
        folder / name,
        format=file_format if file_format in _COLMAP_READS else "PNG",
        exif=_lens_exif(lens),
        **({"quality": _JPEG_QUALITY, "subsampling": 0} if file_format == "JPEG" else {}),
    )
    return name, (image.size, *sorted(lens.items()))


_BODY = (ExifTags.Base.Make, ExifTags.Base.Model)
_OPTICS = (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm)


def _lens(exif: Image.Exif) -> dict[int, str]:
    """What EXIF says about camera and focal length, as text: equal text, equal camera."""
    optics = exif.get_ifd(ExifTags.IFD.Exif)
    found = {int(tag): exif.get(tag) for tag in _BODY} | {int(tag): optics.get(tag) for tag in _OPTICS}
    return {tag: str(value) for tag, value in found.items() if value is not None}


def _lens_exif(lens: dict[int, str]) -> Image.Exif:
    """Only what COLMAP guesses a focal length from; not where the photo was taken, and not its old orientation."""
    exif = Image.Exif()
    optics = exif.get_ifd(ExifTags.IFD.Exif)
    for tag in _BODY:
        if tag in lens:
            exif[tag] = lens[tag]
    if ExifTags.Base.FocalLength in lens:
        optics[ExifTags.Base.FocalLength] = float(lens[ExifTags.Base.FocalLength])
    if ExifTags.Base.FocalLengthIn35mmFilm in lens:
        optics[ExifTags.Base.FocalLengthIn35mmFilm] = round(float(lens[ExifTags.Base.FocalLengthIn35mmFilm]))
    return exif


def _prepare_video(video: Path, folder: Path, *, max_side: int, count: int, watch: Watcher) -> Prepared:
    names: list[str] = []
    for number, pixels in sharpest_frames(video, count, watch=watch):
        image = Image.fromarray(pixels)
        scale = max_side / max(image.size)
        if scale < 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        name = f"frame_{number:06d}.jpg"
        image.save(folder / name, quality=_JPEG_QUALITY, subsampling=0)
        names.append(name)
    return Prepared(folder=folder, groups=(tuple(names),), skipped=())


def sharpest_frames(
    video: Path, count: int, *, watch: Watcher = ignore
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """The sharpest frame of each of `count` equal stretches of a video, upright, with its number in the video.

    A video that is cut short gives the frames that are whole.

    Raises:
        CaptureError: the file cannot be read as a video, or no frame of it can.
    """
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise CaptureError(f"{video} has no picture track")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            total = stream.frames or _count_frames(video)
            yield from _sharpest_of_stretches(_decoded(container, stream), total, count, watch)
    except (av.error.FFmpegError, OSError) as error:
        raise CaptureError(f"{video} cannot be read as a video ({error}); is it whole?") from error


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames to the end, or to where the file breaks off."""
    try:
        yield from container.decode(stream)
    except av.error.InvalidDataError:
        return


def _count_frames(video: Path) -> int:
    """Packets in the picture track, for containers that do not say; read without decoding."""
    with av.open(str(video)) as container:
        try:
            return max(1, sum(packet.size > 0 for packet in container.demux(container.streams.video[0])))
        except av.error.InvalidDataError:
            return 1


def _sharpest_of_stretches(
    frames: Iterator[VideoFrame], total: int, count: int, watch: Watcher
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    stretch = max(1.0, total / count)
    best: tuple[float, int, VideoFrame] | None = None
    current = 0
    for number, frame in enumerate(frames):
        if int(number / stretch) != current and best is not None:
            yield best[1], _upright(best[2])
            watch(Step(stage="reading the video", done=number, total=max(total, number + 1)))
            best = None
        current = int(number / stretch)
        score = sharpness(_luma(frame))
        if best is None or score > best[0]:
            best = (score, number, frame)
    if best is None:
        raise CaptureError("no frame of the video can be decoded; is the file whole?")
    yield best[1], _upright(best[2])
    watch(Step(stage="reading the video", done=total, total=total))


def sharpness(grey: Float32[np.ndarray, "h w"]) -> float:
    """Variance of the Laplacian: blur takes the high frequencies, and the variance with them."""
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def _luma(frame: VideoFrame) -> Float32[np.ndarray, "h w"]:
    """Brightness at a size where a comparison is quick and motion blur still shows."""
    scale = min(1.0, 640 / max(frame.width, frame.height))
    small = frame.reformat(
        width=max(4, round(frame.width * scale)), height=max(4, round(frame.height * scale)), format="gray"
    )
    return small.to_ndarray().astype(np.float32)


def _upright(frame: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """RGB with the container's rotation applied, which decoders leave to the player."""
    quarter_turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))
