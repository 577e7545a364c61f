"""Finding regular rows among equations that came one by one: the same pattern, again and again, at regular places."""

from __future__ import annotations

import numpy as np

from affinet.language.terms import Floats, Integers
from affinet.structure.offsets import compress
from affinet.structure.regular import RowBatch, row_batch
from affinet.system.layout import Layout
from affinet.system.rows import Rows

MOST_REPEATS = 8
SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)
SHORTEST = 3
"""Rows of one or two entries fix or tie; they are better served by the union-find than by slices."""
CANCELLED = 8.0
"""A right-hand side that is what is left of numbers so many times larger (frozen weights that cancel) is no slice's:
its rounding is relative to them, which rows remember and batches do not."""


def lift(rows: Rows, layout: Layout) -> tuple[list[RowBatch], Rows]:
    """Split rows into batches of one shared row each and the rows that fit no such pattern.

    A pattern is (parameter, coefficients, positions relative to the first entry). Its rows become a batch if there
    are at least two of them in one parameter and they share no entry. Cost: one sort over the entries of each length.
    """
    batches: list[RowBatch] = []
    left = np.ones(rows.count, bool)
    lengths = rows.lengths
    eligible = (lengths >= SHORTEST) & (rows.magnitude <= CANCELLED * np.abs(rows.rhs))
    for length in np.unique(lengths[eligible]):
        members = np.flatnonzero(eligible & (lengths == length))
        if len(members) < 2:
            continue
        places = rows.bounds[members][:, None] + np.arange(length)
        columns, values = rows.columns[places], rows.values[places]
        for group in _patterns(columns - columns[:, :1], np.ascontiguousarray(values)):
            for cells in _occurrences(columns[group, 0], layout):
                batch = _batch(rows, layout, members[group[cells]], columns[group[cells]], values[group[0]])
                if batch is not None:
                    batches.append(batch)
                    left[members[group[cells]]] = False
    return batches, rows if left.all() else rows.select(np.flatnonzero(left))


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
