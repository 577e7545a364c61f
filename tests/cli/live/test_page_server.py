"""The server answers this machine's browser alone: GET and HEAD, its own names, and no other page."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from affinet.cli.live.latest_page import LatestPage
from affinet.cli.live.page_process import LAST_PAGE, LAST_READERS, WATCHED, wait_for_readers
from affinet.cli.live.page_server import FRAME_POLICY, REPORT_POLICY, PageServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    tmp_path = tmp_path / "a run"
    tmp_path.mkdir()
    (tmp_path / "job.toml").write_text("[train]\nepochs = 3\n")
    listening = socket.create_server(("127.0.0.1", 0))
    started = PageServer(listening, LatestPage(tmp_path, lambda: lambda run: f"<p>{run.name}</p>"))
    thread = Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


def port_of(server: PageServer) -> int:
    return int(server.socket.getsockname()[1])


def ask(server: PageServer, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port_of(server), timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        ("/", "text/html", b'id="pause"'),
        ("/live.css", "text/css", b"iframe"),
        ("/live.js", "text/javascript", b"exchange"),
        ("/report", "text/html", b"<p>"),
        ("/report?again", "text/html", b"<p>"),
        ("/state", "application/json", b'"epochs": 3'),
    ],
)
def test_each_address_is_answered_with_headers_that_keep_others_out(
    server: PageServer, path: str, kind: str, part: bytes
) -> None:
    answer, content = ask(server, path)
    assert answer.status == 200
    assert answer.headers["Content-Type"].split(";")[0] == kind
    assert part in content
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert "Python" not in answer.headers["Server"]
    policy = REPORT_POLICY if path.startswith("/report") else FRAME_POLICY
    assert answer.headers["Content-Security-Policy"] == policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")


def test_a_page_of_rules_may_run_no_script() -> None:
    assert "script-src" not in REPORT_POLICY
    assert "connect-src" not in REPORT_POLICY


def test_head_is_get_without_content(server: PageServer) -> None:
    answer, content = ask(server, "/report", "HEAD")
    assert (answer.status, content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(ask(server, "/report")[1])


@pytest.mark.parametrize("path", ["/../live.html", "/live_view.py", "/job.toml", "/report/x", "/nothing"])
def test_there_is_nothing_else(server: PageServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_nothing_can_be_written(server: PageServer, method: str) -> None:
    answer, _ = ask(server, "/report", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{}", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:{}", "0.0.0.0:{}", ""],
)
def test_a_name_that_was_led_here_is_refused(server: PageServer, host: str) -> None:
    answer, content = ask(server, "/report", Host=host.format(port_of(server)))
    assert answer.status == 421
    assert f"ssh -L {port_of(server)}:127.0.0.1:{port_of(server)}".encode() in content


def test_a_request_without_a_host_is_refused(server: PageServer) -> None:
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=30) as plain:
        plain.sendall(b"GET /report HTTP/1.0\r\n\r\n")
        assert plain.recv(100).split()[1] == b"421"


def test_both_names_of_this_machine_are_answered(server: PageServer) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert ask(server, "/report", Host=f"{host}:{port_of(server)}")[0].status == 200


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(headers.values()))
@pytest.mark.parametrize("path", ["/", "/report", "/state"])
def test_another_page_gets_nothing(server: PageServer, path: str, headers: dict[str, str]) -> None:
    assert ask(server, path, **headers)[0].status == 403


def test_a_link_from_another_page_may_be_followed(server: PageServer) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(server, "/", **link)[0].status == 200
    own = {"Sec_Fetch_Site": "same-origin", "Origin": f"http://127.0.0.1:{port_of(server)}"}
    assert ask(server, "/state", **own)[0].status == 200


def test_the_state_says_when_the_command_has_ended(server: PageServer) -> None:
    state = json.loads(ask(server, "/state")[1])
    assert (state["epoch"], state["epochs"], state["over"]) == (0, 3, False)
    server.finish()
    state = json.loads(ask(server, "/state")[1])
    assert state["over"]
    assert state["ending"].endswith(f"To resume: affinet train --resume {shlex.quote(str(server.page.run))}")
    (server.page.run / "summary.json").write_text("{}")
    assert f"affinet report {shlex.quote(str(server.page.run))}" in json.loads(ask(server, "/state")[1])["ending"]


class Clock:
    """A clock that only waiting moves."""

    def __init__(self, now: float) -> None:
        self.now, self.start = now, now

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_the_end_waits_only_for_browsers_that_show_the_page(server: PageServer) -> None:
    nobody = Clock(1000.0)
    wait_for_readers(server, nobody, nobody.wait)
    assert nobody.now == nobody.start
    asking = Clock(1000.0)
    server.asked_at = 999.0
    wait_for_readers(server, asking, asking.wait)
    assert WATCHED - 1.0 <= asking.now - asking.start <= LAST_PAGE
    server.finish()
    ask(server, "/report")
    while not server.last_read:  # set after the browser has the answer
        sleep(0.01)
    reading = Clock(1000.0)
    wait_for_readers(server, reading, reading.wait)
    assert reading.now - reading.start == LAST_READERS
