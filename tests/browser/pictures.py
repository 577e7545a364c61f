"""Compare a page with its stored picture coarsely: 32 × 32 grey cells, with every letter drawn as the same box.

Fonts differ between machines, so that text is drawn in `boxes.woff`, a font that has one box for all of Unicode but
spaces (made by fontTools: a `cmap` of format 13). Lines then break at the same words everywhere.
`AFFINET_PICTURES=write` stores what is seen instead.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from tests.browser.visits import Visit

HERE = Path(__file__).parent
CELLS = 32
BOUND = 4.0
"""Largest mean difference in levels of grey, of 255. A figure on a sixteenth of the page whose grey differs by 64 from
the paper's changes the mean by 64 / 16 = 4 where it is missing; the edges of lines, which processors smooth
differently, by a level or two in few cells."""

BOXES = """async font => {
    const bytes = Uint8Array.from(atob(font), letter => letter.charCodeAt(0));
    document.fonts.add(await new FontFace("Boxes", bytes).load());
    const style = new CSSStyleSheet();
    style.replaceSync(`*, *::before, *::after { font-family: Boxes !important; }`);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
    await document.fonts.ready;
}"""

SHRINK = """async ([picture, cells]) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, image.width, image.height);
    const sums = new Float64Array(cells * cells), counts = new Float64Array(cells * cells);
    for (let y = 0; y < image.height; y++) for (let x = 0; x < image.width; x++) {
        const at = 4 * (y * image.width + x);
        const cell = Math.floor(y * cells / image.height) * cells + Math.floor(x * cells / image.width);
        sums[cell] += 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
        counts[cell] += 1;
    }
    return Array.from(sums, (sum, cell) => Math.round(sum / counts[cell]));
}"""

DRAW = """async ([greys, cells]) => {
    const canvas = new OffscreenCanvas(cells, cells), pen = canvas.getContext("2d");
    const image = pen.createImageData(cells, cells);
    greys.forEach((grey, cell) => image.data.set([grey, grey, grey, 255], 4 * cell));
    pen.putImageData(image, 0, 0);
    const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
}"""


def compare_picture(visit: Visit, name: str, *, full_page: bool = True) -> None:
    """Fail where the page differs from `pictures/<name>.png` by more than `BOUND`; the page keeps the font of boxes."""
    seen = shrunken_page(visit, full_page=full_page)
    path = HERE / "pictures" / f"{name}.png"
    desk = visit.page.context.browser.new_page()
    try:
        if os.environ.get("AFFINET_PICTURES") == "write":
            path.write_bytes(base64.b64decode(desk.evaluate(DRAW, [seen, CELLS])))
        assert path.is_file(), f"{path} is missing: AFFINET_PICTURES=write make browser stores it; look at it then"
        stored = _shrunken(desk, path.read_bytes())
    finally:
        desk.close()
    difference = mean_difference(seen, stored)
    assert difference <= BOUND, (
        f"{visit.address} differs from {path.name} by {difference:.1f} levels of grey on average, of at most {BOUND}; "
        f"where that is meant, AFFINET_PICTURES=write make browser stores the new picture"
    )


def shrunken_page(visit: Visit, *, full_page: bool = True) -> list[int]:
    """The page in boxes, as 32 × 32 levels of grey, row after row."""
    font = base64.b64encode((HERE / "boxes.woff").read_bytes()).decode()
    visit.page.evaluate(BOXES, font)
    picture = visit.page.screenshot(full_page=full_page, animations="disabled", caret="hide")
    desk = visit.page.context.browser.new_page()
    try:
        return _shrunken(desk, picture)
    finally:
        desk.close()


def mean_difference(one: list[int], other: list[int]) -> float:
    """The mean absolute difference of two pictures."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def _shrunken(desk: Any, picture: bytes) -> list[int]:
    greys: list[int] = desk.evaluate(SHRINK, [base64.b64encode(picture).decode(), CELLS])
    return greys
