"""Who is let in to the page of `nerf view`, and to which of its files: asked before viser answers anything.

viser has no password, serves whatever file a path with `..` leads to, and takes a connection from any website that the
browser shows beside it. So each request is judged here first, in the server's own handshake: there is no second
port behind it.

Where the address is this machine's own, a request must be for this machine by name and, if a website sends it, come
from this page: that keeps out other websites, whatever name they give themselves. Where others can reach the address,
the first part of the path must be a secret instead; who has it may come through whatever forwards the port.
"""

import contextlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import websockets.asyncio.server  # pyright: ignore[reportMissingImports] - comes with viser, an extra
from websockets.datastructures import Headers  # pyright: ignore[reportMissingImports]
from websockets.http11 import Request, Response  # pyright: ignore[reportMissingImports]

from nndl_suite.errors import ConfigError

Answer = Callable[[Any, Request], Response | None]
"""What websockets asks of a connection and its request: a response, or None for a handshake."""

_FILE = re.compile(r"/|(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/[A-Za-z0-9_-][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")
"""Paths of viser's own page: no `..`, no hidden files, no folders, nothing percent-encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a request must show to be let in."""

    token: str | None = None
    """The first part of the path; None: the request must be this machine's own."""

    @property
    def prefix(self) -> str:
        """What an address ends with; the slash, since the page names its files from there."""
        return "" if self.token is None else f"/{self.token}/"

    def judge(self, path: str, headers: Headers) -> tuple[HTTPStatus, str]:
        """OK and the path as viser is to see it, or why not."""
        if self.token is not None:
            root, given, rest = [*path.partition("?")[0].split("/", 2), "", ""][:3]
            if root or not hmac.compare_digest(given.encode(), self.token.encode()):
                return HTTPStatus.FORBIDDEN, ""
            path = f"/{rest}"
        elif not _is_own(headers):
            return HTTPStatus.FORBIDDEN, ""
        path = path.partition("?")[0]
        if is_handshake(headers) or _FILE.fullmatch(path):
            return HTTPStatus.OK, path
        return HTTPStatus.NOT_FOUND, ""


def gate_for(host: str) -> Gate:
    """Open to this machine alone, or, where others can reach the address, with a new secret."""
    return Gate() if is_loopback(host) else Gate(token=secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)}
    except (socket.gaierror, UnicodeError):
        return False  # it will be refused as an address
    return host != "" and all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)


def is_handshake(headers: Headers) -> bool:
    """Whether a request wants a WebSocket."""
    return headers.get_all("Upgrade") == ["websocket"]  # to the letter, as viser asks


@contextlib.contextmanager
def guarding(gate: Gate) -> Generator[None, None, None]:
    """Servers that are started inside let nobody in whom the gate refuses.

    viser hands websockets no hook of ours, so its `serve` is another one for as long as this lasts.

    Raises:
        ConfigError: none was started, so whatever serves now does it in another way, and unguarded.
    """
    theirs: Any = websockets.asyncio.server.serve
    started = False

    def serve(*args: Any, process_request: Answer | None = None, **kwargs: Any) -> Any:  # whatever viser says
        nonlocal started
        started = True
        return theirs(*args, process_request=partial(_answer, gate, process_request), **kwargs)

    websockets.asyncio.server.serve = serve  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = theirs
    if not started:
        raise ConfigError("this version of viser serves in a way that cannot be guarded; install viser 1.0 to 1.1")


def _answer(gate: Gate, theirs: Answer | None, connection: Any, request: Request) -> Response | None:
    status, path = gate.judge(request.path, request.headers)
    if status is not HTTPStatus.OK:
        return connection.respond(status, f"{status.value} {status.phrase}: open the address that nerf view printed\n")
    response = None if theirs is None else theirs(connection, replace(request, path=path))
    if response is not None:
        response.headers["Referrer-Policy"] = "no-referrer"  # the path may be secret
    return response


def _is_own(headers: Headers) -> bool:
    """Whether a request is for this machine by name, and from no other website than this one."""
    hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
    if len(hosts) != 1 or not _names_loopback(hosts[0]):
        return False
    return all(urlsplit(origin).netloc == hosts[0] for origin in origins)


def _names_loopback(host: str) -> bool:
    """Whether a Host header has a name that no website can have: else it may be one whose address was changed."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
