"""Find regular rows among single equations: the same pattern of coefficients, repeated at regular places."""

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
"""Rows of one or two entries fix or tie entries, for which the union-find is faster than slices."""
MOST_PLACES = 16
"""Sets of places that patterns over one range of entries may have; equations along tensor axes have one per axis."""
FEW_ROWS = 8
"""A pattern of at most this many rows is ignored among many patterns: a component solves its equations as quickly."""
CANCELLED = 8.0
"""Rows whose right-hand side is a difference of numbers this many times larger (frozen weights that cancel) are not
lifted: a batch cannot record the larger magnitude that rounding is relative to."""


def lift(rows: Rows, layout: Layout) -> tuple[list[RowBatch], Rows]:
    """Split rows into batches of one repeated row each, and the rows that match no such pattern.

    A pattern is (parameter, coefficients, positions relative to the first entry). Its rows become a batch if there
    are at least two of them in one parameter and they share no entry. Where many patterns cover one range of entries,
    each at different places, none of them becomes a batch. Cost: one sort over the entries of each length.
    """
    batches: list[RowBatch] = []
    not_lifted = np.ones(rows.count, bool)
    eligible = (rows.lengths >= SHORTEST) & (rows.magnitude <= CANCELLED * np.abs(rows.rhs))
    repeated = from_coefficients(_find_repeated, eligible, rows.bounds, rows.columns, rows.values)
    for members in _select_worthwhile(rows, repeated, layout):
        columns = rows.columns[rows.bounds[members][:, None] + np.arange(rows.lengths[members[0]])]
        values = rows.values[rows.bounds[members[0]] : rows.bounds[members[0] + 1]]
        for cells in _split_occurrences(columns[:, 0], layout):
            batch = _make_batch(rows, layout, members[cells], columns[cells], values)
            if batch is not None:
                batches.append(batch)
                not_lifted[members[cells]] = False
    return batches, rows if not_lifted.all() else rows.select(np.flatnonzero(not_lifted))


def _find_repeated(eligible: np.ndarray, bounds: Integers, columns: Integers, values: Floats) -> list[Integers]:
    """The rows of each pattern that at least two eligible rows have."""
    patterns: list[Integers] = []
    lengths = np.diff(bounds)
    for length in np.unique(lengths[eligible]):
        members = np.flatnonzero(eligible & (lengths == length))
        if len(members) < 2:
            continue
        places = bounds[members][:, None] + np.arange(length)
        columns_of_members = columns[places]
        patterns += [
            members[group]
            for group in _group_by_pattern(
                columns_of_members - columns_of_members[:, :1], np.ascontiguousarray(values[places])
            )
        ]
    return patterns


def _select_worthwhile(rows: Rows, repeated: list[Integers], layout: Layout) -> list[Integers]:
    """The patterns without those of crowds. A crowd is many patterns over one range of entries, at different places.

    A crowd without shared entries would give one block per pattern; with shared entries, every pair of patterns would
    be compared before they end as single equations. Examples are random equations of three neighbours, and tensors
    under a group of rotations. Patterns at places that a large part of the crowd shares are kept.
    """
    if len(repeated) <= MOST_PLACES:
        return repeated
    # For rows without entries, which belong to no pattern, these numbers are meaningless.
    last_column = len(rows.columns) - 1
    first_column, last_of_row = (
        rows.columns[np.minimum(ends, last_column)] for ends in (rows.bounds[:-1], rows.bounds[1:] - 1)
    )
    pieces = _split_by_parameter(repeated, first_column, layout)
    low, high = _column_bounds(pieces, first_column)[0], _column_bounds(pieces, last_of_row)[1]
    order = np.argsort(low, kind="stable")
    reach = np.maximum.accumulate(high[order])
    starts = np.concatenate([[0], np.flatnonzero(low[order][1:] > reach[:-1]) + 1, [len(order)]])
    worthwhile: list[Integers] = []
    for start, stop in pairwise(starts):
        patterns = [pieces[k] for k in np.sort(order[start:stop])]
        worthwhile += patterns if len(patterns) <= MOST_PLACES else _select_common_places(patterns, first_column)
    return worthwhile


