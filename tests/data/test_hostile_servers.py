"""Servers that mean no good, or are broken: nothing of theirs is trusted, and nothing is waited for without end."""

import base64
import hashlib

import pytest
from aiohttp import ClientTimeout
from shard_server import serving

from nndl_suite.data import fetch as fetch_module
from nndl_suite.data.fetch import RemoteFile, check_redirect, fetch, file_system, look_up
from nndl_suite.errors import DataError

SIZE = 40_000


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(fetch_module, "CHUNK_BYTES", 16_384)
    monkeypatch.setattr(fetch_module, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(fetch_module, "PATIENCE", ClientTimeout(total=5.0, sock_connect=1.0, sock_read=0.3))


@pytest.fixture
def server(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.tar").write_bytes(bytes(range(250)) * (SIZE // 250))
    with serving(tmp_path / "there") as server:
        yield server
        server.waits.set()


def fetched(server, tmp_path):
    to = tmp_path / "root" / "x.tar"
    fetch(look_up(f"{server.url}/x.tar"), to, lambda _: None)
    return to.read_bytes()


def nothing_kept(tmp_path):
    return not (tmp_path / "root" / "x.tar").exists()


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://host/x.tar", "gopher://host/x"])
def test_a_redirect_to_what_is_not_on_the_web(server, tmp_path, place):
    server.trouble = lambda *_: place
    with pytest.raises(DataError, match="x.tar is redirected to what is no web address"):
        fetched(server, tmp_path)
    assert len(server.asked) == 1  # and it is not asked for again
    assert nothing_kept(tmp_path)


def test_a_redirect_in_a_ring(server, tmp_path):
    server.trouble = lambda *_: f"{server.url}/x.tar"
    with pytest.raises(DataError, match="answers 302|does not come"):
        fetched(server, tmp_path)
    assert nothing_kept(tmp_path)


def test_a_redirect_on_the_web_is_followed(server, tmp_path):
    (server.folder / "y.tar").write_bytes((server.folder / "x.tar").read_bytes())
    server.trouble = lambda path, *_: f"{server.url}/y.tar" if path == "/x.tar" else None
    assert len(fetched(server, tmp_path)) == SIZE


def test_a_redirect_that_takes_the_encryption_away():
    check_redirect("https://host/x.tar", "https://mirror/x.tar")
    check_redirect("http://host/x.tar", "https://host/x.tar")
    with pytest.raises(DataError, match="redirected to http://mirror/x.tar, which is not encrypted"):
        check_redirect("https://host/x.tar", "http://mirror/x.tar?key=hush")


def test_a_server_that_says_nothing(server, tmp_path):
    server.trouble = lambda *_: "hang"
    with pytest.raises(DataError, match=r"does not come \(no answer in time\)"):
        fetched(server, tmp_path)
    assert nothing_kept(tmp_path)


def test_a_body_without_end_is_cut_off_at_the_size_that_was_told(server, tmp_path):
    server.trouble = lambda *_: "endless"
    with pytest.raises(DataError, match=rf"does not come \(more than its {SIZE} bytes came\)"):
        fetched(server, tmp_path)
    assert (tmp_path / "root" / "x.tar.part").stat().st_size == 0


def test_another_stretch_than_the_one_asked_for(server, tmp_path):
    server.trouble = lambda _path, start, _n: "elsewhere" if start else None
    with pytest.raises(DataError, match="another part came than the one asked for"):
        fetched(server, tmp_path)
    assert nothing_kept(tmp_path)


@pytest.mark.parametrize("right", [True, False])
def test_a_digest_that_the_server_tells_is_held_against_what_came(server, tmp_path, right):
    digest = hashlib.md5((server.folder / "x.tar").read_bytes() + (b"" if right else b"x")).digest()
    server.headers = {"Content-MD5": base64.b64encode(digest).decode()}
    if right:
        assert len(fetched(server, tmp_path)) == SIZE
        return
    with pytest.raises(DataError, match="came damaged: its MD5 is not what its server says"):
        fetched(server, tmp_path)
    assert list((tmp_path / "root").iterdir()) == [tmp_path / "root" / "x.tar.lock"]


def test_digests_that_are_none_are_passed_over(server):
    for nonsense in ("not base64 !", "c2hvcnQ="):
        server.headers = {"Content-MD5": nonsense}
        assert look_up(f"{server.url}/x.tar").md5 == ""
    assert RemoteFile("u", 1, "v").md5 == ""


def test_a_chain_of_places_is_refused():
    """fsspec would go on behind the ::, to a file of this machine."""
    with pytest.raises(DataError, match="must name one place"):
        file_system("http://host/x.tar::file:///etc/passwd")
