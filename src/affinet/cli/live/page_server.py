"""Answer a browser on this machine with the page of a run: GET and HEAD alone, and nothing for pages from elsewhere.

/         the frame around the page: progress, a button that pauses, and a script that asks for news
/report   the page, as `affinet report` writes it
/state    the position of the run, as JSON
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from time import monotonic
from typing import Any, ClassVar

from affinet.cli.live.latest_page import LatestPage
from affinet.cli.words import shell_word

FILES = Path(__file__).parent
FRAME = {
    "/": ("live.html", "text/html; charset=utf-8"),
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
}
FRAME_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
"""The page has no script, so that none runs in it, whatever a rule is called."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingTCPServer):
    """Serves a page at a socket that listens already.

    `asked_at` is the time of the last request, and `last_read` whether the last page was given to a browser.
    """

    daemon_threads = True

    def __init__(self, listening: socket.socket, page: LatestPage) -> None:
        super().__init__(listening.getsockname(), PageHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.page, self.over = page, False
        self.asked_at, self.last_read = 0.0, False

    @property
    def names(self) -> tuple[str, str]:
        """The hosts, with the port, that browsers on this machine know it by."""
        host, port = self.socket.getsockname()
        return f"{host}:{port}", f"localhost:{port}"

    def finish(self) -> None:
        """Say that the command has ended, and that the page is the last one."""
        self.page.allow_last()
        self.over = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore what breaks one connection, such as a browser that closes it."""


class PageHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "affinet", ""
    timeout = 30
    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD")

    def parse_request(self) -> bool:
        """Read a request, and refuse one that no browser makes for the user's own page; False where it was answered."""
        if not super().parse_request():
            return False
        refusal = _refusal(self.command, dict(self.headers.items()), self.server.names)
        if refusal is not None:
            self.close_connection = True  # the body of the request was not read
            self._answer(refusal[1].encode(), "text/plain; charset=utf-8", status=refusal[0])
            return False
        return True

    def do_GET(self) -> None:
        """Answer with the page, its frame, or the position of the run."""
        self.server.asked_at = monotonic()
        place = self.path.partition("?")[0]
        if place in FRAME:
            name, kind = FRAME[place]
            self._answer((FILES / name).read_bytes(), kind)
        elif place == "/state":
            self._answer(json.dumps(self._state()).encode(), "application/json")
        elif place == "/report":
            is_last = self.server.over
            self._answer(self.server.page.text().encode(), "text/html; charset=utf-8", policy=REPORT_POLICY)
            self.server.last_read |= is_last
        else:
            self._answer(b"There is nothing here.\n", "text/plain; charset=utf-8", status=HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name that http.server gives it)
        """Print nothing: the terminal shows the training."""

    def _state(self) -> dict[str, object]:
        over, position = self.server.over, self.server.page.position()
        run = shell_word(self.server.page.run)
        how = (
            f"affinet report {run} writes it to a file."
            if position.finished
            else f"To resume: affinet train --resume {run}"
        )
        return {
            "epoch": position.epoch,
            "epochs": position.epochs,
            "sentence": position.sentence,
            "over": over,
            "ending": f"The command has ended, and this page stays as it is. {how}",
            "page": self.server.page.offered(position),
        }

    def _answer(
        self, content: bytes, kind: str, *, policy: str = FRAME_POLICY, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Content-Security-Policy": policy}
        for name, value in (headers | HEADERS).items():
            self.send_header(name, value)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(self.methods))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _refusal(method: str, headers: Mapping[str, str], names: tuple[str, str]) -> tuple[HTTPStatus, str] | None:
    """Why a request is refused, None where it is not.

    The name of the host must be one of this machine: a page from elsewhere may have its own name lead here (DNS
    rebinding). A request that another page makes is refused, but for a link that is followed.
    """
    if headers.get("Host") not in names:
        port = names[0].rpartition(":")[2]
        way_out = f"Open http://{names[0]}/ on this machine, or forward the same port: ssh -L {port}:{names[0]} …"
        return HTTPStatus.MISDIRECTED_REQUEST, f"This page is served to this machine alone. {way_out}\n"
    if method not in PageHandler.methods:
        return HTTPStatus.METHOD_NOT_ALLOWED, "This page can only be read.\n"
    is_link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    is_foreign = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not is_link
    if is_foreign or headers.get("Origin", f"http://{names[0]}") not in {f"http://{name}" for name in names}:
        return HTTPStatus.FORBIDDEN, "This page is not for other pages.\n"
    return None
