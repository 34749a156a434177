"""Who is let in to the viewer's page, and to what of it."""

import asyncio
import socket
import urllib.error
import urllib.request

import pytest

pytest.importorskip("websockets", reason="comes with the viewer, an extra")

import websockets.asyncio.server
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from nndl_suite.errors import ConfigError
from nndl_suite.nerf.gate import Gate, gate_for, guarding, is_loopback

SECRET = "0123456789abcdef"
OPEN, CLOSED = Gate(), Gate(token=SECRET)
OWN = {"Host": "127.0.0.1:7007"}


def judged(gate, path="/", **headers):
    status, found = gate.judge(path, Headers(**{"Host": "127.0.0.1:7007", **headers}))
    return int(status), found


class TestPaths:
    @pytest.mark.parametrize("path", ["/", "/index.html", "/assets/i-9c.js", "/assets/a_b/font.v2.woff2", "/x.js?v=1"])
    def test_files_of_the_page(self, path):
        assert judged(OPEN, path) == (200, path.partition("?")[0])

    @pytest.mark.parametrize(
        "path",
        [
            "/../../etc/passwd",
            "/assets/../../x.py",
            "/..%2f..%2fetc/passwd.txt",
            "/%2e%2e/x.html",
            "//etc/passwd.txt",
            "/etc/passwd",
            "/.env",
            "/assets/.hidden.js",
            "/a/..",
            "/a\\..\\x.html",
            "/C:/x.html",
            "/x.html\0",
            "/x.html\n",
            "/assets/",
            "/assets",
            "/x.",
            "/x..js",
            "/ü.html",
            "http://elsewhere/x.html",
        ],
    )
    @pytest.mark.parametrize("gate", [OPEN, CLOSED])
    def test_all_else(self, gate, path):
        assert judged(gate, path if gate is OPEN else f"/{SECRET}/{path.removeprefix('/')}")[0] == 404


class TestSecrets:
    @pytest.mark.parametrize(
        "path",
        ["/", "", "/index.html", "/0123456789abcdeF/", "/0123456789abcde/", "/0123456789abcdef0/",
         "//0123456789abcdef/", "/x/0123456789abcdef/", "/?0123456789abcdef/", "/?token=0123456789abcdef",
         "/ü/", "/%30123456789abcdef/"],
    )  # fmt: skip
    def test_without_the_secret_nobody_sees_anything(self, path):
        assert judged(CLOSED, path) == (403, "")
        assert judged(CLOSED, path, Upgrade="websocket") == (403, "")

    def test_with_it_the_page_is_as_without(self):
        assert judged(CLOSED, f"/{SECRET}/") == judged(CLOSED, f"/{SECRET}") == (200, "/")
        assert judged(CLOSED, f"/{SECRET}/assets/x.js?a=/b") == (200, "/assets/x.js")
        assert judged(CLOSED, f"/{SECRET}?x", Upgrade="websocket")[0] == 200
        assert judged(CLOSED, f"/{SECRET}/", Host="anything", Origin="https://a.forwarded.port")[0] == 200

    def test_each_is_new_and_long_and_only_where_others_reach_the_address(self):
        tokens = {gate_for("0.0.0.0").token for _ in range(3)}
        assert len(tokens) == 3
        assert all(token and len(token) >= 32 for token in tokens)
        assert gate_for("127.0.0.1").token is gate_for("localhost").token is None

    def test_what_is_reached_by_this_machine_alone(self):
        assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "localhost")))
        assert not any(map(is_loopback, ("", "0", "0.0.0.0", "::", "192.0.2.1", "no such host")))


class TestOtherWebsites:
    @pytest.mark.parametrize("host", ["127.0.0.1:7007", "localhost:7007", "localhost", "[::1]:9", "127.0.0.2:1"])
    def test_this_machine_by_name(self, host):
        assert judged(OPEN, Host=host)[0] == 200
        assert judged(OPEN, Host=host, Origin=f"http://{host}", Upgrade="websocket")[0] == 200

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.com", "", "[", "0.0.0.0"])
    def test_a_name_that_was_led_here(self, host):
        assert judged(OPEN, Host=host)[0] == 403

    @pytest.mark.parametrize("origin", ["https://evil.com", "null", "", "http://127.0.0.1:80", "http://localhost:7007"])
    @pytest.mark.parametrize("upgrade", [{}, {"Upgrade": "websocket"}])
    def test_another_website(self, origin, upgrade):
        assert judged(OPEN, Origin=origin, **upgrade)[0] == 403

    def test_headers_that_come_twice_or_not_at_all(self):
        twice = Headers([("Host", "127.0.0.1"), ("Host", "127.0.0.1")])
        assert int(OPEN.judge("/", twice)[0]) == int(OPEN.judge("/", Headers())[0]) == 403
        both = Headers([("Host", "127.0.0.1"), ("Upgrade", "websocket"), ("Upgrade", "x")])
        assert int(OPEN.judge("/nothing", both)[0]) == 404


async def _served(gate, ask):
    """What happens to a client of a server that answers like viser's: a page, or an echo."""
    seen = []

    def page(_connection, request):
        seen.append(request.path)
        if request.headers.get("Upgrade"):
            return None
        return Response(200, "OK", Headers({"Content-Length": "4"}), b"page")

    async def echo(connection):
        await connection.send("hello")

    with guarding(gate):
        serving = websockets.asyncio.server.serve(echo, "127.0.0.1", 0, process_request=page)
    async with serving as server:
        return await ask(server.sockets[0].getsockname()[1]), seen


def test_a_server_is_guarded_in_its_own_handshake():
    async def ask(port):
        def get(path):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                    return answer.status, answer.read(), answer.headers["Referrer-Policy"]
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read()[:3], None

        pages = [await asyncio.to_thread(get, path) for path in ("/", f"/{SECRET}/", f"/{SECRET}/../x.js")]
        async with connect(f"ws://127.0.0.1:{port}/{SECRET}") as client:
            said = await client.recv()
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://127.0.0.1:{port}/wrong")
        return pages, said

    (pages, said), seen = asyncio.run(_served(CLOSED, ask))
    assert pages == [(403, b"403", None), (200, b"page", "no-referrer"), (404, b"404", None)]
    assert said == "hello"
    assert seen == ["/", "/"]


def test_another_website_cannot_open_a_socket():
    async def ask(port):
        async with connect(f"ws://127.0.0.1:{port}/", origin=f"http://127.0.0.1:{port}") as client:
            assert await client.recv() == "hello"
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://127.0.0.1:{port}/", origin="http://evil.example")

    asyncio.run(_served(OPEN, ask))


def test_a_server_that_goes_round_the_gate_is_refused():
    before = websockets.asyncio.server.serve
    with pytest.raises(ConfigError, match="cannot be guarded"), guarding(OPEN):
        socket.socket().close()
    assert websockets.asyncio.server.serve is before
