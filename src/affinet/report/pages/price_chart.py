"""Draw the prices of the dearest rules as bars."""

from __future__ import annotations

from markupsafe import Markup

from affinet.report.pages.contents import Prices
from affinet.report.pages.shown_numbers import shown_number
from affinet.report.pages.vega_drawing import INK, RULED, drawn

MOST_BARS = 12
LONGEST_NAME = 32
WIDTH, BAR = 300, 24


def price_chart(prices: Prices) -> Markup:
    """The SVG of the bars: how much the loss would change by, the dearest rule on top."""
    import altair as alt

    bars = [
        {
            "place": k,
            "name": _short(price.rule),
            "size": abs(price.change),
            "text": shown_number(price.change, 2),
        }
        for k, price in enumerate(prices.dearest[:MOST_BARS])
    ]
    longest = max(abs(price.change) for price in prices.dearest[:MOST_BARS]) or 1.0
    data = alt.Chart(alt.Data(values=bars))
    y = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0.45))
    x = alt.X("size:Q", axis=None, scale=alt.Scale(domain=[0, longest], range=[0, WIDTH - 60]))
    zero = alt.value(0)
    layers = [
        data.mark_bar(fill=RULED, height=8, yOffset=7).encode(x=x, y=y),
        data.mark_text(align="left", dy=-5, fill=INK, limit=WIDTH).encode(x=zero, y=y, text="name:N"),
        data.mark_text(align="left", dx=5, dy=7, fill=INK, fontWeight="bold").encode(x=x, y=y, text="text:N"),
    ]
    return drawn(alt.layer(*layers).properties(width=WIDTH, height=len(bars) * (BAR + 8)))


def _short(name: str) -> str:
    text = " ".join(name.split())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
