"""`pcan sweep compare --serve`: the comparison page, kept live while a sweep runs. Read only.

Two addresses, `/` and `/data.json`, answered to GET alone. A request must name the server by the
address it listens on, so that a page of another site cannot reach it through the browser.
"""

import getpass
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.errors import InputError, PcanError
from pipeline.report.compare.page import as_script, build_page

#: Run directories are read again at most this often, however many pages poll.
FRESH_S = 2.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")

Collect = Callable[[], Mapping[str, Any]]


class _Source:
    """The latest data and its digest; the time at which it was made is left out of the digest."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._lock = threading.Lock()
        self._until = 0.0
        self._data: Mapping[str, Any] = {}
        self._tag = ""

    def get(self) -> tuple[Mapping[str, Any], str]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._data = self._collect()
                content = {key: value for key, value in self._data.items() if key != "made"}
                self._tag = f'"{hashlib.sha256(as_script(content).encode()).hexdigest()[:20]}"'
                self._until = time.monotonic() + FRESH_S
            return self._data, self._tag


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away: a closed page, a tunnel that broke."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def make_server(
    collect: Collect, host: str = "127.0.0.1", port: int = 0, lang: str = "en"
) -> ThreadingHTTPServer:
    """Return a server that is bound but not yet serving.

    Args:
        collect: returns the page's data, see `compare_record.collect`.
        port: 0 takes a free one.
        lang: of the page's own words.

    Raises:
        InputError: the address cannot be bound.
    """
    served = {"source": _Source(collect), "host": host, "lang": lang}
    handler = type("Handler", (_PageHandler,), served)
    try:
        return _Server((host, port), handler)
    except OSError as error:
        problem = error.strerror or error
        raise InputError(
            f"{host}:{port} cannot be served ({problem}). Choose another: --port"
        ) from None


class _PageHandler(BaseHTTPRequestHandler):
    """Answers one request; the server makes one for each, so what it serves is of the class."""

    source: _Source
    host: str
    lang: str
    protocol_version = "HTTP/1.1"
    server_version = "pcan"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        if not _named(self.headers.get("Host", ""), self.host):
            self.send(421, "text/plain", b"Ask for this page by the address pcan printed.\n")
        elif self.path in ("/", "/data.json"):
            self.send_fresh()
        else:
            self.send(404, "text/plain", b"There is only / here.\n")

    def send_fresh(self) -> None:
        try:
            data, tag = self.source.get()
        except (PcanError, OSError) as error:
            # Of this moment only, a locked storage for example: the page asks again.
            self.send(503, "text/plain; charset=utf-8", f"{error}\n".encode())
            return
        if self.path == "/":
            page = build_page(data, live=True, lang=self.lang)
            self.send(200, "text/html; charset=utf-8", page.encode())
            return
        same = self.headers.get("If-None-Match") == tag
        body = b"" if same else as_script(data).encode()
        self.send(304 if same else 200, "application/json", body, tag)

    def send(self, status: int, kind: str, body: bytes, tag: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002
        return  # one line a poll would bury everything else


def _named(given: str, host: str) -> bool:
    """Whether a Host header names this server; on a public address every name is accepted."""
    if host not in LOOPBACK:
        return True
    name = given.rsplit(":", 1)[0] if not given.endswith("]") else given
    return name.strip("[]") in LOOPBACK


def address(server: ThreadingHTTPServer) -> str:
    """Return the address to open in a browser."""
    host, port = str(server.server_address[0]), server.server_address[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def tunnel(server: ThreadingHTTPServer) -> str:
    """Return the command that brings the page to another machine, also to a phone's."""
    port = server.server_address[1]
    user = f"{getpass.getuser()}@" if os.environ.get("USER") else ""
    return f"ssh -N -L {port}:127.0.0.1:{port} {user}{socket.gethostname()}"
