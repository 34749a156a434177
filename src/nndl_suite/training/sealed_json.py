"""Kept JSON files whose numbers nobody would miss if a bit of them changed: they have a checksum."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from nndl_suite.errors import DamagedFile
from nndl_suite.training.files import Json, read_json, write_json

_SEAL = "checksum"


def write_sealed(path: Path, content: Mapping[str, Json]) -> None:
    """Write an object as `write_json` does, with its checksum."""
    write_json(path, {**content, _SEAL: _checksum(content)})


def read_sealed(path: Path) -> dict[str, Json]:
    """The object that `write_sealed` wrote; one that has no checksum, of an earlier version, is taken as it is.

    Raises:
        DamagedFile: it does not fit its checksum.
        RunError: the file is missing, or holds no JSON object.
    """
    content = read_json(path)
    seal = content.pop(_SEAL, None)
    if seal is not None and seal != _checksum(content):
        raise DamagedFile(
            f"{path} is damaged (what it holds does not fit its checksum); put back a copy, or where it was changed on "
            f'purpose take the line "{_SEAL}" out of it'
        )
    return content


def _checksum(content: Mapping[str, Json]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
