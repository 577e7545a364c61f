"""The live page in a browser: it follows a run, keeps the reader's place, can be paused, and ends with the command."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pytest

from affinet.cli.live.latest_page import LatestPage
from affinet.cli.live.page_process import _load
from affinet.cli.live.page_server import PageServer
from tests.browser.pictures import compare_picture
from tests.browser.visits import Visit, Visitor

PATIENCE = 30.0
HOSTILE = "<script>document.title='owned'</script>"


class Run:
    """A folder that looks like a run in training; `finish_epoch` writes its next row."""

    def __init__(self, path: Path, epochs: int = 9) -> None:
        self.path, self.epoch = path, 0
        (path / "job.toml").write_text(f"[train]\nepochs = {epochs}\n# {HOSTILE}\n")
        (path / "plan.txt").write_text(
            f'1 equation.\n\nIn words:\n  - "{HOSTILE}" ties 1 pair of weights: 1 fewer free number.\n'
        )
        (path / "metrics.csv").write_text("epoch,loss,accuracy,largest_violation,stationarity\n")

    def finish_epoch(self) -> None:
        self.epoch += 1
        with (self.path / "metrics.csv").open("a") as file:
            file.write(f"{self.epoch},{1 / self.epoch!r},0.5,1e-07,{'' if self.epoch % 2 else 0.5}\n")


@contextmanager
def served(page: LatestPage) -> Iterator[PageServer]:
    server = PageServer(socket.create_server(("127.0.0.1", 0)), page)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def address(server: PageServer) -> str:
    return f"http://{server.names[0]}/"


def wait_for_text(visit: Visit, text: str) -> None:
    visit.page.wait_for_function(
        "text => document.getElementById('sentence').textContent.includes(text)", arg=text, timeout=1000 * PATIENCE
    )


def report(visit: Visit, text: str) -> Any:
    """The frame of the report, once it shows a text and is the only one."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        frames = visit.page.frames[1:]
        if len(frames) == 1 and text in frames[0].locator("body").inner_text():
            return frames[0]
        visit.page.wait_for_timeout(50)
    pytest.fail(f"no report says {text!r}")


def numbered(run: Run) -> LatestPage:
    """A page that is taller than the window, and says which epoch it shows."""
    lines = "".join(f"<p>line {number}</p>" for number in range(100))

    def build(path: Path) -> str:
        head = '<!doctype html><html lang="en"><head><title>a run</title></head>'
        details = "<details><summary>more</summary><p>inside</p></details>"
        return (
            f'{head}<body><main><h1>Epoch {run.epoch}</h1>{details}<a href="#end" id="end">end</a>{lines}</main></body>'
        )

    return LatestPage(run.path, lambda: build)


@pytest.mark.parametrize(("width", "dark"), [(1000, False), (400, True)])
def test_the_report_of_a_run_in_training(visit: Visitor, tmp_path: Path, width: int, dark: bool) -> None:
    run = Run(tmp_path)
    run.finish_epoch()
    with served(LatestPage(run.path, _load)) as server:
        seen = visit(address(server), width=width, dark=dark)
        report(seen, "fewer free number")
        wait_for_text(seen, "Epoch 1 of 9: loss 1, accuracy 50.0%, largest violation 1e-07.")
        run.finish_epoch()
        wait_for_text(seen, "Epoch 2 of 9")
        assert seen.page.title() == "2/9 – affinet: live"
        seen.check()
        seen.check_accessible()
        assert HOSTILE in report(seen, "2").locator("body").inner_text()
        assert not seen.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize(("name", "width", "dark"), [("live_light", 1000, False), ("live_dark_narrow", 400, True)])
def test_the_frame_of_the_report_looks_as_it_did(
    visit: Visitor, tmp_path: Path, name: str, width: int, dark: bool
) -> None:
    run = Run(tmp_path)
    for _ in range(5):
        run.finish_epoch()
    figure = '<svg viewBox="0 0 4 3" role="img" aria-label="a"><rect width="4" height="3" fill="#888"/></svg>'
    head = '<!doctype html><html lang="en"><head><title>a run</title></head>'
    with served(LatestPage(tmp_path, lambda: lambda _: f"{head}<body>{figure}</body></html>")) as server:
        seen = visit(address(server), width=width, dark=dark)
        wait_for_text(seen, "Epoch 5 of 9")
        report(seen, "")
        seen.page.wait_for_function("document.querySelector('iframe:not(.waiting)')")
        compare_picture(seen, name, full_page=False)