def _split_by_parameter(patterns: list[Integers], first: Integers, layout: Layout) -> list[Integers]:
    """The rows of each pattern, split by the parameter of their first entry."""
    ends = [layout.numbers(bound) for bound in _column_bounds(patterns, first)]
    pieces: list[Integers] = []
    for members, low, high in zip(patterns, *ends, strict=True):
        if low == high:
            pieces.append(members)
            continue
        numbers = layout.numbers(first[members])
        pieces += [members[numbers == number] for number in np.unique(numbers)]
    return pieces


def _column_bounds(pieces: list[Integers], columns: Integers) -> tuple[Integers, Integers]:
    """The lowest and the highest column of the rows in each piece."""
    starts = np.cumsum([0, *map(len, pieces[:-1])])
    columns_of_rows = columns[np.concatenate(pieces)]
    return np.minimum.reduceat(columns_of_rows, starts), np.maximum.reduceat(columns_of_rows, starts)


def _select_common_places(pieces: list[Integers], first: Integers) -> list[Integers]:
    """Patterns of more than a few rows at places that one row in sixteen shares; places are relative to the first."""
    pieces = [members for members in pieces if len(members) > FEW_ROWS]
    places = [np.sort(first[members]) for members in pieces]
    keys = [(positions - positions[0]).tobytes() for positions in places]
    rows_at = Counter[bytes]()
    for key, members in zip(keys, pieces, strict=True):
        rows_at[key] += len(members)
    if len(rows_at) <= MOST_PLACES:
        return pieces
    fewest_rows = sum(map(len, pieces)) / MOST_PLACES
    return [members for key, members in zip(keys, pieces, strict=True) if rows_at[key] >= fewest_rows]


def _group_by_pattern(relative: Integers, values: Floats) -> list[Integers]:
    """Groups of at least two rows with the same pattern."""
    members = _preselect_repeated(relative, values)
    key = np.concatenate([relative[members].view(np.uint8), values[members].view(np.uint8)], axis=1)
    key = np.ascontiguousarray(key).view([("", np.void, key.shape[1])]).ravel()
    _, pattern_of, counts = np.unique(key, return_inverse=True, return_counts=True)
    order = np.argsort(pattern_of, kind="stable")
    ends = np.cumsum(counts)
    repeated = np.flatnonzero(counts > 1)
    return [members[order[ends[k] - counts[k] : ends[k]]] for k in repeated]


def _preselect_repeated(relative: Integers, values: Floats) -> Integers:
    """Rows whose sum of scrambled numbers equals that of another row: only these need the exact comparison.

    Sorting a million different rows by exact keys took four seconds.
    """
    scrambled = np.zeros(len(relative), np.uint64)
    for column in (*relative.T, *values.T):
        bits = np.ascontiguousarray(column).view(np.uint64)
        scrambled = (scrambled + (bits ^ (bits >> np.uint64(32)))) * SCRAMBLE
        scrambled ^= scrambled >> np.uint64(29)
    order = np.argsort(scrambled)
    equal = scrambled[order[1:]] == scrambled[order[:-1]]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:][equal]] = True
    repeated[order[:-1][equal]] = True
    return np.flatnonzero(repeated)


def _split_occurrences(first: Integers, layout: Layout) -> list[Integers]:
    """Rows sorted by their first column, by parameter; a row written k times goes to k different lists."""
    order = np.argsort(first, kind="stable")
    ordered = first[order]
    repetition = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    if repetition.max() >= MOST_REPEATS:
        return []
    by_repetition = [order[repetition == k] for k in range(int(repetition.max()) + 1)]
    split = [np.split(cells, np.flatnonzero(np.diff(layout.numbers(first[cells]))) + 1) for cells in by_repetition]
    return [cells for parts in split for cells in parts if len(cells) > 1 or len(parts) == 1]


def _make_batch(rows: Rows, layout: Layout, members: Integers, columns: Integers, values: Floats) -> RowBatch | None:
    numbers = layout.numbers(columns[[0, -1, 0, -1], [0, 0, -1, -1]])
    if numbers.min() != numbers.max():
        return None
    parameter, start = layout.parameters[numbers[0]], layout.starts[numbers[0]]
    first, outer = compress(columns[:, 0])
    inner = columns[0] - columns[0, 0]
    rhs, owner = rows.rhs[members, None], rows.rule[members, None]
    return row_batch(parameter, first - start, outer, inner, values[None, :], rhs, owner)
