"""Resolve regular blocks that share entries with irregular equations.

Shared cells are split off, the extra equations become a border that a Schur complement solves, or the block is expanded
into sparse rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.blocks.bases import AnyBase
from affinet.blocks.bordered import Bordered
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Integers
from affinet.planning.overlaps.bordering import bordered
from affinet.planning.overlaps.joining_boxes import join
from affinet.planning.reading.candidates import Candidate
from affinet.planning.refit.record import from_coefficients
from affinet.system.distinct import distinct, ranked
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Resolved:
    """Blocks that share no entry, and the equations that are not part of any block."""

    blocks: tuple[AnyBase | Bordered, ...]
    rows: Rows


def resolve(
    candidates: Sequence[Candidate],
    rows: Rows,
    system: System,
    *,
    over_free: Callable[[Rows], Rows] = lambda rows: rows,
) -> Resolved:
    """Resolve every candidate, so that no equation outside the blocks touches an entry inside one.

    Cells of slices are split off if few are touched. A group of candidates that equations still touch is expanded into
    rows if it is small (`limits.one_by_one` pairs). It becomes one block with these equations if they are the same in
    every cell, and the base of a border if there are at most `limits.most_extra`; otherwise it is split or expanded.
    `over_free` reduces equations to entries that no other rule fixes. Raises Contradiction and TooLargeError.
    """
    undecided, limits = list(candidates), system.limits
    while True:
        undecided, expanded = _split_cells(undecided, rows, system, most=limits.most_split)
        while expanded:
            rows = over_free(concatenate([rows, *expanded]))
            undecided, expanded = _split_cells(undecided, rows, system, most=limits.most_split)
        groups = _group_connected(undecided, rows, system)
        small_groups = [group for group in groups if group.pairs <= limits.one_by_one]
        merger = _join_first([group for group in groups if group not in small_groups], rows, system)
        if merger is not None:
            group, candidate, rows = merger
            undecided = [*_without(undecided, group.candidates), candidate]
            continue
        large = [group for group in groups if group in small_groups or len(group.rows) > limits.most_extra]
        if not large:
            break
        resolved = [candidate for group in large for candidate in group.candidates]
        remaining, expanded = _split_cells(resolved, rows, system, most=None)
        undecided = [*_without(undecided, resolved), *remaining]
        rows = over_free(concatenate([rows, *expanded]))
    in_border = np.zeros(rows.count, bool)
    borders = []
    for group in groups:
        in_border[group.rows] = True
        bases = [candidate.block for candidate in group.candidates]
        borders.append(bordered(bases, rows.select(group.rows), system.layout, system.tolerance, limits))
    grouped = [candidate for group in groups for candidate in group.candidates]
    untouched = [candidate.block for candidate in _without(undecided, grouped)]
    return Resolved((*untouched, *borders), rows.select(np.flatnonzero(~in_border)) if groups else rows)


def _without(candidates: Sequence[Candidate], removed: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if not any(candidate is other for other in removed)]


def _join_first(groups: Sequence[_Group], rows: Rows, system: System) -> tuple[_Group, Candidate, Rows] | None:
    """The first group that joins its rows into one candidate, that candidate, and the rows that remain.

    If a group has too many rows for a border, up to `limits.most_extra` of them may remain.
    """
    for group in groups:
        most_remaining = system.limits.most_extra if len(group.rows) > system.limits.most_extra else 0
        joined_group = join(group.candidates, rows.select(group.rows), system, most_remaining=most_remaining)
        if joined_group is not None:
            return group, joined_group[0], rows.select(np.setdiff1d(np.arange(rows.count), group.rows[joined_group[1]]))
    return None


def _split_cells(
    candidates: list[Candidate], rows: Rows, system: System, *, most: int | None
) -> tuple[list[Candidate], list[Rows]]:
    """Candidates without the cells that the rows touch, and the equations of these cells.

    With `most`, only cells of at most this many pairs together are split off. Without it all touched cells are, or the
    whole candidate if more than half of its cells are touched.
    """
    touched = from_coefficients(distinct, rows.columns)
    remaining: list[Candidate] = []
    equations: list[Rows] = []
    for candidate in candidates:
        batch = candidate.divisible
        if batch is None:
            remaining += [candidate] if most is not None else []
            equations += [candidate.rows()] if most is None else []
            continue
        touched_cells = _find_touched_cells(batch, touched, system)
        few = 2 * len(touched_cells) <= batch.cells
        if not len(touched_cells) or (
            most is not None and not (few and len(touched_cells) * batch.matrix.size <= most)
        ):
            remaining.append(candidate)
        elif few:
            untouched = batch.without(touched_cells)
            remaining += [] if untouched is None else [Candidate(system, (untouched,))]
            equations.append(batch.keep(touched_cells).rows(system.layout))
        else:
            equations.append(candidate.rows())
    return remaining, equations


def _find_touched_cells(batch: RowBatch, touched: Integers, system: System) -> Integers:
    start = system.layout.start(batch.parameter)
    low, high = batch.span
    inside = touched[np.searchsorted(touched, start + low) : np.searchsorted(touched, start + high, side="right")]
    return batch.cells_of(inside - start)


@dataclass(frozen=True, eq=False)
class _Group:
    """Candidates, and the rows that touch them or one another."""

    candidates: list[Candidate]
    rows: Integers

    @property
    def pairs(self) -> int:
        """(Equation, entry) pairs of all candidates, read one by one."""
        return sum(candidate.pairs for candidate in self.candidates)


def _group_connected(candidates: Sequence[Candidate], rows: Rows, system: System) -> list[_Group]:
    """Connected groups of candidates that rows touch, with these rows; shared entries and candidates connect rows."""
    if not rows.count or not candidates:
        return []
    columns, place_of_value = ranked(rows.columns)
    node = np.arange(len(columns)) + len(candidates)
    for k, candidate in enumerate(candidates):
        in_range = _find_in_ranges(candidate, columns, system)
        if len(in_range):
            node[in_range[candidate.find(columns[in_range])]] = k
    if (node >= len(candidates)).all():
        return []
    size = len(candidates) + len(columns) + rows.count
    ends = rows.row_of_each() + len(candidates) + len(columns), node[place_of_value]
    graph = sparse.coo_array((np.ones(len(place_of_value), np.int8), ends), shape=(size, size)).tocsr()
    _, labels = csgraph.connected_components(graph, directed=False)
    row_label, candidate_label = labels[len(candidates) + len(columns) :], labels[: len(candidates)]
    groups = []
    for label in np.unique(candidate_label[np.isin(candidate_label, row_label)]):
        members = [candidates[k] for k in np.flatnonzero(candidate_label == label).tolist()]
        groups.append(_Group(members, np.flatnonzero(row_label == label)))
    return groups


def _find_in_ranges(candidate: Candidate, columns: Integers, system: System) -> Integers:
    """Numbers of the (ascending) columns in the ranges of a candidate, without making its block."""
    ranges = [(batch.parameter, *batch.span) for batch in candidate.batches] or candidate.block.entries.spans
    if candidate.solved is not None:
        ranges = candidate.solved.entries.spans
    in_range = np.zeros(len(columns), bool)
    for parameter, low, high in ranges:
        start = system.layout.start(parameter)
        first, last = np.searchsorted(columns, start + low), np.searchsorted(columns, start + high, side="right")
        in_range[first:last] = True
    return np.flatnonzero(in_range)
