"""Write contents as one HTML file that loads nothing: styles and charts are in it, and there is no script."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affinet._version import __version__
from affinet.errors import MissingPackageError
from affinet.report.pages.contents import Contents
from affinet.report.pages.shown_numbers import shown_number, shown_text

if TYPE_CHECKING:
    from jinja2 import Environment

FILES = Path(__file__).parent
PACKAGES = {"altair": "altair", "vl_convert": "vl-convert-python"}
"""Module → package, of those that draw; Altair brings Jinja."""
LONGEST_LIST = 200
"""Sentences, findings and rules of a list that are shown; the page says how many there are."""
LONGEST_TEXT = 100_000
"""Characters of the plan's table and of the job file that are shown."""


def page(contents: Contents) -> str:
    """The HTML text of a page, at most 3 MB. Raises MissingPackageError where the extra `cli` is not installed.

    All text of `contents` is escaped, with characters that a browser would hide or turn shown by their code.
    """
    for module, package in PACKAGES.items():
        if find_spec(module) is None:
            raise MissingPackageError("the page of a report", package, 'Install it with: pip install "affinet[cli]"')
    from affinet.report.pages.curve_charts import curve_chart
    from affinet.report.pages.price_chart import price_chart
    from affinet.report.pages.weight_pictures import weight_picture

    prices = contents.prices
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            contents=contents,
            style=(FILES / "page.css").read_text(encoding="utf-8"),
            charts=[curve_chart(curve) for curve in contents.curves],
            price_chart=price_chart(prices) if prices and prices.dearest else "",
            pictures=[weight_picture(picture) for picture in contents.pictures],
            version=__version__,
            longest=LONGEST_LIST,
            longest_text=LONGEST_TEXT,
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(FILES),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["number"] = shown_number
    return environment


def _shown(value: Any) -> Any:
    """Text with hidden characters shown by their code; what is already HTML stays."""
    return shown_text(value) if type(value) is str else value
