"""A reconstruction's turn in small frames, all in one picture that a page can play."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nndl_suite.errors import RunError

TURN_FILE = "turn.jpg"
TURN_FRAMES, TURN_COLUMNS = 36, 6
"""Frames of the picture, and how many lie side by side: row by row from the top left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The picture, and how to cut it."""

    content: bytes
    width: int
    """Pixels of one frame."""
    height: int
    frames: int = TURN_FRAMES
    columns: int = TURN_COLUMNS

    @property
    def rows(self) -> int:
        """Frames one below the other."""
        return -(-self.frames // self.columns)


def read_turn(folder: Path) -> Turn | None:
    """What training left in `turn.jpg`; None where there is no such file.

    Raises:
        RunError: it is no picture.
    """
    file = folder / TURN_FILE
    if not file.is_file():
        return None
    try:
        with Image.open(file) as picture:  # the header only
            width, height = picture.size
        return Turn(
            content=file.read_bytes(),
            width=width // TURN_COLUMNS,
            height=height // -(-TURN_FRAMES // TURN_COLUMNS),
        )
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"cannot read {file} ({error}); evaluate the run again to rewrite it") from error
