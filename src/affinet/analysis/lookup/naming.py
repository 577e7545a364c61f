"""Entries in the user's words: a slice of one weight where they are regular, else the first few and how many."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from affinet.errors import visible
from affinet.language.calculus.terms import Integers, Parameter
from affinet.system.distinct import distinct
from affinet.system.layout import Layout

SHOWN = 3
"""Entries that are named one by one where no slice says them."""
LISTED = 4
"""Positions that stand in one list index: `w[[0, 2, 5], :]`."""


def named(parameter: Parameter, positions: Integers) -> str:
    """Row-major positions in a weight: `hidden.weight[0, :]`, `hidden.weight`, or `a[0, 1], a[2, 0], … (9 entries)`."""
    positions = distinct(positions)
    if not len(positions):
        return f"nothing of {parameter.name}"
    if (len(positions) == parameter.size and parameter.size > 1) or not parameter.shape:
        return parameter.name
    index = np.unravel_index(positions, parameter.shape)
    along = [distinct(places) for places in index]
    if prod(len(places) for places in along) == len(positions):
        said = [_axis(places, size) for places, size in zip(along, parameter.shape, strict=True)]
        if sum(word is None or word.startswith("[") for word in said) < 2 and None not in said:
            return f"{parameter.name}[{', '.join(str(word) for word in said)}]"
    shown = [entry(parameter, int(place)) for place in positions[: SHOWN + 1]]
    if len(positions) <= SHOWN + 1:
        return ", ".join(shown)
    return f"{', '.join(shown[:SHOWN])}, … ({len(positions):,} entries)"


def entry(parameter: Parameter, position: int) -> str:
    """One entry: `hidden.weight[0, 3]`, or the name of a weight without axes."""
    index = np.unravel_index(position, parameter.shape)
    return f"{parameter.name}[{', '.join(str(int(i)) for i in index)}]" if parameter.shape else parameter.name


def named_columns(layout: Layout, columns: Integers, *, most: int = SHOWN) -> str:
    """Columns of the whole system, weight by weight; of more than `most` weights the number of the others."""
    parts = [named(parameter, positions) for parameter, _, positions in layout.split(columns)]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most:,} more weights" if len(parts) > most else "")


def quoted(names: Sequence[str], most: int = 5) -> str:
    """`"a", "b" and "c"`; of more than `most` the first, and how many there are."""
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
    """One line of at most so many characters, without any that a terminal obeys: names may come from a file."""
    text = visible(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def _axis(places: Integers, size: int) -> str | None:
    """How an index says these positions of an axis, rising; None where it takes a long list."""
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
