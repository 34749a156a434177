"""A written video is read back by an independent decoder pass: size, frames, pixel format, colours."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.video import write_video


def plain(height: int, width: int, colours: list[tuple[int, int, int]]) -> Iterator[np.ndarray]:
    for colour in colours:
        yield np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (40, 50, 210)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 65), (48, 33)])
def test_a_video_has_the_size_frames_and_colours_that_went_in(tmp_path: Path, height: int, width: int):
    file = tmp_path / "out.mp4"
    assert write_video(plain(height, width, [RED, GREEN, BLUE]), file, fps=24) == 3
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == [(height // 2 * 2, width // 2 * 2, 3)] * 3
    for frame, colour in zip(frames, (RED, GREEN, BLUE), strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 6


def test_the_index_is_in_front_so_that_a_browser_starts_at_once(tmp_path: Path):
    file = tmp_path / "out.mp4"
    write_video(plain(32, 32, [RED] * 5), file, fps=30)
    content = file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_video_that_fails_half_way_leaves_nothing(tmp_path: Path):
    def broken() -> Iterator[np.ndarray]:
        yield from plain(32, 32, [RED])
        raise ZeroDivisionError

    file = tmp_path / "out.mp4"
    with pytest.raises(ZeroDivisionError):
        write_video(broken(), file, fps=30)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"\.mp4"):
        write_video(plain(32, 32, [RED]), tmp_path / "out.avi")
    with pytest.raises(ConfigError, match="fps must be > 0"):
        write_video(plain(32, 32, [RED]), tmp_path / "out.mp4", fps=0)
    with pytest.raises(ConfigError, match="at least one frame"):
        write_video(iter(()), tmp_path / "out.mp4")
