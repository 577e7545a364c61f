"""Finding regular rows among equations that came one by one: the same pattern, again and again, at regular places."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from affinet.blocks.offsets import compress
from affinet.blocks.regular import RowBatch, row_batch
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients
from affinet.system.layout import Layout
from affinet.system.rows import Rows

MOST_REPEATS = 8
SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)
SHORTEST = 3
"""Rows of one or two entries fix or tie; they are better served by the union-find than by slices."""
MOST_PLACES = 16
"""Sets of places that patterns over one range of entries may have; equations along the axes of a tensor have one set
for each axis."""
FEW_ROWS = 8
"""A pattern of so many rows is none where it is one of many: a component solves as many equations as quickly."""
CANCELLED = 8.0
"""A right-hand side that is what is left of numbers so many times larger (frozen weights that cancel) is no slice's:
its rounding is relative to them, which rows remember and batches do not."""


def lift(rows: Rows, layout: Layout) -> tuple[list[RowBatch], Rows]:
    """Split rows into batches of one shared row each and the rows that fit no such pattern.

    A pattern is (parameter, coefficients, positions relative to the first entry). Its rows become a batch if there
    are at least two of them in one parameter and they share no entry. Where many patterns cover one range of entries,
    each at places of its own, none of them becomes a batch. Cost: one sort over the entries of each length.
    """
    batches: list[RowBatch] = []
    left = np.ones(rows.count, bool)
    eligible = (rows.lengths >= SHORTEST) & (rows.magnitude <= CANCELLED * np.abs(rows.rhs))
    repeated = from_coefficients(_repeated, eligible, rows.bounds, rows.columns, rows.values)
    for members in _worth_batching(rows, repeated, layout):
        columns = rows.columns[rows.bounds[members][:, None] + np.arange(rows.lengths[members[0]])]
        values = rows.values[rows.bounds[members[0]] : rows.bounds[members[0] + 1]]
        for cells in _occurrences(columns[:, 0], layout):
            batch = _batch(rows, layout, members[cells], columns[cells], values)
            if batch is not None:
                batches.append(batch)
                left[members[cells]] = False
    return batches, rows if left.all() else rows.select(np.flatnonzero(left))


def _repeated(eligible: np.ndarray, bounds: Integers, columns: Integers, values: Floats) -> list[Integers]:
    """The rows of each pattern that two or more of the eligible rows have."""
    found: list[Integers] = []
    lengths = np.diff(bounds)
    for length in np.unique(lengths[eligible]):
        members = np.flatnonzero(eligible & (lengths == length))
        if len(members) < 2:
            continue
        places = bounds[members][:, None] + np.arange(length)
        own = columns[places]
        found += [members[group] for group in _patterns(own - own[:, :1], np.ascontiguousarray(values[places]))]
    return found


def _worth_batching(rows: Rows, repeated: list[Integers], layout: Layout) -> list[Integers]:
    """The patterns less those of crowds: more than a few patterns over one range of entries, at different places.

    A crowd makes a block of each pattern where they share no entry, and where they do share entries they end as
    equations one by one after every pair was compared: equations of three neighbours drawn at random are a crowd, and
    so are tensors under a group of rotations. What a large part of a crowd has at the same places stays.
    """
    if len(repeated) <= MOST_PLACES:
        return repeated
    # Rows without entries, which no pattern has, have anything here.
    most = len(rows.columns) - 1
    first, last = (rows.columns[np.minimum(at, most)] for at in (rows.bounds[:-1], rows.bounds[1:] - 1))
    pieces = _by_parameter(repeated, first, layout)
    low, high = _bounds(pieces, first)[0], _bounds(pieces, last)[1]
    order = np.argsort(low, kind="stable")
    reached = np.maximum.accumulate(high[order])
    starts = np.concatenate([[0], np.flatnonzero(low[order][1:] > reached[:-1]) + 1, [len(order)]])
    kept: list[Integers] = []
    for start, stop in pairwise(starts):
        own = [pieces[k] for k in np.sort(order[start:stop])]
        kept += own if len(own) <= MOST_PLACES else _at_common_places(own, first)
    return kept


def _by_parameter(patterns: list[Integers], first: Integers, layout: Layout) -> list[Integers]:
    """The rows of each pattern, by the parameter that they start in."""
    ends = [layout.numbers(bound) for bound in _bounds(patterns, first)]
    pieces: list[Integers] = []
    for members, low, high in zip(patterns, *ends, strict=True):
        if low == high:
            pieces.append(members)
            continue
        numbers = layout.numbers(first[members])
        pieces += [members[numbers == number] for number in np.unique(numbers)]
    return pieces


def _bounds(pieces: list[Integers], columns: Integers) -> tuple[Integers, Integers]:
    """The lowest and the highest of the columns of the rows in each piece."""
    starts = np.cumsum([0, *map(len, pieces[:-1])])
    own = columns[np.concatenate(pieces)]
    return np.minimum.reduceat(own, starts), np.maximum.reduceat(own, starts)


def _at_common_places(pieces: list[Integers], first: Integers) -> list[Integers]:
    """Patterns of more than a few rows, at the places of one row in sixteen or more; places count from their first."""
    pieces = [members for members in pieces if len(members) > FEW_ROWS]
    places = [np.sort(first[members]) for members in pieces]
    keys = [(own - own[0]).tobytes() for own in places]
    at = Counter[bytes]()
    for key, members in zip(keys, pieces, strict=True):
        at[key] += len(members)
    if len(at) <= MOST_PLACES:
        return pieces
    least = sum(map(len, pieces)) / MOST_PLACES
    return [members for key, members in zip(keys, pieces, strict=True) if at[key] >= least]


def _patterns(relative: Integers, values: Floats) -> list[Integers]:
    """Groups of two or more rows with one pattern."""
    members = _perhaps_repeated(relative, values)
    key = np.concatenate([relative[members].view(np.uint8), values[members].view(np.uint8)], axis=1)
    key = np.ascontiguousarray(key).view([("", np.void, key.shape[1])]).ravel()
    _, which, counts = np.unique(key, return_inverse=True, return_counts=True)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(counts)
    repeated = np.flatnonzero(counts > 1)
    return [members[order[ends[k] - counts[k] : ends[k]]] for k in repeated]


def _perhaps_repeated(relative: Integers, values: Floats) -> Integers:
    """Rows of which another one has the same sum of scrambled numbers: sorting those alone is enough.

    Of a million rows that all differ the exact keys took four seconds to sort.
    """
    scrambled = np.zeros(len(relative), np.uint64)
    for column in (*relative.T, *values.T):
        bits = np.ascontiguousarray(column).view(np.uint64)
        scrambled = (scrambled + (bits ^ (bits >> np.uint64(32)))) * SCRAMBLE
        scrambled ^= scrambled >> np.uint64(29)
    order = np.argsort(scrambled)
    same = scrambled[order[1:]] == scrambled[order[:-1]]
    again = np.zeros(len(order), bool)
    again[order[1:][same]] = True
    again[order[:-1][same]] = True
    return np.flatnonzero(again)


def _occurrences(first: Integers, layout: Layout) -> list[Integers]:
    """Rows sorted by their first column, by parameter; a row said k times goes to k different lists."""
    order = np.argsort(first, kind="stable")
    ordered = first[order]
    again = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    if again.max() >= MOST_REPEATS:
        return []
    several = [order[again == k] for k in range(int(again.max()) + 1)]
    split = [np.split(one, np.flatnonzero(np.diff(layout.numbers(first[one]))) + 1) for one in several]
    return [cells for parts in split for cells in parts if len(cells) > 1 or len(parts) == 1]


def _batch(rows: Rows, layout: Layout, members: Integers, columns: Integers, values: Floats) -> RowBatch | None:
    numbers = layout.numbers(columns[[0, -1, 0, -1], [0, 0, -1, -1]])
    if numbers.min() != numbers.max():
        return None
    parameter, start = layout.parameters[numbers[0]], layout.starts[numbers[0]]
    first, outer = compress(columns[:, 0])
    inner = columns[0] - columns[0, 0]
    rhs, owner = rows.rhs[members, None], rows.rule[members, None]
    return row_batch(parameter, first - start, outer, inner, values[None, :], rhs, owner)
