"""What differs between the settings that a run was started with and those that it is asked to go on with."""

from collections.abc import Mapping

from nndl_suite.training.files import Json

_SHOWN = 3
_DATA = {"fingerprint": "the images", "files": "the capture's files"}
"""Settings that are digests of data, and what they are of; nobody reads a digest."""
_PARTS = ("training images", "validation images", "test images")
"""In the order of the setting `fingerprints`."""


def told_changes(there: Mapping[str, Json], now: Mapping[str, Json]) -> str:
    """The differing settings in words, data first; empty where none differs."""
    differing = [key for key in sorted({*there, *now}) if there.get(key) != now.get(key)]
    data = changed_data(there, now)
    others = [key for key in differing if key not in {*_DATA, "fingerprints"}]
    told = [f"{what} have changed" for what in data]
    told += [f"{key}={there.get(key)!r} there, {now.get(key)!r} now" for key in others[:_SHOWN]]
    return ", ".join(told)


def changed_data(there: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """Which data differ: "the images", "the test images"."""
    changed = [what for key, what in _DATA.items() if there.get(key) != now.get(key)]
    parts, parts_now = there.get("fingerprints"), now.get("fingerprints")
    if parts == parts_now:
        return changed
    if not (isinstance(parts, list) and isinstance(parts_now, list) and len(parts) == len(parts_now) <= len(_PARTS)):
        return [*changed, "the images"]
    pairs = zip(_PARTS, parts, parts_now, strict=False)
    return changed + [f"the {what}" for what, before, after in pairs if before != after]
