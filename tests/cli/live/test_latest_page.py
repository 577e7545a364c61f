"""A page is built where somebody asks for it, its files have changed, and the pause since the last one is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Thread

import pytest

from affinet.cli.live.latest_page import PAUSES, SHORTEST_PAUSE, LatestPage
from affinet.errors import RunError


@dataclass
class Build:
    """Counts pages; each takes `seconds` of a clock that nothing else moves."""

    seconds: float = 0.0
    now: float = 100.0
    pages: list[str] = field(default_factory=list)

    def load(self) -> Callable[[Path], str]:
        return self.build

    def build(self, run: Path) -> str:
        self.now += self.seconds
        self.pages.append((run / "metrics.csv").read_text())
        return f"page {len(self.pages)}"

    def clock(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text("")
    return tmp_path


def write(run: Path, text: str) -> None:
    (run / "metrics.csv").write_text(text)


def test_a_page_is_built_once_for_the_same_files(run: Path) -> None:
    build = Build()
    latest = LatestPage(run, build.load, build.clock)
    write(run, "1")
    assert [latest.text() for _ in range(3)] == ["page 1"] * 3
    build.now += 1e6
    assert latest.text() == "page 1"
    assert build.pages == ["1"]


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, SHORTEST_PAUSE), (2.0, 2.0 * PAUSES)])
def test_a_pause_follows_each_page(run: Path, seconds: float, pause: float) -> None:
    build = Build(seconds)
    latest = LatestPage(run, build.load, build.clock)
    write(run, "1")
    first = latest.offered(latest.position())
    assert latest.text() == "page 1"
    write(run, "12")
    build.now += 0.99 * pause
    assert latest.text() == "page 1"
    assert latest.offered(latest.position()) == first
    build.now += 0.02 * pause
    assert latest.offered(latest.position()) != first
    assert latest.text() == "page 2"


def test_the_last_page_waits_for_no_pause(run: Path) -> None:
    build = Build()
    latest = LatestPage(run, build.load, build.clock)
    write(run, "1")
    latest.text()
    write(run, "12")
    latest.allow_last()
    assert latest.text() == "page 2"


def test_nothing_is_built_before_training_begins(tmp_path: Path) -> None:
    build = Build()
    text = LatestPage(tmp_path / "run", build.load, build.clock).text()
    assert "It appears here when training begins." in text
    assert not build.pages


@pytest.mark.parametrize("error", [RunError("no <b>run</b>"), OSError("gone <b>"), KeyError("<b>")])
def test_a_page_that_cannot_be_built_says_why(run: Path, error: Exception) -> None:
    def build(_: Path) -> str:
        raise error

    text = LatestPage(run, lambda: build).text()
    assert "There is no report yet" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


def test_readers_at_once_get_one_page(run: Path) -> None:
    build, start, seen = Build(), Barrier(8), list[str]()
    latest = LatestPage(run, build.load, build.clock)
    write(run, "1")

    def read() -> None:
        start.wait()
        seen.append(latest.text())

    threads = [Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["page 1"] * 8
    assert len(build.pages) == 1
