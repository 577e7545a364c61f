"""Draw Vega-Lite charts as SVG whose colours are variables of the page's style, so that they follow light and dark."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from affinet.report.pages.shown_numbers import shown_text

INK, QUIET, GRID = "var(--ink)", "var(--quiet)", "var(--grid)"
RULED, PLAIN = "var(--ruled)", "var(--plain)"
"""Colours of marks: with rules, and without."""

FITTED = {"type": "fit", "contains": "padding"}
"""The size of a chart is that of the whole picture, its axes included."""

CONFIG: dict[str, Any] = {
    "aria": False,  # the page describes each chart, and has its numbers in a table
    "background": "transparent",
    "font": "Source Sans 3, Helvetica Neue, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": QUIET,
        "tickColor": QUIET,
        "gridColor": GRID,
        "labelColor": QUIET,
        "titleColor": QUIET,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "tickSize": 4,
    },
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
    "text": {"color": INK, "fontSize": 12},
}


def drawn(chart: Any) -> Markup:
    """The SVG of a chart of Altair, sized by the page that holds it and hidden from screen readers."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(_printable(chart.configure(**CONFIG).to_dict()))
    opening, content = svg.split(">", 1)
    view = re.search(r'viewBox="([^"]*)"', opening)
    assert view is not None, "Vega writes the size of its picture"
    width = view[1].split()[2]
    return Markup(
        f'<svg viewBox="{view[1]}" style="max-width:{width}px" aria-hidden="true" focusable="false">{content}'
    )


def _printable(spec: Any) -> Any:
    """A specification whose texts hold no control characters: with one, vl-convert ends the whole process."""
    if isinstance(spec, dict):
        return {key: _printable(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_printable(value) for value in spec]
    return shown_text(spec) if isinstance(spec, str) else spec
