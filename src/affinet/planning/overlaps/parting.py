"""Separate mirrors and pairs from other rules: exclude shared entries, or merge a mirror with sums it preserves."""

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
from affinet.planning.overlaps.joining_boxes import can_join
from affinet.planning.overlaps.mirroring import mirrored_product
from affinet.planning.reading.candidates import Candidate
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.rows import Rows, concatenate, gather_rows
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Separated:
    """Mirrors and pairs as candidates for one block each, and the remaining batches and rows."""

    candidates: list[Candidate]
    batches: list[RowBatch]
    rows: Rows


def separate_pairs(
    pairs: Sequence[Mirror | Pairs],
    batches: list[RowBatch],
    rows: Rows,
    system: System,
    *,
    over_free: Callable[[Rows], Rows] = lambda rows: rows,
) -> Separated:
    """Mirrors and pairs as separate blocks if possible; otherwise their equations one at a time.

    A mirror and the sums that are invariant under it become one product. A few other sums on a large mirror are read
    one by one, and so are pairs that share entries with other pairs. Few entries that irregular equations touch leave
    the block, with their images and their equations. If they are many, a large block stays complete, for a border; a
    small one (`limits.one_by_one` pairs) is read one by one. `over_free` reduces equations to entries that no other
    rule fixes. Raises Contradiction if a mirror and its sums disagree.
    """
    candidates: list[Candidate] = []
    batches, single = _split_single_entries(pairs, batches)
    expanded = [rows, *(batch.rows(system.layout) for batch in single)]
    separate: list[Mirror | Pairs] = []
    for number, pair in enumerate(pairs):
        other_spans = [span for k, other in enumerate(pairs) if k != number for span in other.entries.spans]
        meeting = [batch for batch in batches if _shares_entries(pair, [(batch.parameter, *batch.span)])]
        product = None
        if _shares_entries(pair, other_spans):
            expanded.append(system.rows(pair.rules))
            continue
        if meeting and pair.reflection is not None and not len(pair.without):
            product = mirrored_product(pair.reflection, meeting, system.tolerance, system.limits)
        if product is not None:
            candidates.append(Candidate(system, tuple(meeting), pair.rules, product))
        elif meeting:
            if 2 * pair.rank <= system.limits.most_tying and can_join(meeting, system.rows(pair.rules), system):
                expanded.append(system.rows(pair.rules))
                continue
            equations_of_sums = sum(batch.equations for batch in meeting)
            if (
                equations_of_sums > min(system.limits.most_extra, pair.rank)
                or 2 * pair.rank <= system.limits.one_by_one
            ):
                expanded.append(system.rows(pair.rules))
                continue
            expanded += [batch.rows(system.layout) for batch in meeting]
            separate.append(pair)
        else:
            separate.append(pair)
            continue
        batches = [batch for batch in batches if not any(batch is other for other in meeting)]
    rows = over_free(concatenate(expanded))
    touched = distinct(rows.columns) if separate else rows.columns
    for pair in separate:
        touched_positions = [_find_in_span(span, touched, system.layout) for span in pair.entries.spans]
        remaining, equations = _exclude_touched(pair, touched_positions, rows, system, over_free)
        candidates += [Candidate(system, rules=pair.rules, solved=remaining)] if remaining is not None else []
        rows = concatenate([rows, equations]) if equations.count else rows
    return Separated(candidates, batches, rows)


def _split_single_entries(
    pairs: Sequence[Mirror | Pairs], batches: list[RowBatch]
) -> tuple[list[RowBatch], list[RowBatch]]:
    """Other batches, and those of single entries that share entries with a pair: rows describe these as briefly."""
    single = [
        batch
        for batch in batches
        if batch.matrix.shape == (1, 1)
        and any(_shares_entries(pair, [(batch.parameter, *batch.span)]) for pair in pairs)
    ]
    return [batch for batch in batches if not any(batch is other for other in single)], single


def _shares_entries(pair: Mirror | Pairs, spans: Sequence[Span]) -> bool:
    return any(
        own_span[0] == span[0] and own_span[1] <= span[2] and span[1] <= own_span[2]
        for own_span in pair.entries.spans
        for span in spans
    )


def _find_in_span(span: Span, touched: Integers, layout: Layout) -> Integers:
    """Positions in the parameter of the (sorted) columns that lie in a range of it."""
    start = layout.start(span[0])
    low, high = start + span[1], start + span[2]
    return touched[np.searchsorted(touched, low) : np.searchsorted(touched, high, side="right")] - start


def _exclude_touched(
    pair: Mirror | Pairs,
    touched: list[Integers],
    rows: Rows,
    system: System,
    over_free: Callable[[Rows], Rows],
) -> tuple[Mirror | Pairs | None, Rows]:
    """The pair without the places of the touched positions, and the equations of these places.

    A large pair stays complete if more than half of it is touched, or many places by many equations.
    """
    no_rows = system.rows(())
    if not any(len(positions) for positions in touched):
        return pair, no_rows
    large = 2 * pair.rank > system.limits.one_by_one
    # Right-hand sides of frozen weights are rounded relative to magnitudes that only the rule itself stores.
    plain = all(system.rules[rule].size is None for rule in pair.rules)
    if not plain or not all(mixed_radix(Nest(view.dims), Nest(())) for view in pair.boxes):
        return (pair, no_rows) if large else (None, over_free(system.rows(pair.rules)))
    places = distinct(
        np.concatenate([_find_places(view, in_view) for view, in_view in zip(pair.boxes, touched, strict=True)])
    )
    places = np.setdiff1d(pair.closed(places), pair.without, assume_unique=True)
    if not len(places):
        return pair, no_rows
    more_than_half = 2 * len(places) > pair.first.size
    if more_than_half or (large and len(places) * int((rows.lengths > 2).sum()) > system.limits.most_apart):
        return (pair, no_rows) if large else (None, over_free(system.rows(pair.rules)))
    return replace(pair, without=distinct(np.concatenate([pair.without, places]))), _make_equations(
        pair, places, system.layout
    )


def _find_places(view: View, positions: Integers) -> Integers:
    """Places in the flattened box, of the positions that lie in the box."""
    places = located(view.dims, positions - view.offset)
    return places[places >= 0]


def _find_positions(view: View, places: Integers) -> Integers:
    index = np.unravel_index(places, tuple(size for size, _ in view.dims)) if view.dims else ()
    positions = np.full(len(places), view.offset, np.int64)
    for (_, step), i in zip(view.dims, index, strict=True):
        positions += step * i
    return positions


def _make_equations(pair: Mirror | Pairs, places: Integers, layout: Layout) -> Rows:
    """The equations of some places: one per place and image, none for places that are their own image."""
    places = pair.leading(places)
    first, second = _find_positions(pair.first, places), _find_positions(pair.second, pair.images(places))
    first_start, second_start = layout.start(pair.first.parameter), layout.start(pair.second.parameter)
    count = len(places)
    shift = np.broadcast_to(pair.shift, tuple(size for size, _ in pair.first.dims))
    rhs = shift[np.unravel_index(places, shift.shape)] if shift.ndim else np.full(count, float(shift))
    order = np.concatenate([np.arange(count)] * 2)
    columns = np.concatenate([first + first_start, second + second_start])
    values = np.repeat([1.0, -pair.ratio], count)
    rule, unknown = np.full(count, pair.rules[0]), np.full(count, -1)
    used, local = ranked(columns)
    rows = gather_rows(order, local, values, rhs, rule, unknown, 0.0)
    return replace(rows, columns=used[rows.columns])
