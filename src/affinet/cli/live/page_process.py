"""The program of the process that serves a run's page: it starts, writes where it listens, and ends with its parent.

The parent holds the other end of the standard input; it is closed when the command ends, however it ends. What builds
the page is imported where a browser first asks for it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from affinet.cli.live.latest_page import BuildPage
    from affinet.cli.live.page_server import PageServer

HOST = "127.0.0.1"
WATCHED = 3.0
"""Seconds since the last request after which no browser shows the page: it asks every second."""
LAST_PAGE = 5.0
"""Seconds that browsers are given to fetch the last page."""
LAST_READERS = 1.5
"""Seconds between the first and the last browser that fetches the last page."""


def serve(run: str, port: str) -> None:
    """Serve the page of a run, and end the process with the parent.

    Write one line of JSON: the port, or the reason why it cannot be had. Port 0 is any free one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training
    with suppress(OSError, AttributeError):
        os.nice(10)
    try:
        listening = socket.create_server((HOST, int(port)))
    except OSError as error:
        _tell({"reason": os.strerror(error.errno) if error.errno else str(error)})
        return
    _tell({"port": listening.getsockname()[1]})
    servers: list[PageServer] = []
    Thread(target=_answer, args=(listening, Path(run), servers), daemon=True).start()
    sys.stdin.buffer.read()
    for server in servers:
        server.finish()
        wait_for_readers(server)
    os._exit(0)  # browsers keep connections open, and their threads have nothing to finish


def wait_for_readers(
    server: PageServer, clock: Callable[[], float] = monotonic, wait: Callable[[float], object] = sleep
) -> None:
    """Wait until browsers that show the page have its last state, or do not ask for it."""
    end = clock() + LAST_PAGE
    while not server.last_read and clock() < min(end, server.asked_at + WATCHED):
        wait(0.05)
    if server.last_read:
        wait(LAST_READERS)


def _answer(listening: socket.socket, run: Path, servers: list[PageServer]) -> None:
    """Answer browsers, from the first one on."""
    select([listening], [], [])
    from affinet.cli.live.latest_page import LatestPage
    from affinet.cli.live.page_server import PageServer

    servers.append(PageServer(listening, LatestPage(run, _load)))
    servers[0].serve_forever()


def _load() -> BuildPage:
    from affinet.cli.reports.run_contents import contents_of_run
    from affinet.report.pages.rendering import page

    return lambda run: page(contents_of_run(run))


def _tell(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
