"""Write the pictures in docs/screens/ of the site that `make docs` built: the front page, the gallery, and pages of it.

CHROMIUM=/usr/bin/chromium python -m tests.browser.site_screens
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from tests.browser.visits import Visitor
from tools.find_chromium import find_chromium

ROOT = Path(__file__).parents[2]
SCREENS = ROOT / "docs" / "screens"
PAGES = (
    ("front_page", "index", 1300, 1250, False),
    ("front_page_narrow", "index", 390, 844, True),
    ("gallery", "gallery/README", 1300, 1000, True),
    ("portfolio", "gallery/portfolio", 1300, 1250, False),
    ("conserved_energy", "gallery/conserved_energy", 1300, 1250, True),
    ("rotated_digits", "gallery/rotated_digits", 390, 844, False),
)
"""The name of the picture, the page, width and height in pixels, and whether it is the dark theme."""


def write_screens(browser: Any) -> None:
    """Open each page and save what the window shows, in 64 colours."""
    from PIL import Image

    SCREENS.mkdir(exist_ok=True)
    visitor = Visitor(browser)
    for name, page, width, height, dark in PAGES:
        address = ROOT / "build" / "site" / "docs" / f"{page}.html"
        seen = visitor(address, width=width, height=height, dark=dark, until="networkidle")
        seen.check()
        picture = Image.open(io.BytesIO(seen.page.screenshot())).convert("RGB")
        picture.quantize(64).save(SCREENS / f"{name}.png", optimize=True)
    visitor.close()


if __name__ == "__main__":
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with sync_playwright() as started:
        write_screens(started.chromium.launch(executable_path=find_chromium(), args=arguments))
