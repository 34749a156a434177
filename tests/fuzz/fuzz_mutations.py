"""Making valid files wrong: in their bytes, and in what they say.

Every function draws from a `random.Random`, which Hypothesis or a seed may stand behind.
"""

import json
import struct
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 255, 256, -0.0, 0.5, -0.5, 1e-300, 1e9, -1e9, 1e18, 1e300, -1e308, 2**31, 2**32, 2**63, 2**64,
    -(2**63), 10**299, 10**400, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
TEXTS = (
    "", ".", "..", "/", "/etc/passwd", "../../../../etc/passwd", "..\\..\\x", "a\0b", "x" * 5000, "\ud800", "é" * 300,
    "nan", "1e5", "{}", "$\\frac$", "<script>", "\n", "𝕏", "CON", "images/../../..", "true", "-1",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, [[1, 2], [3]], {"a": {"b": []}})
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**62, 2**63, 2**64 - 1)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """One to four changes of bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(_BYTE_CHANGES)(content, random)
    return content


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 16)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip_head(content: bytes, random: Random) -> bytes:
    head = min(len(content), 64)
    return _flip(content[:head], random) + content[head:]


def _integer(content: bytes, random: Random) -> bytes:
    """A count, offset or size that lies, of 1 to 8 bytes, of either end first."""
    width, order = random.choice((1, 2, 4, 4, 8, 8)), random.choice("<<<>")
    if len(content) < width:
        return content
    most = min(len(content) - width, random.choice((32, 128, len(content))))
    at = random.randrange(most + 1) // random.choice((1, width)) * 1
    value = random.choice(_INTEGERS) & (2 ** (8 * width) - 1)
    return content[:at] + struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], value) + content[at + width :]


def _insert(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + random.randbytes(random.choice((1, 2, 8, 300))) + content[at:]


def _cut(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + content[at + random.choice((1, 4, 8, 64, 512)) :]


def _repeat(content: bytes, random: Random) -> bytes:
    at, length = random.randrange(len(content) + 1), random.choice((4, 16, 512))
    return content[:at] + content[at : at + length] * random.choice((2, 50)) + content[at + length :]


def _fill(content: bytes, random: Random) -> bytes:
    at, length = random.randrange(len(content) + 1), random.choice((1, 4, 8, 64, 4096))
    part = bytes([random.choice((0, 0xFF, 0x20, 0x80))]) * len(content[at : at + length])
    return content[:at] + part + content[at + length :]


def _other_kind(content: bytes, random: Random) -> bytes:
    return random.choice(
        (
            b"",
            b"\0",
            b"PK\x05\x06" + bytes(18),  # an empty zip
            b"\x93NUMPY\x01\x00\x10\x00{}             \n",
            b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}.",
            b"[" * 100_000,
            b'{"a":' * 5000,
            b"1" * 6000,
            b"\xff\xfe" + content,
            b"\xef\xbb\xbf" + content,
            content + content,
            content[::-1],
        )
    )


_BYTE_CHANGES: tuple[Mutation, ...] = (
    _truncate, _truncate, _flip, _flip, _flip_head, _integer, _integer, _insert, _cut, _repeat, _fill, _other_kind,
)  # fmt: skip


def mutate_json(content: bytes, random: Random) -> bytes:
    """One to three changes of what it says, or now and then of its bytes."""
    if random.random() < 0.1:
        return mutate_bytes(content, random)
    tree = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tree = _changed(tree, random)
    return json.dumps(tree).encode()


def mutate_lines(content: bytes, random: Random) -> bytes:
    """A file of JSON lines, one of them changed, or its bytes."""
    lines = content.splitlines(keepends=True)
    if random.random() < 0.2 or not lines:
        return mutate_bytes(content, random)
    for _ in range(random.choice((1, 3, 10))):
        at = random.randrange(len(lines))
        lines[at] = mutate_json(lines[at], random) + b"\n" if lines[at].startswith(b"{") else lines[at]
    return b"".join(lines)


def mutate_text(content: bytes, random: Random) -> bytes:
    """Words and numbers of a text file exchanged, or its bytes."""
    if random.random() < 0.4:
        return mutate_bytes(content, random)
    words = content.split(b" ")
    for _ in range(random.choice((1, 2))):
        at = random.randrange(len(words))
        kept = b"\n" if b"\n" in words[at] else b""
        words[at] = str(random.choice((*NUMBERS, *TEXTS[:12]))).encode(errors="replace") + kept
    return b" ".join(words)


def _changed(tree: Any, random: Random) -> Any:
    """The tree with one node exchanged, taken away, doubled or moved."""
    places = _places(tree)
    if not places:
        return random.choice((*NUMBERS, *TEXTS, *OTHERS))
    parent, key = random.choice(places)
    change = random.randrange(8)
    if change == 0:
        del parent[key]
    elif change == 1 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif change == 2:
        parent[key] = parent[random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))]
    elif change == 3 and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = min(max(parent[key], -1e200), 1e200) * random.choice((-1, 0, 2, 1e-6, 1e6, 1e30))
    elif change == 4:
        parent[key] = _deep(random.choice((30, 70, 400)))
    elif change == 5:
        parent[key] = deepcopy(random.choice(OTHERS))
    else:
        parent[key] = random.choice(TEXTS if isinstance(parent[key], str) and random.random() < 0.7 else NUMBERS)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    open_nodes = [tree]
    while open_nodes:
        node = open_nodes.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            open_nodes.append(node[key])
    return found


def _deep(depth: int) -> Any:
    node: Any = 1
    for level in range(depth):
        node = [node] if level % 2 else {"x": node}
    return node
