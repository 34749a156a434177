"""Videos that every browser plays: H.264, yuv420p, the index in front."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import Colorspace
from jaxtyping import UInt8

from nndl_suite.errors import ConfigError, NndlError, RunError
from nndl_suite.training.files import write_atomically

_BT709 = 1
"""In H.264's tables of matrices, primaries and transfer curves. Untagged, players guess by size, and colours shift."""


def write_video(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: Path, *, fps: float = 30) -> int:
    """Encode `frames` one by one into an MP4; memory stays at one frame.

    An odd side loses its last row or column, for 4:2:0 colour halves both. `path` appears when the video is whole.

    Args:
        frames: sRGB, all of one size, at least 2 x 2.
        path: Ends in .mp4.
        fps: Frames a second.

    Returns:
        The number of frames written.

    Raises:
        ConfigError: another suffix, a frame rate outside (0, 1000], or no frame at all.
        NndlError: this build of PyAV has no H.264 encoder.
        RunError: the disk is full or the folder cannot be written.
    """
    check_video(path, fps=fps)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {path.parent}: {error.strerror}; choose another place") from error
    written = 0

    def encode(part: Path) -> None:
        nonlocal written
        written = _encode(frames, part, Fraction(fps).limit_denominator(1001))

    write_atomically(path, encode)
    return written


def check_video(path: Path, *, fps: float) -> None:
    """Refuse a name or a frame rate that no video has, before anything is rendered."""
    if path.suffix.lower() != ".mp4":
        raise ConfigError(f"a video's name must end in .mp4, got {path.name!r}")
    if not 0 < fps <= 1000:
        raise ConfigError(f"fps must be > 0 and at most 1000, got {fps}")


def _encode(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: Path, rate: Fraction) -> int:
    written = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        try:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "medium"})
        except UnknownCodecError as error:
            raise NndlError(
                "this build of PyAV has no H.264 encoder (libx264); install its wheel: pip install --force-reinstall av"
            ) from error
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = _BT709, _BT709, _BT709
        for frame in frames:
            height, width = (side // 2 * 2 for side in frame.shape[:2])
            if written == 0:
                stream.height, stream.width = height, width
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
            written += 1
        if written == 0:
            raise ConfigError("a video needs at least one frame")
        container.mux(stream.encode())
    return written
