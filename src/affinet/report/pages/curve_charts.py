"""Draw a number over epochs or steps, with a line for what it is compared with."""

from __future__ import annotations

from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
from markupsafe import Markup

from affinet.report.pages.contents import Curve
from affinet.report.pages.vega_drawing import FITTED, PLAIN, RULED, drawn

WIDTH, HEIGHT = 330, 200
MOST_POINTS = 400
"""Points of a line that are drawn: more than a line of this width can show."""


def curve_chart(curve: Curve) -> Markup:
    """The SVG of a curve; an empty text where it has no number that can be drawn."""
    points = _points(curve)
    if not points:
        return Markup("")
    import altair as alt

    low, high = points[0]["place"], points[-1]["place"]
    epochs = whole_ticks(low, high)
    ticks = {"values": epochs, "format": ",d"} if epochs else {"tickCount": 5, "format": "~g"}
    axis = alt.Axis(title=curve.over, grid=False, **ticks)
    x = alt.X("place:Q", axis=axis, scale=alt.Scale(domain=[low, max(high, low + 1)], nice=False))
    y = alt.Y("value:Q", axis=_value_axis(curve, points), scale=_value_scale(curve, points))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=y)
    line = base.mark_line(stroke=RULED, strokeWidth=2, strokeJoin="round")
    last = (
        alt.Chart(alt.Data(values=points[-1:]))
        .mark_point(fill=RULED, stroke=RULED, filled=True, size=42, opacity=1)
        .encode(x, y)
    )
    layers: list[Any] = [line, last]
    if curve.reference is not None and _drawable(curve, curve.reference[1]):
        name, value = curve.reference
        rule = alt.Chart(alt.Data(values=[{"value": value, "name": name}]))
        layers.insert(0, rule.mark_rule(stroke=PLAIN, strokeWidth=1.5, strokeDash=[4, 3]).encode(y=y))
        layers.append(
            rule.mark_text(align="left", dx=4, dy=_side(curve, value, points), fill=PLAIN, color=PLAIN).encode(
                x=alt.value(0), y=y, text="name:N"
            )
        )
    return drawn(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, autosize=FITTED))


def _points(curve: Curve) -> list[dict[str, float]]:
    """The points to draw: all, or evenly spaced ones with the last."""
    both = [(p, v) for p, v in zip(curve.places, curve.values, strict=True) if _drawable(curve, v)]
    if len(both) > MOST_POINTS:
        both = [both[k] for k in np.unique(np.linspace(0, len(both) - 1, MOST_POINTS).astype(int))]
    return [{"place": float(place), "value": float(value)} for place, value in both]


def whole_ticks(low: float, high: float) -> list[int]:
    """About five whole numbers from `low` to `high`, a round distance apart; none where the ends are not whole."""
    if low != int(low) or high != int(high):
        return []
    widest = max((high - low) / 5, 1.0)
    power = 10 ** floor(log10(widest))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= widest)
    return list(range(-(-int(low) // step) * step, int(high) + 1, step))


def _drawable(curve: Curve, value: float) -> bool:
    return isfinite(value) and (value > 0.0 or not curve.logarithmic)


def _value_axis(curve: Curve, points: list[dict[str, float]]) -> Any:
    import altair as alt

    low, high = _ends(curve, points)
    if not curve.logarithmic:
        return alt.Axis(title=None, tickCount=4, format="~e" if high < 1e-3 or high >= 1e6 else "~r")
    ticks = _log_ticks(*_log_domain(low, high))
    form = "~e" if ticks[0] < 1e-3 or ticks[-1] > 1e5 else "~r"
    return alt.Axis(title=None, values=ticks, format=form)


def _value_scale(curve: Curve, points: list[dict[str, float]]) -> Any:
    import altair as alt

    low, high = _ends(curve, points)
    if not curve.logarithmic:
        return alt.Scale(zero=0 <= low < 0.5 * high, nice=True)
    return alt.Scale(type="log", domain=list(_log_domain(low, high)), nice=False)


def _log_domain(low: float, high: float) -> tuple[float, float]:
    """The ends of a logarithmic scale: room at both sides, and at least two powers of ten."""
    room = max(1.5, (100.0 * low / high) ** 0.5)
    return low / room, high * room


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside the scale, at most about five of them."""
    first, last = ceil(log10(low)), floor(log10(high))
    step = (last - first) // 5 + 1
    return [10.0**power for power in range(first, last + 1, step)]


def _ends(curve: Curve, points: list[dict[str, float]]) -> tuple[float, float]:
    values = [point["value"] for point in points]
    if curve.reference is not None and _drawable(curve, curve.reference[1]):
        values.append(curve.reference[1])
    return min(values), max(values)


def _side(curve: Curve, value: float, points: list[dict[str, float]]) -> int:
    """Below the line of reference where it is the highest, above it elsewhere."""
    _, high = _ends(curve, points)
    return 9 if value >= high else -8
