"""A server for tests, which can be made to fail."""

import contextlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves a folder; `trouble` may change each answer: (path, start, number of the request) -> what to do."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.etag, self.ranges, self.offline = folder, [], "v1", True, False
        self.trouble, self.headers, self.waits = (lambda *_: None), {}, threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def misbehaves(self, what):
        """Whether that was the answer."""
        if what == "hang":
            self.server.waits.wait(10)
            self.close_connection = True
        elif isinstance(what, str) and "://" in what:
            self.send_response(302)
            self.send_header("Location", what)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif what == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**16))
        else:
            return False
        return True

    def answer(self, body):  # noqa: C901 - one answer, with every trouble that a server can make
        server, file = self.server, self.server.folder / self.path.strip("/")
        if server.offline:
            self.close_connection = True
            return
        content = file.read_bytes() if file.is_file() else None
        asked = self.headers.get("Range") if server.ranges else None
        start, end = 0, len(content or b"")
        if asked and content is not None:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1, end)
        if body:
            server.asked.append((self.path, start))
        what = server.trouble(self.path, start, len(server.asked)) if body else None
        status = 404 if content is None else what if isinstance(what, int) else 206 if asked else 200
        payload = b"" if status >= 400 else content[start:end]
        if what == "short":
            payload = payload[:-100]
        if what and self.misbehaves(what):
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        if asked and status == 206:
            self.send_header("Content-Range", f"bytes {start + 7 * (what == 'elsewhere')}-{end - 1}/{len(content)}")
        for name, value in server.headers.items():
            self.send_header(name, value)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        if what == "drop":
            self.wfile.write(payload[: len(payload) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(payload)


@contextmanager
def serving(folder):
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
