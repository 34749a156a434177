"""One file from a server or an object store: whole and as it was when asked for, or not at all."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError
from filelock import FileLock
from fsspec.core import url_to_fs

from nndl_suite.errors import ConfigError, DataError

CHUNK_BYTES = 8 * 2**20
"""Asked for at a time; what has come is kept, and a fetch that was cut off goes on behind it."""
PAUSES = (1.0, 4.0)
"""Seconds to wait before a request that failed is made again."""
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "content_md5", "Content-MD5", "Last-Modified", "LastModified",
             "last_modified", "mtime", "created")  # fmt: skip
"""By what servers tell a file from its next version; the first that is told counts."""
_FAILURES = (OSError, ClientError)

T = TypeVar("T")


class NotThere(DataError):
    """There is no such file, or not for everybody."""


class Unreachable(DataError):
    """Its server does not answer as it should."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file elsewhere, as it was when it was looked up."""

    url: str
    size: int
    version: str
    """What changes when the file does; empty where the server tells nothing but the size."""

    @property
    def stamp(self) -> str:
        """A short name for this version of the file."""
        return hashlib.blake2b(f"{self.size}/{self.version}".encode(), digest_size=6).hexdigest()


def check_url(url: str) -> None:
    """Refuse a URL that holds a secret, since names of data sets are written into run folders and reports.

    Raises:
        ConfigError: it has a password, or a query, as signed URLs have.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"the URL of {shown(url)} must hold no user, password or ?query: it would be written into run folders; put "
            "secrets into ~/.netrc (http) or where the object store's own tools look for them"
        )


def shown(url: str) -> str:
    """A URL as it may be printed."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def look_up(url: str) -> RemoteFile:
    """Ask how large a file is, and of which version.

    Raises:
        NotThere: there is none.
        Unreachable: it cannot be asked.
        DataError: its size is not told.
    """
    system, path = file_system(url)
    system.invalidate_cache()  # object stores keep what they once said
    info: dict[str, Any] = _asked(lambda: system.info(path), url)
    size = info.get("size")
    if not isinstance(size, int):
        raise DataError(f"{shown(url)}: its server does not say how large it is; download it and read it from disk")
    return RemoteFile(url, size, next((f"{key}={info[key]}" for key in _VERSIONS if info.get(key)), ""))


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system that a URL is in, and the path in it.

    Raises:
        DataError: its kind is not known, or needs a package that is not there.
    """
    kind = url.partition("://")[0]
    options = {"client_kwargs": {"trust_env": True}} if kind in ("http", "https") else {}  # proxies, ~/.netrc
    try:
        return url_to_fs(url, **options)
    except ImportError as error:
        raise DataError(
            f"{kind}:// needs a package that is not installed ({error}); pip install 'nndl-suite[remote]'"
        ) from error
    except ValueError as error:
        raise DataError(f"{kind}:// is no kind of place that is known; use http, https, s3 or gs") from error
    except _FAILURES as error:
        raise _failure(error, url) from None


def fetch(remote: RemoteFile, to: Path, came: Callable[[int], None]) -> None:
    """Bring a file to `to` unless it is there; several processes that want it wait for the first.

    Args:
        remote: As it was looked up. It is asked for again at the end, and must be the same.
        to: In a folder that is this version's own.
        came: Told of every piece, in bytes, those included that an earlier try had left.

    Raises:
        DataError: it is gone, was changed meanwhile, or does not come whole though it was asked for three times.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    with FileLock(to.with_name(f"{to.name}.lock")):
        if to.exists():
            came(remote.size)
            return
        system, path = file_system(remote.url)
        with part.open("ab") as stream:
            _drop_too_much(stream, remote.size)
            came(stream.tell())
            while (have := stream.tell()) < remote.size:
                end = min(have + CHUNK_BYTES, remote.size)
                content = _asked(lambda have=have, end=end: _piece(system, path, have, end, remote), remote.url)
                if len(content) == remote.size:  # all of it: the server serves no parts
                    stream.truncate(0)
                stream.write(content)
                came(stream.tell() - have)
            stream.flush()
            os.fsync(stream.fileno())
        if look_up(remote.url) != remote:
            part.unlink()
            raise DataError(f"{shown(remote.url)} was changed while it was fetched; start again when it rests")
        part.replace(to)


def _drop_too_much(stream: Any, size: int) -> None:
    stream.seek(0, os.SEEK_END)
    if stream.tell() > size:
        stream.truncate(0)
        stream.seek(0)


class _Short(OSError):
    pass


def _piece(system: Any, path: str, start: int, end: int, remote: RemoteFile) -> bytes:
    content: bytes = system.cat_file(path, start=start, end=end)
    if len(content) not in (end - start, remote.size):
        raise _Short(f"{len(content)} of {end - start} bytes came")
    return content


def _asked(request: Callable[[], T], url: str) -> T:
    """What a request gives, tried again where that may help.

    Raises:
        DataError: it fails.
    """
    for pause in (*PAUSES, None):
        try:
            return request()
        except _FAILURES as error:
            if pause is None or not _may_pass(error):
                raise _failure(error, url) from None  # these errors spell out the whole URL
            time.sleep(pause)
    raise AssertionError


def _may_pass(error: BaseException) -> bool:
    told = error.__cause__ or error  # fsspec calls everything that keeps it from looking up a file "not found"
    status = getattr(told, "status", None)
    if status is not None:
        return status >= 500 or status in (408, 425, 429)
    return not isinstance(told, FileNotFoundError | PermissionError)


def _failure(error: BaseException, url: str) -> DataError:
    told = error.__cause__ or error
    status = getattr(told, "status", None)
    if status == 404 or (status is None and isinstance(told, FileNotFoundError)):
        return NotThere(f"{shown(url)} is not there (404 or its like); check the name, and the numbers in braces")
    if status in (401, 403) or isinstance(told, PermissionError):
        return NotThere(f"{shown(url)} may not be read ({status or 'no permission'}); log in as its store wants it")
    if status == 416:
        return DataError(f"{shown(url)} has become shorter while it was fetched (416); start again when it rests")
    if status is not None:
        return Unreachable(f"the server of {shown(url)} answers {status}; try again later: what has come is kept")
    why = str(told) if isinstance(told, _Short) else type(told).__name__
    if isinstance(told, OSError) and told.strerror:
        why = told.strerror
    return Unreachable(f"{shown(url)} does not come ({why}); check the connection and try again: what has come is kept")
