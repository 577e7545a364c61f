"""Draw a weight as a matrix of coloured cells: its numbers at several times, and what rules ask of each entry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from affinet.errors import visible
from affinet.report.pages.contents import KINDS, Panel, Picture, Total
from affinet.report.pages.shown_numbers import shown_number

SIDE = 204
"""The longest side of a matrix, in units of the picture; a unit is a pixel on a wide screen."""
NARROWEST, WIDEST = 3.0, 26.0
MARGIN = 40
"""The strip that sums are drawn in."""
SHADES = 11
COLOURS = 12
"""Colours of classes of tied entries; more classes repeat them."""
SIGNS = {"==": "=", "<=": "≤", ">=": "≥"}
ROUNDING = 1e-6
"""Sums of numbers in float32 are zero up to about this part of the largest one."""
LONGEST_NAME = 60
"""Characters of the name of a column in a tooltip."""
MOST_NAMED = 256
"""Cells that have their number as a tooltip; larger pictures would need megabytes for that."""


@dataclass(frozen=True)
class Grid:
    """The places of cells: their width and height."""

    rows: int
    columns: int
    wide: float
    high: float

    def cells(self, marked: np.ndarray) -> str:
        """The outline of the marked cells, with neighbours of a row joined: the path of an SVG."""
        return "".join(
            f"M{_short(first * self.wide)} {_short(row * self.high)}h{_short(count * self.wide)}"
            f"v{_short(self.high)}h{_short(-count * self.wide)}z"
            for row, first, count in _runs(marked)
        )


def weight_picture(picture: Picture) -> Markup:
    """The panels of a picture, side by side: each a figure with a caption and a description."""
    rows, columns = picture.kinds.shape
    grid = Grid(rows, columns, _side_of(columns), _side_of(rows))
    largest = max((float(np.nanmax(np.abs(p.values), initial=0.0)) for p in picture.panels), default=0.0)
    panels = [_values(picture, panel, grid, largest or 1.0) for panel in picture.panels]
    return Markup("").join([*panels[:1], _structure(picture, grid), *panels[1:]])


def _values(picture: Picture, panel: Panel, grid: Grid, largest: float) -> Markup:
    """The numbers of one time: orange below zero, blue above, with marks at bounds and the sums of rows."""
    parts = [f'<path class="frame" d="M0 0h{_short(grid.columns * grid.wide)}v{_short(grid.rows * grid.high)}H0z"/>']
    finite = np.isfinite(panel.values)
    shade = np.rint((np.where(finite, panel.values, 0.0) / largest + 1.0) * (SHADES - 1) / 2).astype(int)
    shaded = {f"d{k}": grid.cells((shade == k) & finite) for k in range(SHADES)}
    parts += [f'<path class="{name}" d="{path}"/>' for name, path in shaded.items() if path]
    if path := grid.cells(~finite):
        parts.append(f'<path class="broken" d="{path}"/>')
    if panel is picture.panels[0]:
        parts += _bound_marks(picture, grid)
        parts += _tooltips(panel, grid, picture.column_names)
    sums, width, height = _sums(picture, panel, grid)
    return _figure(panel.title, _values_sentence(picture, panel), [*parts, *sums], width, height)


def _structure(picture: Picture, grid: Grid) -> Markup:
    """What rules ask of each entry."""
    parts = [f'<path class="frame" d="M0 0h{_short(grid.columns * grid.wide)}v{_short(grid.rows * grid.high)}H0z"/>']
    for number, kind in enumerate(KINDS):
        if kind == "tied":
            for colour in range(COLOURS):
                marked = (picture.kinds == number) & (picture.groups % COLOURS == colour)
                if path := grid.cells(marked):
                    parts.append(f'<path class="t{colour}" d="{path}"/>')
        elif number and (path := grid.cells(picture.kinds == number)):
            parts.append(f'<path class="k-{kind.split()[-1]}" d="{path}"/>')
    parts += _total_labels(picture, grid)
    width, height = grid.columns * grid.wide, grid.rows * grid.high
    width, height = width + MARGIN * any(picture.row_totals), height + MARGIN * any(picture.column_totals)
    return _figure("What the rules ask", structure_sentence(picture), parts, width, height)


def _total_labels(picture: Picture, grid: Grid) -> Iterator[str]:
    """Brackets beside rows and under columns whose sums rules are about, with what they ask where that is the same."""
    width, height = grid.columns * grid.wide, grid.rows * grid.high
    for across, totals in ((False, picture.row_totals), (True, picture.column_totals)):
        places = [k for k, total in enumerate(totals) if total is not None]
        if not places:
            continue
        size = grid.wide if across else grid.high
        first, last = places[0] * size + 0.5, (places[-1] + 1) * size - 0.5
        middle = (first + last) / 2
        if across:
            outline = f"M{_short(first)} {_short(height + 3)}v3H{_short(last)}v-3"
            place = f'x="{_short(middle)}" y="{_short(height + 19)}" text-anchor="middle"'
        else:
            outline = f"M{_short(width + 3)} {_short(first)}h3V{_short(last)}h-3"
            place = f'x="{_short(width + 9)}" y="{_short(middle + 4)}"'
        yield f'<path class="target" d="{outline}"/><text class="total" {place}>{_asked_of(totals)}</text>'


def _asked_of(totals: tuple[Total | None, ...]) -> str:
    asks = {(total.sense, shown_number(total.bound)) for total in totals if total is not None}
    if len(asks) > 1:
        return "Σ"
    ((sense, bound),) = asks
    return f"Σ {SIGNS[sense]} {bound}"


def structure_sentence(picture: Picture) -> str:
    """How many of the entries that are drawn are of which kind."""
    count = picture.kinds.size
    parts = []
    for number in reversed(range(len(KINDS))):
        of_kind = int(np.count_nonzero(picture.kinds == number))
        if of_kind:
            groups = len(np.unique(picture.groups[picture.kinds == number])) if KINDS[number] == "tied" else 0
            among = f" in {groups:,} {'group' if groups == 1 else 'groups'}" if groups else ""
            parts.append(f"{of_kind:,} {KINDS[number]}{among}")
    return f"Of {count:,} {'entry' if count == 1 else 'entries'} drawn: {', '.join(parts)}."


def _values_sentence(picture: Picture, panel: Panel) -> str:
    numbers = panel.values[np.isfinite(panel.values)]
    if not numbers.size:
        return "No number is finite."
    least, most = shown_number(float(numbers.min())), shown_number(float(numbers.max()))
    all_are = "It is" if numbers.size == 1 else "All are"
    sentence = f"From {least} to {most}" if least != most else f"{all_are} {least}"
    at_bound = int(np.count_nonzero(picture.upper | picture.lower))
    if panel is picture.panels[0] and at_bound:
        sentence += f"; {at_bound:,} at a bound"
    for name, numbers_of, totals, sums in (
        ("row", picture.rows, picture.row_totals, panel.row_sums),
        ("column", picture.columns, picture.column_totals, panel.column_sums),
    ):
        chosen = {int(numbers_of[k]): float(sums[k]) for k, total in enumerate(totals) if total is not None}
        if chosen:
            place = next(iter(chosen))
            sentence += f"; {name} {place:,} sums" if len(chosen) == 1 else f"; {name}s sum"
            sentence += f" to {_ends(list(chosen.values()))}"
    return f"{sentence}."


def _ends(sums: list[float]) -> str:
    """`1`, or `between 0 and 2`: a sum that is zero to the rounding of its terms is shown as zero."""
    largest = max(map(abs, sums))
    low, high = (0.0 if abs(end) <= ROUNDING * largest else end for end in (min(sums), max(sums)))
    if f"{low:.4g}" == f"{high:.4g}":
        return shown_number(low)
    return f"between {shown_number(low)} and {shown_number(high)}"


def _sums(picture: Picture, panel: Panel, grid: Grid) -> tuple[list[str], float, float]:
    """Dots for the sums of rows and columns that rules are about, on a line for what they ask; the picture's size."""
    width, height, parts = grid.columns * grid.wide, grid.rows * grid.high, list[str]()
    for across, totals in ((False, picture.row_totals), (True, picture.column_totals)):
        if not any(totals):
            continue
        every = [panel_of.column_sums if across else panel_of.row_sums for panel_of in picture.panels]
        low, high = _reach(every, totals)
        start, size = (height, grid.wide) if across else (width, grid.high)
        sums_of_panel = every[[panel_of is panel for panel_of in picture.panels].index(True)]

        def at(value: float, start: float = start, low: float = low, high: float = high) -> float:
            return start + 8 + (MARGIN - 12) * (value - low) / (high - low)

        for k, total in enumerate(totals):
            if total is None:
                continue
            middle, target, dot = (k + 0.5) * size, at(total.bound), at(float(sums_of_panel[k]))
            tick = (middle - size / 2, middle + size / 2)
            if across:
                parts.append(f'<path class="target" d="M{_short(tick[0])} {_short(target)}H{_short(tick[1])}"/>')
            else:
                parts.append(f'<path class="target" d="M{_short(target)} {_short(tick[0])}V{_short(tick[1])}"/>')
            if np.isfinite(dot):
                x, y = (middle, dot) if across else (dot, middle)
                radius = _short(min(2.6, max(1.2, size / 2)))
                parts.append(f'<circle class="sum" cx="{_short(x)}" cy="{_short(y)}" r="{radius}"/>')
    return parts, width + MARGIN * any(picture.row_totals), height + MARGIN * any(picture.column_totals)


