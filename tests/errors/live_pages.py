"""The live page of a run: `affinet train --live`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from affinet.cli.commands import _live_port
from affinet.cli.live.live_view import live_page
from affinet.cli.screen import Screen
from affinet.errors import RunError
from tests.errors.case import case


@case(RunError, "Another program serves at the port.", "Name another port, or none.", foreign="(?<=port )\\d+")
def a_live_page_at_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, live_page(Screen(), folder, other.getsockname()[1]):
        pass


@case(
    RunError, "The Python that trains cannot start a process.", "Train without --live.", fragment="ended at its start"
)
def a_live_page_whose_process_does_not_start(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [])
        with live_page(Screen(), folder, 0):
            pass


@case(RunError, "A port without the page that is served there.", "Add --live.")
def a_port_without_a_live_page() -> None:
    _live_port(False, 8000)
