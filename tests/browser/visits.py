"""Open a page in Chromium, note what it requests and complains about, and test it for readers with a screen reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

INLINE = ("data", "blob", "about")
"""Schemes of addresses that ask nobody for anything."""


@dataclass
class Visit:
    """An open page: Playwright's `page`, and what happened since it was opened."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    external: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail for messages of errors on the console, exceptions, failed requests, and requests to anybody else."""
        assert not self.external, f"{self.address} requests {self.external}"
        assert not self.failed, f"{self.address} failed to get {self.failed}"
        assert not self.complaints, f"{self.address} complains: {self.complaints}"

    def check_accessible(self) -> None:
        """Fail for each serious or critical violation of the rules of axe-core."""
        from axe_playwright_python.sync_playwright import Axe

        violations = Axe().run(self.page).response["violations"]
        grave = [
            f"{violation['id']}: {violation['help']}, at {[' '.join(map(str, node['target'])) for node in nodes[:5]]}"
            for violation in violations
            if (nodes := violation["nodes"]) and violation["impact"] in ("serious", "critical")
        ]
        assert not grave, f"{self.address}: " + "; ".join(grave)


class Visitor:
    """Opens pages of one browser, each in a context of its own that nothing but its own origin can be reached from."""

    def __init__(self, browser: Any) -> None:
        self._browser, self._contexts = browser, []

    def __call__(
        self, address: str | Path, *, width: int = 1000, height: int = 800, dark: bool = False, until: str = "load"
    ) -> Visit:
        """Open a file or an address, and wait `until` it is loaded (or "networkidle")."""
        address = address.resolve().as_uri() if isinstance(address, Path) else address
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            device_scale_factor=1,
        )
        self._contexts.append(context)
        visit = Visit(context.new_page(), address)
        context.route("**/*", lambda route: _answer(route, visit))
        _listen(visit)
        visit.page.goto(address, wait_until=until)
        return visit

    def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            context.close()


def _answer(route: Any, visit: Visit) -> None:
    """Let a page have what is its own, and refuse what would leave the machine."""
    asked, own = urlsplit(route.request.url), urlsplit(visit.address)
    if (asked.scheme, asked.netloc) == (own.scheme, own.netloc) or asked.scheme in INLINE:
        route.continue_()
        return
    visit.external.append(route.request.url)
    route.abort()


def _listen(visit: Visit) -> None:
    page = visit.page
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("requestfailed", lambda request: visit.failed.append(f"{request.url} ({request.failure})"))
    page.on("response", lambda answer: answer.status >= 400 and visit.failed.append(f"{answer.url} ({answer.status})"))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and visit.complaints.append(message.text))


def saved_page(folder: Path, body: str, *, head: str = "", title: str = "a page") -> Path:
    """A small page in a file, for tests of the tests themselves."""
    start = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{head}</head>'
    path = folder / f"{title.replace(' ', '_')}.html"
    path.write_text(f"{start}<body><main>{body}</main></body></html>", encoding="utf-8")
    return path
