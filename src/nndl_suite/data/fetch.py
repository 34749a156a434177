"""One file from a server or an object store: whole and as it was when asked for, or not at all."""

import base64
import binascii
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientTimeout
from filelock import FileLock
from fsspec.asyn import sync
from fsspec.core import url_to_fs

from nndl_suite.errors import ConfigError, DataError

CHUNK_BYTES = 8 * 2**20
"""Asked for at a time; what has come is kept, and a fetch that was cut off goes on behind it."""
PAUSES = (1.0, 4.0)
"""Seconds to wait before a request that failed is made again."""
PATIENCE = ClientTimeout(total=600.0, sock_connect=30.0, sock_read=60.0)
"""Seconds that a web server may take for a request, to be reached, and between two of its bytes."""
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "content_md5", "Content-MD5", "Last-Modified", "LastModified",
             "last_modified", "mtime", "created")  # fmt: skip
"""By what servers tell a file from its next version; the first that is told counts."""
_DIGESTS = ("md5Hash", "Content-MD5", "content_md5")
"""By what servers tell the MD5 of a file's content."""
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
    md5: str = ""
    """Of the content, where the server tells it."""

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
    check_redirect(url, str(info.get("url") or url))
    version = next((f"{key}={info[key]}" for key in _VERSIONS if info.get(key)), "")
    return RemoteFile(url, size, version, next((_hex(info[key]) for key in _DIGESTS if info.get(key)), ""))


def check_redirect(url: str, led_to: str) -> None:
    """Refuse an answer from a place that anybody on the way could have given.

    Raises:
        DataError: https led to http.
    """
    if url.startswith("https:") and not led_to.startswith("https:"):
        raise DataError(
            f"{shown(url)} is redirected to {shown(led_to)}, which is not encrypted; name that if you mean it"
        )


def _hex(digest: str | bytes | bytearray) -> str:
    """An MD5 as servers tell it (bytes, or in base 64), in hexadecimal; empty where it is something else."""
    try:
        content = base64.b64decode(digest, validate=True) if isinstance(digest, str) else bytes(digest)
    except (binascii.Error, ValueError):
        return ""
    return content.hex() if len(content) == 16 else ""


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system that a URL is in, and the path in it.

    Raises:
        DataError: its kind is not known, or needs a package that is not there.
    """
    kind = url.partition("://")[0]
    if "::" in url:  # fsspec would go on with what is behind, which may be a file of this machine
        raise DataError(f"{shown(url)} must name one place, without ::")
    # trust_env: proxies, ~/.netrc
    options = {"client_kwargs": {"trust_env": True, "timeout": PATIENCE}} if _is_web(url) else {}
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
        if remote.md5 and _md5_of(part) != remote.md5:
            part.unlink()
            raise DataError(f"{shown(remote.url)} came damaged: its MD5 is not what its server says; start again")
        part.replace(to)


def _md5_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _drop_too_much(stream: Any, size: int) -> None:
    stream.seek(0, os.SEEK_END)
    if stream.tell() > size:
        stream.truncate(0)
        stream.seek(0)


class _Short(OSError):
    pass


def _piece(system: Any, path: str, start: int, end: int, remote: RemoteFile) -> bytes:
    if _is_web(remote.url):
        content: bytes | None = sync(system.loop, _web_piece, system, path, start, end, remote)
    else:
        content = system.cat_file(path, start=start, end=end)
    if content is None or len(content) not in (end - start, remote.size):
        raise _Short(f"{len(content or b'')} of {end - start} bytes came")
    return content


async def _web_piece(system: Any, path: str, start: int, end: int, remote: RemoteFile) -> bytes:
    """What fsspec's `cat_file` gives, but never more than the file is said to hold, whatever the server sends."""
    session = await system.set_session()
    headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    async with session.get(system.encode_url(path), headers=headers) as answer:
        answer.raise_for_status()
        check_redirect(remote.url, str(answer.url))
        if not answer.headers.get("Content-Range", f"bytes {start}-").startswith(f"bytes {start}-"):
            raise _Short("another part came than the one asked for")
        content = bytearray()
        async for some in answer.content.iter_any():
            content += some
            if len(content) > remote.size:
                raise _Short(f"more than its {remote.size} bytes came")
    return bytes(content)


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


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
    if _is_astray(told):
        return False
    if status is not None:
        return status >= 500 or status in (408, 425, 429)
    return not isinstance(told, FileNotFoundError | PermissionError)


def _failure(error: BaseException, url: str) -> DataError:
    told = error.__cause__ or error
    status = getattr(told, "status", None)
    if status == 404 or (status is None and isinstance(told, FileNotFoundError)):
        return NotThere(f"{shown(url)} is not there (404 or its like); check the name, and the numbers in braces")
    if _is_astray(told):
        return NotThere(f"{shown(url)} is redirected to what is no web address; check the link")
    if status in (401, 403) or isinstance(told, PermissionError):
        return NotThere(f"{shown(url)} may not be read ({status or 'no permission'}); log in as its store wants it")
    if status == 416:
        return DataError(f"{shown(url)} has become shorter while it was fetched (416); start again when it rests")
    if status:  # a ring of redirects has 0
        return Unreachable(f"the server of {shown(url)} answers {status}; try again later: what has come is kept")
    why = str(told) if isinstance(told, _Short) else type(told).__name__
    if isinstance(told, TimeoutError):
        why = "no answer in time"
    if isinstance(told, OSError) and told.strerror:
        why = told.strerror
    return Unreachable(f"{shown(url)} does not come ({why}); check the connection and try again: what has come is kept")


def _is_astray(error: BaseException) -> bool:
    """Whether a server sent us to a place that is not on the web, such as a file of this machine."""
    return "UrlRedirect" in type(error).__name__