def test_a_new_page_keeps_the_place_of_the_reader(visit: Visitor, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_epoch()
    with served(numbered(run)) as server:
        seen = visit(address(server))
        frame = report(seen, "Epoch 1")
        frame.click("summary")
        frame.focus("#end")
        frame.evaluate("scrollTo(0, 300)")
        run.finish_epoch()
        frame = report(seen, "Epoch 2")
        state = "[scrollY, document.querySelector('details').open, document.activeElement.id]"
        assert frame.evaluate(state) == [300, True, "end"]
        seen.check()


def test_a_page_that_is_selected_waits(visit: Visitor, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_epoch()
    with served(numbered(run)) as server:
        seen = visit(address(server))
        frame = report(seen, "Epoch 1")
        frame.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
        run.finish_epoch()
        wait_for_text(seen, "Epoch 2 of 9")
        # The position goes on, the page and what a screen reader says do not.
        assert "Epoch 1" in report(seen, "line 1").locator("h1").inner_text()
        assert seen.page.inner_text("#spoken").startswith("Epoch 1 of 9")
        frame.evaluate("getSelection().removeAllRanges()")
        report(seen, "Epoch 2")


def test_the_page_can_be_paused_by_the_keyboard(visit: Visitor, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_epoch()
    with served(numbered(run)) as server:
        seen = visit(address(server))
        report(seen, "Epoch 1")
        seen.page.focus("#pause")
        seen.page.keyboard.press("Enter")
        assert seen.page.get_attribute("#pause", "aria-pressed") == "true"
        requests = len(seen.requests)
        run.finish_epoch()
        seen.page.wait_for_timeout(2500)  # two and a half times the interval of requests
        assert len(seen.requests) == requests
        seen.page.keyboard.press("Enter")
        report(seen, "Epoch 2")


@pytest.mark.parametrize("finished", [True, False])
def test_the_last_state_stays_when_the_command_ends(visit: Visitor, tmp_path: Path, finished: bool) -> None:
    run = Run(tmp_path, epochs=2)
    run.finish_epoch()
    with served(numbered(run)) as server:
        seen = visit(address(server))
        report(seen, "Epoch 1")
        if finished:
            run.finish_epoch()
            (tmp_path / "summary.json").write_text("{}")
        server.finish()
        wait_for_text(seen, f"affinet report {tmp_path}" if finished else f"affinet train --resume {tmp_path}")
        deadline = monotonic() + PATIENCE
        while not server.last_read and monotonic() < deadline:
            sleep(0.01)
        assert server.last_read
    report(seen, f"Epoch {run.epoch}")
    assert seen.page.is_disabled("#pause")
    assert seen.page.inner_text("#spoken") == seen.page.inner_text("#sentence")
    requests = len(seen.requests)
    seen.page.wait_for_timeout(1500)
    assert len(seen.requests) == requests
    seen.check()


def test_a_server_that_is_gone_is_noticed(visit: Visitor, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_epoch()
    with served(numbered(run)) as server:
        seen = visit(address(server))
        report(seen, "Epoch 1")
        seen.page.context.set_offline(True)
        wait_for_text(seen, "The command has ended, and this page is not refreshed any more.")


def test_another_page_cannot_show_or_read_it(visit: Visitor, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_epoch()
    with served(numbered(run)) as server:
        place = address(server)
        seen = visit("about:blank")
        seen.address = place  # let its requests through to the server, which must refuse them by itself
        seen.page.set_content(f"<iframe src='{place}'></iframe><img src='{place}report'>")
        outcome = seen.page.evaluate("place => fetch(place + 'state').then(() => 'read', () => 'refused')", place)
        assert outcome == "refused"
        seen.page.wait_for_timeout(200)
        refused = [failure for failure in seen.failed if place in failure]
        assert len(refused) >= 2
        assert "Epoch" not in "".join(frame.content() for frame in seen.page.frames[1:])
