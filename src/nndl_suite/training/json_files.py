"""Reading JSON that anybody may have written: size, depth, numbers and letters are bounded before it is believed."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MOST_JSON_BYTES = 64 * 2**20
"""A hundred thousand frames of a `transforms.json` need less."""
_DEEPEST = 64
_LARGEST_WHOLE = 10**300
"""Larger ones are no floats any more, and whatever computes with them fails in its own words."""


def load_json(file: Path) -> Json:
    """What a JSON file holds; NaN and infinity come through, as other programs write them.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON in UTF-8, or larger or deeper than anything meant.
    """
    if file.exists() and not file.is_file():  # a pipe would be waited for, a device never ends
        raise ValueError("it is not a file")
    if file.stat().st_size > MOST_JSON_BYTES:
        raise ValueError(f"it has more than {MOST_JSON_BYTES // 2**20} MB, which no such file needs")
    return parse_json(file.read_text(encoding="utf-8"))


def parse_json(text: str) -> Json:
    """As `load_json`, of text.

    Raises:
        ValueError: it is no JSON, or deeper than anything meant.
    """
    try:
        content: Json = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {_DEEPEST} deep") from error
    for node in _nodes(content):
        if isinstance(node, int) and abs(node) > _LARGEST_WHOLE:
            raise ValueError("it holds a whole number of more than 300 digits")
        if isinstance(node, str) and not is_unicode(node):
            raise ValueError(f"it holds half of a character in {node[:40]!r}")
    return content


def check_finite(content: Json) -> None:
    """Refuse what JSON has no word for, or no float can hold.

    Raises:
        ValueError: there is a NaN or an infinity.
    """
    for node in _nodes(content):
        if isinstance(node, float) and not math.isfinite(node):
            raise ValueError(f"it holds {node}, which is no number in JSON")


def _nodes(content: Json) -> Iterator[Json]:
    """All values and keys, level by level.

    Raises:
        ValueError: there are more levels than anything meant has.
    """
    level: list[Json] = [content]
    for _ in range(_DEEPEST):
        yield from level
        below: list[Json] = []
        for node in level:
            if isinstance(node, dict):
                below += node
                below += node.values()
            elif isinstance(node, list):
                below += node
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {_DEEPEST} deep")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can say it; half of a pair, and bytes that were no text, it cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
