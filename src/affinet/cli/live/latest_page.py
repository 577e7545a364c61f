"""Build the page of a run on request: after a change of its files, and so seldom that training keeps its processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from threading import Lock
from time import monotonic

from affinet.cli.live.run_position import RunPosition, read_position
from affinet.errors import AffinetError

SHORTEST_PAUSE = 1.0
"""Seconds between two pages."""
PAUSES = 3.0
"""A page that took a second to build is followed by three seconds of pause: a quarter of one core at most."""

BuildPage = Callable[[Path], str]


@dataclass(frozen=True)
class BuiltPage:
    """The text of a page, the files that it was built from, and when the next one may be built."""

    text: str
    files: str
    next_at: float


class LatestPage:
    """The page of the run in the folder `run`; threads that ask for it at once wait for one page.

    `load` imports what builds a page and returns it; it is called where a page is first asked for. Where building
    raises, the page says why there is no report.
    """

    def __init__(self, run: Path, load: Callable[[], BuildPage], clock: Callable[[], float] = monotonic) -> None:
        self.run, self._load, self._clock = run, load, clock
        self._lock, self._built = Lock(), BuiltPage("", "", 0.0)
        self._build: BuildPage | None = None
        self._is_last = False

    def position(self) -> RunPosition:
        """The position of the run."""
        return read_position(self.run)

    def offered(self, position: RunPosition) -> str:
        """The files that a page is or would be built from, if it were asked for now."""
        return position.files if self._may_build() else self._built.files

    def text(self) -> str:
        """The page as HTML: a new one where files have changed and the pause is over, else the last one."""
        with self._lock:
            position = self.position()
            if position.files != self._built.files and self._may_build():
                self._build = self._build or self._load()
                start = self._clock()
                text = self._text_at(position, self._build)
                end = self._clock()
                self._built = BuiltPage(text, position.files, end + max(SHORTEST_PAUSE, PAUSES * (end - start)))
            return self._built.text

    def allow_last(self) -> None:
        """Make no more pauses, since training has ended."""
        self._is_last = True

    def _may_build(self) -> bool:
        return self._is_last or self._clock() >= self._built.next_at

    def _text_at(self, position: RunPosition, build: BuildPage) -> str:
        if position.epochs == 0:
            return _page_without_report("It appears here when training begins.")
        try:
            return build(self.run)
        except (AffinetError, OSError) as error:
            return _page_without_report(str(error))
        except Exception as error:  # noqa: BLE001  (a fault of affinet: the next epoch may have a page again)
            return _page_without_report(f"{type(error).__name__}: {error}. This is a fault of affinet.")


def _page_without_report(reason: str) -> str:
    """A page that gives the reason for which there is no report."""
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>No report</title>'
    style = "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:2rem}</style></head>"
    return f"{head}{style}<body><main><h1>There is no report yet</h1><p>{escape(reason)}</p></main></body></html>"