def _reach(sums: list[np.ndarray], totals: tuple[Total | None, ...]) -> tuple[float, float]:
    """The lowest and the highest of the sums and of what is asked, with room where they are equal."""
    bounds = [(k, total.bound) for k, total in enumerate(totals) if total is not None]
    numbers = np.array([bound for _, bound in bounds] + [float(s[k]) for s in sums for k, _ in bounds])
    numbers = numbers[np.isfinite(numbers)]
    low, high = float(numbers.min(initial=np.inf)), float(numbers.max(initial=-np.inf))
    room = 0.5 * max(abs(low), 1.0) if high - low <= 1e-4 * max(abs(low), abs(high), 1e-12) else 0.0
    return low - room, high + room


def _bound_marks(picture: Picture, grid: Grid) -> Iterator[str]:
    """Triangles on entries at their bound: upwards at an upper one, downwards at a lower one."""
    for name, marked, sign in (("upper", picture.upper, -1), ("lower", picture.lower, 1)):
        size = 0.32 * min(grid.wide, grid.high)
        path = "".join(
            f"M{_short((c + 0.5) * grid.wide - size)} {_short((r + 0.5) * grid.high - sign * size * 0.7)}"
            f"h{_short(2 * size)}l{_short(-size)} {_short(sign * 1.5 * size)}z"
            for r, c in np.argwhere(marked).tolist()
        )
        if path:
            yield f'<path class="bound {name}" d="{path}"/>'


