"""Start one headless Chromium for all tests of a process; skip where Playwright or Chromium is missing.

`make browser` installs both, and names Chromium in CHROMIUM: then a browser that does not start fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.visits import Visitor
from tools.find_chromium import find_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser of Playwright, which is closed at the end."""
    reason = "pages are tested by make browser: the extra `browser`, and Chromium"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    pytest.importorskip("axe_playwright_python", reason=reason)
    path = find_chromium()
    if path is None:
        assert not os.environ.get("CHROMIUM"), f"CHROMIUM names {os.environ['CHROMIUM']}, which is not a file"
        pytest.skip(reason)
    arguments = ["--disable-dev-shm-usage"]  # containers give /dev/shm 64 MB
    if os.name == "posix" and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to start its sandbox for root
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, headless=True, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visitor]:
    """Open pages, `visit(path_or_address)`; they are closed after the test."""
    visitor = Visitor(chromium)
    yield visitor
    visitor.close()
