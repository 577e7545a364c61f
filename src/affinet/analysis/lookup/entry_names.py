"""Name entries for users: a slice of one weight where they are regular, else the first few and their number."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from affinet.errors import visible
from affinet.language.calculus.terms import Integers, Parameter
from affinet.system.distinct import distinct
from affinet.system.layout import Layout

SHOWN = 3
"""Entries that are named one by one where no slice describes them."""
LISTED = 4
"""Most positions in one list index: `w[[0, 2, 5], :]`."""


def named(parameter: Parameter, positions: Integers) -> str:
    """Row-major positions in a weight: `hidden.weight[0, :]`, `hidden.weight`, or `a[0, 1], a[2, 0], … (9 entries)`."""
    positions = distinct(positions)
    if not len(positions):
        return f"nothing of {parameter.name}"
    if (len(positions) == parameter.size and parameter.size > 1) or not parameter.shape:
        return parameter.name
    index = np.unravel_index(positions, parameter.shape)
    by_axis = [distinct(places) for places in index]
    if prod(len(places) for places in by_axis) == len(positions):
        indices = [_axis_index(places, size) for places, size in zip(by_axis, parameter.shape, strict=True)]
        if sum(word is None or word.startswith("[") for word in indices) < 2 and None not in indices:
            return f"{parameter.name}[{', '.join(str(word) for word in indices)}]"
    entry_names = [entry(parameter, int(place)) for place in positions[: SHOWN + 1]]
    if len(positions) <= SHOWN + 1:
        return ", ".join(entry_names)
    return f"{', '.join(entry_names[:SHOWN])}, … ({len(positions):,} entries)"


def entry(parameter: Parameter, position: int) -> str:
    """One entry: `hidden.weight[0, 3]`, or the name of a weight without axes."""
    index = np.unravel_index(position, parameter.shape)
    return f"{parameter.name}[{', '.join(str(int(i)) for i in index)}]" if parameter.shape else parameter.name


def named_columns(layout: Layout, columns: Integers, *, most: int = SHOWN) -> str:
    """Columns of the system, weight by weight; the first `most` weights, and the number of the others."""
    parts = [named(parameter, positions) for parameter, _, positions in layout.split(columns)]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most:,} more weights" if len(parts) > most else "")


def quoted(names: Sequence[str], most: int = 5) -> str:
    """`"a", "b" and "c"`; for more than `most` names the first ones and their number."""
    shown = [f'"{cut(name)}"' for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)}, … ({len(names):,} rules)"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "no rule"


def by_rules(names: Sequence[str]) -> str:
    """`the rule "a"`, or `the rules "a" and "b" together`."""
    return f"the rule {quoted(names)}" if len(names) == 1 else f"the rules {quoted(names)} together"


def counted(count: int, word: str, words: str = "") -> str:
    """`1 entry`, `2 entries`, `1,000 rules`."""
    if count == 1:
        return f"1 {word}"
    return f"{count:,} {words or (word[:-1] + 'ies' if word.endswith('y') else word + 's')}"


def cut(text: str, most: int = 60) -> str:
    """One line of at most `most` characters, without control characters: names may come from a file."""
    text = visible(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def _axis_index(places: Integers, size: int) -> str | None:
    """The index for these ascending positions of an axis; None where it would be a long list."""
    first, last = int(places[0]), int(places[-1])
    if len(places) == size:
        return ":" if size > 1 else "0"
    if len(places) == 1:
        return str(first)
    step = int(places[1]) - first
    if (np.diff(places) == step).all() and (step == 1 or len(places) > 2):
        low, high = str(first) if first else "", str(last + 1) if last + 1 < size else ""
        return f"{low}:{high}" if step == 1 else f"{low}:{high}:{step}"
    return f"[{', '.join(str(int(k)) for k in places)}]" if len(places) <= LISTED else None