def _tooltips(panel: Panel, grid: Grid, names: tuple[str, ...]) -> Iterator[str]:
    if panel.values.size > MOST_NAMED:
        return
    for (r, c), value in np.ndenumerate(panel.values):
        place = f'x="{_short(c * grid.wide)}" y="{_short(r * grid.high)}"'
        size = f'width="{_short(grid.wide)}" height="{_short(grid.high)}"'
        name = f"{escape(visible(names[c][:LONGEST_NAME]))}: " if names else ""
        yield f'<rect class="touch" {place} {size}><title>{name}{shown_number(float(value))}</title></rect>'


def _figure(title: str, sentence: str, parts: list[str], width: float, height: float) -> Markup:
    view = f"-1 -1 {_short(width + 2)} {_short(height + 2)}"
    text = escape(visible(title)), escape(visible(sentence))
    return Markup(
        f'<figure class="panel"><figcaption><b>{text[0]}</b> <span>{text[1]}</span></figcaption>'
        f'<svg viewBox="{view}" style="width:{_short(width + 2)}px" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg></figure>"
    )


def _runs(marked: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(row, first column, number of columns) of every run of marked cells."""
    padded = np.zeros((marked.shape[0], marked.shape[1] + 2), np.int8)
    padded[:, 1:-1] = marked
    change = np.diff(padded, axis=1)
    first, last = np.argwhere(change == 1), np.argwhere(change == -1)
    for (row, start), (_, end) in zip(first.tolist(), last.tolist(), strict=True):
        yield row, start, end - start


def _side_of(count: int) -> float:
    return min(WIDEST, max(NARROWEST, SIDE / max(count, 1)))


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") or "0"
