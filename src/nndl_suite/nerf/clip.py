"""The frames of a video that are worth having: the sharpest of each stretch, upright."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av import VideoFrame, VideoStream
from av.container import InputContainer
from jaxtyping import Float32, UInt8

from nndl_suite.errors import CaptureError
from nndl_suite.training.watch import Step, Watcher, ignore

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"})
_BROKEN_OFF = 0.05  # share of its stated length that a video may lack; sound may outlast the picture by less


_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""FFmpeg's demuxers of these; it would also take a playlist for a video, and open what that names."""
_MOST_PIXELS = 2**26
_UNREADABLE = (
    av.error.FFmpegError,
    OSError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    ValueError,
)
"""What PyAV raises at files that are broken, or no videos."""


def is_video(path: Path) -> bool:
    """Whether a path names a video, by its ending."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def sharpest_frames(
    video: Path, count: int, *, watch: Watcher = ignore, note: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """The sharpest frame of each of `count` equal stretches of a video, upright, with its number in the video.

    Stretches are equal in frames, not in seconds, so that a rate which varies leaves none of them empty. What is
    damaged or cut off is passed over.

    Args:
        video: The file.
        count: How many stretches; a video with fewer frames gives all it has.
        watch: Told of the progress.
        note: Told in a sentence, at the end, if part of the video could not be used.

    Raises:
        CaptureError: the file cannot be read as a video, or no frame of it can.
    """
    try:
        total = _count_frames(video)
        with _opened(video) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            length = _Length(container, stream)
            frames = length.measured(_decoded(container, stream, length))
            best = _sharpest_of_stretches(frames, total, count, watch)
            first = next(best, None)
            if first is None:
                raise CaptureError(f"no frame of {video} can be decoded; is the file whole?")
            yield first
            yield from best
            told = length.shortfall()
    except _UNREADABLE as error:
        raise _unreadable(video, error) from error
    if told:
        note(f"{video.name}: {told}")


class _Length:
    """How long the video says it is, and how much of it there was."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.damaged = 0
        self._frames = 0
        self._last_s = 0.0
        self._begin_s = float((stream.start_time or 0) * (stream.time_base or 0))
        in_stream = float((stream.duration or 0) * (stream.time_base or 0))
        self._stated_s = in_stream or (container.duration or 0) / av.time_base

    def measured(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """The same frames, counted."""
        for frame in frames:
            self._frames += 1
            self._last_s = max(self._last_s, (frame.time or 0.0) - self._begin_s)
            yield frame

    def shortfall(self) -> str | None:
        """What is missing, for a person; None where nothing is."""
        spacing_s = self._last_s / max(1, self._frames - 1)
        lacks_s = self._stated_s - self._last_s - spacing_s
        if self._stated_s and lacks_s > max(_BROKEN_OFF * self._stated_s, 2 * spacing_s):
            return (
                f"breaks off after {self._last_s:.1f} of {self._stated_s:.1f} s; "
                f"the {self._frames} frames up to there were used"
            )
        if self.damaged:
            return f"{self.damaged} damaged pieces were passed over; the other {self._frames} frames were used"
        return None


def _decoded(container: InputContainer, stream: VideoStream, length: _Length) -> Iterator[VideoFrame]:
    """Frames to the end, past what is damaged."""
    for packet in _packets(container, stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            length.damaged += 1


def _packets(container: InputContainer, stream: VideoStream) -> Iterator["av.Packet[VideoStream]"]:
    """Packets to the end, or to where the file breaks off."""
    try:
        yield from container.demux(stream)
    except av.error.InvalidDataError:
        return


def _count_frames(video: Path) -> int:
    """Packets in the picture track, read without decoding: headers may say nothing, or what once was."""
    with _opened(video) as container:
        _check_pictures(video, container)
        return max(1, sum(packet.size > 0 for packet in _packets(container, container.streams.video[0])))


def check_video(video: Path) -> None:
    """Look whether a file is a video at all, without reading it through.

    Raises:
        CaptureError: it cannot be read as one.
    """
    try:
        with _opened(video) as container:
            _check_pictures(video, container)
    except _UNREADABLE as error:
        raise _unreadable(video, error) from error


def _check_pictures(video: Path, container: InputContainer) -> None:
    if not container.streams.video:
        raise CaptureError(f"{video} has no picture track; is it a sound recording?")
    stream = container.streams.video[0]
    if stream.width * stream.height > _MOST_PIXELS:
        raise CaptureError(
            f"{video} says that it has {stream.width} x {stream.height} pixels, more than {_MOST_PIXELS // 2**20} "
            "million; is it whole?"
        )


def _unreadable(video: Path, error: Exception) -> CaptureError:
    return CaptureError(f"{video} cannot be read as a video ({_reason(error)}); is it whole?")


def _reason(error: Exception) -> str:
    """What the decoder says, without its number and the file's name."""
    told = error.strerror if isinstance(error, OSError | av.error.FFmpegError) else None
    return told or str(error)


def _opened(video: Path) -> InputContainer:
    return av.open(str(video), container_options={"format_whitelist": _FORMATS})


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
    if best is not None:
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
