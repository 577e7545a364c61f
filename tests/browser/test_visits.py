"""The tests of pages notice what they are for: requests, complaints, unreadable pages, missing figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.pictures import BOUND, compare_picture, mean_difference, shrunken_page
from tests.browser.visits import Visitor, saved_page

FIGURE = '<svg width="400" height="300" role="img" aria-label="a"><rect width="400" height="300" fill="{}"/></svg>'
TEXT = "<h1>Weights</h1><p>Every row of the first layer sums to one, and the second one is positive.</p>"


def test_a_quiet_page_passes(visit: Visitor, tmp_path: Path) -> None:
    seen = visit(saved_page(tmp_path, TEXT))
    seen.check()
    seen.check_accessible()
    assert seen.requests == [seen.address]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("<script>console.error('no weights')</script>", "complains: .*no weights"),
        ("<script>throw Error('no chart')</script>", "complains: .*no chart"),
        ("<img src='missing.png' alt='a'>", "failed to get .*missing.png"),
        ("<img src='https://example.org/a.png' alt='a'>", "requests .*example.org"),
        ("<script>fetch('http://127.0.0.1:9/')</script>", "requests .*127.0.0.1:9"),
    ],
)
def test_what_a_page_must_not_do_is_noticed(visit: Visitor, tmp_path: Path, body: str, match: str) -> None:
    seen = visit(saved_page(tmp_path, TEXT + body), until="networkidle")
    with pytest.raises(AssertionError, match=match):
        seen.check()


def test_pages_that_cannot_be_heard_or_seen_are_noticed(visit: Visitor, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="image-alt"):
        visit(saved_page(tmp_path, TEXT + "<img src='data:,'>")).check_accessible()
    with pytest.raises(AssertionError, match="color-contrast"):
        visit(saved_page(tmp_path, "<p style='color: #bbb'>pale</p>")).check_accessible()


def test_a_picture_does_not_depend_on_fonts_and_shows_a_missing_figure(visit: Visitor, tmp_path: Path) -> None:
    pages = {
        "sans": TEXT + FIGURE.format("#888"),
        "serif": f"<div style='font-family: serif'>{TEXT}</div>" + FIGURE.format("#888"),
        "without": TEXT + FIGURE.format("none"),
    }
    greys = {
        name: shrunken_page(visit(saved_page(tmp_path, body, title=name), width=640)) for name, body in pages.items()
    }
    assert greys["sans"] == greys["serif"]
    assert mean_difference(greys["sans"], greys["without"]) > BOUND


def test_a_stored_picture_is_compared(visit: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_picture(visit(saved_page(tmp_path, TEXT + FIGURE.format("#888")), width=640), "a_figure")
    monkeypatch.delenv("AFFINET_PICTURES", raising=False)
    with pytest.raises(AssertionError, match=r"differs from a_figure\.png by \d+"):
        compare_picture(visit(saved_page(tmp_path, TEXT + FIGURE.format("#fff")), width=640), "a_figure")
