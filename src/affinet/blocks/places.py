"""Where entries stand in the order in which a base is read: the columns of equations that border it."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from affinet.blocks.block import Base, Dense, Joined, Mirror, MirroredProduct, Pairs, Product, Slices, View
from affinet.blocks.offsets import Nest, Offsets, located, mixed_radix
from affinet.language.calculus.terms import Integers, Parameter
from affinet.language.forecast import forecast
from affinet.system.layout import Layout


def count(base: Base) -> int:
    """How many entries are read, those of a mirror that equal themselves or belong elsewhere included."""
    match base:
        case Mirror():
            return base.view.size
        case Pairs():
            return 2 * base.first.size
        case Slices() | Product() | MirroredProduct() | Dense() | Joined():
            return base.size
        case _:
            assert_never(base)


def places(base: Base, columns: Integers, layout: Layout) -> Integers:
    """The place of every column among the entries of a base, −1 where it is none of them.

    An entry that a mirror reads and leaves as it is (its own image, or one of another block) is none of its entries.
    """
    match base:
        case Slices():
            return _in_cells(base, columns - layout.start(base.parameter) - base.offset)
        case Product():
            return _in_view(base.view, columns, layout)
        case MirroredProduct():
            return _in_view(base.product.view, columns, layout)
        case Mirror():
            found = _in_view(base.view, columns, layout)
            own = (base.images(np.maximum(found, 0)) == found) & (base.sign > 0)
            return np.where(own | np.isin(found, base.without), -1, found)
        case Pairs():
            sides = [_in_view(view, columns, layout) for view in (base.first, base.second)]
            first, second = (np.where(np.isin(side, base.without), -1, side) for side in sides)
            return np.where(second >= 0, second + base.first.size, first)
        case Joined():
            place = np.full(len(columns), -1, np.int64)
            for k, view in enumerate(base.members):
                found = _in_view(view, columns, layout)
                place = np.where(found >= 0, base.places(k, found), place)
            return place
        case Dense():
            entries = [layout.start(part.parameter) + part.positions.astype(np.int64) for part in base.parts]
            return _searched(np.concatenate(entries), columns)
        case _:
            assert_never(base)


def spans(base: Base) -> list[tuple[Parameter, int, int]]:
    """The ranges of positions that a base lies in."""
    match base:
        case Slices():
            (a, b), (c, d) = base.outer.bounds(), base.inner.bounds()
            return [(base.parameter, base.offset + a + c, base.offset + b + d)]
        case Product():
            return [(base.view.parameter, *base.view.span)]
        case MirroredProduct():
            return spans(base.product)
        case Mirror():
            return [(base.view.parameter, *base.view.span)]
        case Pairs():
            return [(view.parameter, *view.span) for view in (base.first, base.second)]
        case Joined():
            return [(view.parameter, *view.span) for view in base.members]
        case Dense():
            return [(part.parameter, int(part.positions.min()), int(part.positions.max())) for part in base.parts]
        case _:
            assert_never(base)


def _in_view(view: View, columns: Integers, layout: Layout) -> Integers:
    return _in_nests(Nest(view.dims), Nest(()), columns - layout.start(view.parameter) - view.offset)


def _in_cells(base: Slices, positions: Integers) -> Integers:
    return _in_nests(base.outer, base.inner, positions)


def _in_nests(outer: Offsets, inner: Offsets, positions: Integers) -> Integers:
    if isinstance(outer, Nest) and isinstance(inner, Nest) and mixed_radix(outer, inner):
        return located((*outer.dims, *inner.dims), positions)
    forecast("the places of entries that follow no steps", 4 * outer.size * inner.size)
    return _searched((outer.table()[:, None] + inner.table()).ravel(), positions)


def _searched(entries: Integers, sought: Integers) -> Integers:
    order = np.argsort(entries)
    at = order[np.minimum(np.searchsorted(entries, sought, sorter=order), len(entries) - 1)]
    return np.where(entries[at] == sought, at, -1)
