"""What irregular equations touch of regular rules: cells split off, a border on top, or all of it one by one."""

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
from affinet.planning.overlaps.joining import joined
from affinet.planning.reading.candidates import Candidate
from affinet.planning.refit.record import from_coefficients
from affinet.system.distinct import distinct, ranked
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Settled:
    """Blocks that share no entry, and the equations that none of them holds."""

    blocks: tuple[AnyBase | Bordered, ...]
    rows: Rows


def settled(
    candidates: Sequence[Candidate],
    rows: Rows,
    system: System,
    *,
    left_of: Callable[[Rows], Rows] = lambda rows: rows,
) -> Settled:
    """Decide on every candidate, until no equation outside of the blocks touches an entry inside.

    Few cells of slices are split off. What is then still touched by equations is left to these where it is small
    (`limits.one_by_one` pairs). Where every cell has the same of these equations it is one block with them, and where
    they are at most `limits.most_extra` the base of a border; otherwise it is split or read one by one. `left_of` says
    what is left of equations of whose entries other rules fix some. Raises Contradiction and TooLargeError.
    """
    open_, limits = list(candidates), system.limits
    while True:
        open_, lowered = _split_off(open_, rows, system, most=limits.most_split)
        while lowered:
            rows = left_of(concatenate([rows, *lowered]))
            open_, lowered = _split_off(open_, rows, system, most=limits.most_split)
        groups = _connected(open_, rows, system)
        small = [group for group in groups if sum(one.pairs for one in group.candidates) <= limits.one_by_one]
        together = _joined([group for group in groups if group not in small], rows, system)
        if together is not None:
            group, one, rows = together
            open_ = [*(other for other in open_ if not any(other is its for its in group.candidates)), one]
            continue
        large = [group for group in groups if group in small or len(group.rows) > limits.most_extra]
        if not large:
            break
        given_up = [one for group in large for one in group.candidates]
        kept = [one for one in open_ if not any(one is other for other in given_up)]
        left, lowered = _split_off(given_up, rows, system, most=None)
        open_, rows = kept + left, left_of(concatenate([rows, *lowered]))
    taken = np.zeros(rows.count, bool)
    borders = []
    for group in groups:
        taken[group.rows] = True
        bases = [one.block for one in group.candidates]
        borders.append(bordered(bases, rows.select(group.rows), system.layout, system.tolerance, limits))
    held = [one for group in groups for one in group.candidates]
    alone = [one.block for one in open_ if not any(one is other for other in held)]
    return Settled((*alone, *borders), rows.select(np.flatnonzero(~taken)) if groups else rows)


def _joined(groups: Sequence[_Group], rows: Rows, system: System) -> tuple[_Group, Candidate, Rows] | None:
    """The first group that is one candidate together with its rows, that candidate, and all other rows.

    Of a group with too many rows for a border, those that a border holds may be left over.
    """
    for group in groups:
        most_left = system.limits.most_extra if len(group.rows) > system.limits.most_extra else 0
        found = joined(group.candidates, rows.select(group.rows), system, most_left=most_left)
        if found is not None:
            return group, found[0], rows.select(np.setdiff1d(np.arange(rows.count), group.rows[found[1]]))
    return None


def _split_off(
    candidates: list[Candidate], rows: Rows, system: System, *, most: int | None
) -> tuple[list[Candidate], list[Rows]]:
    """Candidates less the cells that the rows touch, and the equations of these cells.

    With `most`, cells of up to that many pairs; without it whatever is touched, and all of it where that is most cells.
    """
    touched = from_coefficients(distinct, rows.columns)
    left: list[Candidate] = []
    lowered: list[Rows] = []
    for one in candidates:
        batch = one.divisible
        if batch is None:
            left += [one] if most is not None else []
            lowered += [one.rows()] if most is None else []
            continue
        hit = _cells_hit(batch, touched, system)
        few = 2 * len(hit) <= batch.cells
        if not len(hit) or (most is not None and not (few and len(hit) * batch.matrix.size <= most)):
            left.append(one)
        elif few:
            rest = batch.without(hit)
            left += [] if rest is None else [Candidate(system, (rest,))]
            lowered.append(batch.keep(hit).rows(system.layout))
        else:
            lowered.append(one.rows())
    return left, lowered


def _cells_hit(batch: RowBatch, touched: Integers, system: System) -> Integers:
    start = system.layout.start(batch.parameter)
    low, high = batch.span
    inside = touched[np.searchsorted(touched, start + low) : np.searchsorted(touched, start + high, side="right")]
    return batch.cells_of(inside - start)


@dataclass(frozen=True, eq=False)
class _Group:
    """Candidates and the rows that touch them or one another."""

    candidates: list[Candidate]
    rows: Integers


def _connected(candidates: Sequence[Candidate], rows: Rows, system: System) -> list[_Group]:
    """Groups of candidates that rows touch, with the rows: through shared entries and through the candidates."""
    if not rows.count or not candidates:
        return []
    columns, local = ranked(rows.columns)
    node = np.arange(len(columns)) + len(candidates)
    for k, one in enumerate(candidates):
        within = _within(one, columns, system)
        if len(within):
            node[within[one.hit(columns[within])]] = k
    if (node >= len(candidates)).all():
        return []
    size = len(candidates) + len(columns) + rows.count
    ends = rows.row_of_each() + len(candidates) + len(columns), node[local]
    graph = sparse.coo_array((np.ones(len(local), np.int8), ends), shape=(size, size)).tocsr()
    _, labels = csgraph.connected_components(graph, directed=False)
    row_label, own = labels[len(candidates) + len(columns) :], labels[: len(candidates)]
    groups = []
    for label in np.unique(own[np.isin(own, row_label)]):
        members = [one for one, its in zip(candidates, own, strict=True) if its == label]
        groups.append(_Group(members, np.flatnonzero(row_label == label)))
    return groups


def _within(one: Candidate, columns: Integers, system: System) -> Integers:
    """Numbers of the (rising) columns in the ranges of a candidate, found without making its block."""
    ranges = [(batch.parameter, *batch.span) for batch in one.batches] or one.block.entries.spans
    if one.found is not None:
        ranges = one.found.entries.spans
    within = np.zeros(len(columns), bool)
    for parameter, low, high in ranges:
        start = system.layout.start(parameter)
        first, last = np.searchsorted(columns, start + low), np.searchsorted(columns, start + high, side="right")
        within[first:last] = True
    return np.flatnonzero(within)
