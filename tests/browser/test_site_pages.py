"""Main pages of the site of `make docs`: no network, no complaints, readable with a screen reader, no overflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.visits import Visitor

SITE = Path(__file__).parents[2] / "build" / "site"
PAGES = ("index", "tutorial", "gallery/README", "gallery/portfolio", "coming-from/cvxpy", "limits", "api")

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="make docs builds the site that this looks at")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_readable(visit: Visitor, page: str) -> None:
    seen = visit(SITE / "docs" / f"{page}.html", width=1300)
    seen.check()
    seen.check_accessible()


@pytest.mark.parametrize("page", ["index", "tutorial", "gallery/README"])
def test_a_dark_page_is_readable(visit: Visitor, page: str) -> None:
    seen = visit(SITE / "docs" / f"{page}.html", width=1300, dark=True)
    seen.check()
    seen.check_accessible()


@pytest.mark.parametrize("page", PAGES)
def test_a_narrow_page_scrolls_in_one_direction(visit: Visitor, page: str) -> None:
    seen = visit(SITE / "docs" / f"{page}.html", width=375)
    seen.check()
    widths = seen.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1]


def test_a_search_finds_a_public_name(visit: Visitor) -> None:
    seen = visit(SITE / "search.html")
    seen.page.goto(f"{(SITE / 'search.html').as_uri()}?q=reparametrize")
    seen.page.wait_for_selector("#search-results li a[href*='affinet.reparametrize']")
    assert not seen.external
