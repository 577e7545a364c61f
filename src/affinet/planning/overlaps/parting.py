"""Mirrors and pairs beside other rules: less the entries that these touch, or together with sums that they keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from affinet.blocks.entry_sets import View
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest, located, mixed_radix
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Span
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Integers
from affinet.planning.overlaps.joining import joins
from affinet.planning.overlaps.mirroring import mirrored_product
from affinet.planning.reading.candidates import Candidate
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.rows import Rows, concatenate, gather_rows
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Parted:
    """Mirrors and pairs as candidates for a block each, and what is left to solve beside them."""

    candidates: list[Candidate]
    batches: list[RowBatch]
    rows: Rows


def part(
    pairs: Sequence[Mirror | Pairs],
    batches: list[RowBatch],
    rows: Rows,
    system: System,
    *,
    left_of: Callable[[Rows], Rows] = lambda rows: rows,
) -> Parted:
    """Mirrors and pairs as blocks of their own; where they cannot be, their equations one at a time.

    Sums that a mirror takes to themselves join it; a few other sums on a large one are read one by one, and so are
    pairs that meet other pairs. Entries that irregular equations touch leave the block with their images, and so
    do their equations, where they are few; otherwise the block is left whole, for a border. Small ones
    (`limits.one_by_one` pairs) are read one by one then. `left_of` says what is left of equations that are read so,
    where others fix some of their entries. Raises Contradiction where a mirror and its sums disagree.
    """
    candidates: list[Candidate] = []
    batches, single = _single_entries(pairs, batches)
    lowered = [rows, *(batch.rows(system.layout) for batch in single)]
    apart: list[Mirror | Pairs] = []
    for number, pair in enumerate(pairs):
        others = [span for k, other in enumerate(pairs) if k != number for span in other.entries.spans]
        meeting = [batch for batch in batches if _meets(pair, [(batch.parameter, *batch.span)])]
        joined = None
        if _meets(pair, others):
            lowered.append(system.rows(pair.rules))
            continue
        if meeting and pair.reflection is not None and not len(pair.without):
            joined = mirrored_product(pair.reflection, meeting, system.tolerance, system.limits)
        if joined is not None:
            candidates.append(Candidate(system, tuple(meeting), pair.rules, joined))
        elif meeting:
            if 2 * pair.rank <= system.limits.most_tying and joins(meeting, system.rows(pair.rules), system):
                lowered.append(system.rows(pair.rules))
                continue
            beside = sum(batch.equations for batch in meeting)
            if beside > min(system.limits.most_extra, pair.rank) or 2 * pair.rank <= system.limits.one_by_one:
                lowered.append(system.rows(pair.rules))
                continue
            lowered += [batch.rows(system.layout) for batch in meeting]
            apart.append(pair)
        else:
            apart.append(pair)
            continue
        batches = [batch for batch in batches if not any(batch is other for other in meeting)]
    rows = left_of(concatenate(lowered))
    touched = distinct(rows.columns) if apart else rows.columns
    for pair in apart:
        left, its = _less(
            pair,
            [_within(span, touched, system.layout) for span in pair.entries.spans],
            rows,
            system,
            left_of,
        )
        candidates += [Candidate(system, whole=pair.rules, found=left)] if left is not None else []
        rows = concatenate([rows, its]) if its.count else rows
    return Parted(candidates, batches, rows)


def _single_entries(pairs: Sequence[Mirror | Pairs], batches: list[RowBatch]) -> tuple[list[RowBatch], list[RowBatch]]:
    """Batches to keep, and those of single entries that meet a pair: read one by one they are as short."""
    single = [
        batch
        for batch in batches
        if batch.matrix.shape == (1, 1) and any(_meets(pair, [(batch.parameter, *batch.span)]) for pair in pairs)
    ]
    return [batch for batch in batches if not any(batch is other for other in single)], single


def _meets(pair: Mirror | Pairs, others: Sequence[Span]) -> bool:
    return any(
        mine[0] == other[0] and mine[1] <= other[2] and other[1] <= mine[2]
        for mine in pair.entries.spans
        for other in others
    )


def _within(span: Span, touched: Integers, layout: Layout) -> Integers:
    """Positions in the parameter of the (sorted) columns that lie within a range of it."""
    start = layout.start(span[0])
    low, high = start + span[1], start + span[2]
    return touched[np.searchsorted(touched, low) : np.searchsorted(touched, high, side="right")] - start


def _less(
    pair: Mirror | Pairs,
    hit: list[Integers],
    rows: Rows,
    system: System,
    left_of: Callable[[Rows], Rows],
) -> tuple[Mirror | Pairs | None, Rows]:
    """The pair without the places of the given positions, and the equations of these places.

    Where that is most of a large pair, or many places for the equations that touch them, the pair whole.
    """
    none = system.rows(())
    if not any(len(positions) for positions in hit):
        return pair, none
    large = 2 * pair.rank > system.limits.one_by_one
    # A right-hand side of frozen weights is known to their rounding, which only the rule itself knows.
    plain = all(system.rules[rule].size is None for rule in pair.rules)
    if not plain or not all(mixed_radix(Nest(view.dims), Nest(())) for view in pair.boxes):
        return (pair, none) if large else (None, left_of(system.rows(pair.rules)))
    places = distinct(np.concatenate([_places(view, found) for view, found in zip(pair.boxes, hit, strict=True)]))
    places = np.setdiff1d(pair.closed(places), pair.without, assume_unique=True)
    if not len(places):
        return pair, none
    most = 2 * len(places) > pair.first.size
    if most or (large and len(places) * int((rows.lengths > 2).sum()) > system.limits.most_apart):
        return (pair, none) if large else (None, left_of(system.rows(pair.rules)))
    return replace(pair, without=distinct(np.concatenate([pair.without, places]))), _equations(
        pair, places, system.layout
    )


def _places(view: View, positions: Integers) -> Integers:
    """Places in the flattened box of the positions that lie in it."""
    places = located(view.dims, positions - view.offset)
    return places[places >= 0]


def _positions(view: View, places: Integers) -> Integers:
    index = np.unravel_index(places, tuple(size for size, _ in view.dims)) if view.dims else ()
    found = np.full(len(places), view.offset, np.int64)
    for (_, step), i in zip(view.dims, index, strict=True):
        found += step * i
    return found


def _equations(pair: Mirror | Pairs, places: Integers, layout: Layout) -> Rows:
    """The equations of some places: one for a place and its image, none for a place that equals itself."""
    places = pair.leading(places)
    first, second = _positions(pair.first, places), _positions(pair.second, pair.images(places))
    start, other = layout.start(pair.first.parameter), layout.start(pair.second.parameter)
    count = len(places)
    shift = np.broadcast_to(pair.shift, tuple(size for size, _ in pair.first.dims))
    right = shift[np.unravel_index(places, shift.shape)] if shift.ndim else np.full(count, float(shift))
    order = np.concatenate([np.arange(count)] * 2)
    columns = np.concatenate([first + start, second + other])
    values = np.repeat([1.0, -pair.ratio], count)
    rule, unknown = np.full(count, pair.rules[0]), np.full(count, -1)
    used, local = ranked(columns)
    found = gather_rows(order, local, values, right, rule, unknown, 0.0)
    return replace(found, columns=used[found.columns])
