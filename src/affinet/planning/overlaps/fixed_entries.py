"""Substitute entries that large rules fix into all that reads them: pairs, batches, panels, single equations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from affinet.blocks.entry_sets import View, box_in, position_at
from affinet.blocks.fixed import fixed_at
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch, row_batch
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.held import Held, held_by
from affinet.planning.factors.panels import Panel, Piece
from affinet.planning.reading.fixings import Fixing
from affinet.planning.reading.lifting import CANCELLED, SHORTEST
from affinet.system.distinct import distinct
from affinet.system.layout import Layout
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System
from affinet.system.tolerance import Tolerance

Mask = NDArray[np.bool_]


class FixedEntries:
    """What is fixed of each parameter, and which other rules read some of it."""

    def __init__(self, fixings: Sequence[Fixing], system: System) -> None:
        self._fixings, self._system = list(fixings), system
        self._masks: dict[str, Mask] = {}
        self._readers: dict[str, set[int]] = {}
        self._held = held_by(self._fixings, system.tolerance)

    def __bool__(self) -> bool:
        return bool(self._held)

    def held(self) -> Iterable[Held]:
        """What is fixed, by parameter; its blocks are owned by the rules that read them too."""
        return [one.with_rules(self._readers.get(name, ())) for name, one in self._held.items()]

    @property
    def substituted(self) -> set[int]:
        """Rules that fix entries which others read, and these others: a contradiction of the rest may be theirs."""
        read = [one.block for one in self._fixings if one.block.parameter.name in self._readers]
        fixing = {rule for block in read for rule in block.rules}
        return fixing.union(*self._readers.values())

    def mask(self, parameter: Parameter) -> Mask | None:
        """Which entries of a parameter are fixed; None where none is."""
        if parameter.name not in self._held:
            return None
        if parameter.name not in self._masks:
            self._masks[parameter.name] = self._held[parameter.name].mask()
        return self._masks[parameter.name]

    def known(self, parameter: Parameter, positions: Integers) -> tuple[Mask, Floats, Floats]:
        """As `Held.known`, for any parameter."""
        if parameter.name in self._held:
            return self._held[parameter.name].known(positions)
        return np.zeros(len(positions), bool), np.zeros(len(positions)), np.zeros(len(positions))

    def fix(self, fixing: Fixing) -> None:
        """Fix some more entries. Raises Contradiction."""
        self._fixings.append(fixing)
        self._masks.clear()
        self._held = held_by(self._fixings, self._system.tolerance)

    def read_by(self, parameter: Parameter, rules: Iterable[int]) -> None:
        """Note that rules read fixed entries of a parameter."""
        self._readers.setdefault(parameter.name, set()).update(int(rule) for rule in rules)


@dataclass(frozen=True, eq=False)
class Others:
    """The rules that fix no entry outright: regular ones, and equations one by one."""

    batches: list[RowBatch]
    pairs: list[Mirror | Pairs]
    panels: list[Panel]
    rows: Rows


def substituted(fixed: FixedEntries, others: Others, system: System) -> Others:
    """The other rules in the entries that are not fixed; what they fix in turn is fixed too.

    Raises Contradiction and TooLargeError.
    """
    if not fixed:
        return others
    pairs = _pairs_without(others.pairs, fixed, system.tolerance)
    batches: list[RowBatch] = []
    lowered: list[Rows] = [others.rows]
    for batch in others.batches:
        kept, its = _batch_without(batch, fixed, system)
        batches += kept
        lowered += its
    panels: list[Panel] = []
    for panel in others.panels:
        less = _panel_without(panel, fixed)
        panels += [] if less is None else [less]
        lowered += [system.rows([panel.rule])] if less is None else []
    return Others(batches, pairs, panels, rows_without(concatenate(lowered), fixed, system.layout))


def rows_without(rows: Rows, fixed: FixedEntries, layout: Layout) -> Rows:
    """Equations one by one in the entries that are not fixed; of one that has none left its right-hand side stays."""
    if not fixed or not rows.count:
        return rows
    gone, values, sizes = np.zeros(len(rows.columns), bool), np.zeros(len(rows.columns)), np.zeros(len(rows.columns))
    row = rows.row_of_each()
    for one in fixed.held():
        start = layout.start(one.parameter)
        near = np.flatnonzero((rows.columns >= start) & (rows.columns < start + one.parameter.size))
        gone[near], values[near], sizes[near] = one.known(rows.columns[near] - start)
        if gone[near].any():
            fixed.read_by(one.parameter, distinct(rows.rule[row[near[gone[near]]]]))
    if not gone.any():
        return rows
    own, coefficients = row[gone], rows.values[gone]
    rhs = rows.rhs - np.bincount(own, coefficients * values[gone], rows.count)
    size = rows.magnitude + np.bincount(own, np.abs(coefficients) * sizes[gone], rows.count)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row[~gone], minlength=rows.count))])
    return Rows(bounds, rows.columns[~gone], rows.values[~gone], rhs, rows.rule, rows.index, size)


def _pairs_without(pairs: Sequence[Mirror | Pairs], fixed: FixedEntries, tolerance: Tolerance) -> list[Mirror | Pairs]:
    """Pairs of entries of which none is fixed; the partners of fixed entries are fixed, until none is left."""
    left = list(pairs)
    while True:
        found = [_pair_without(pair, fixed, tolerance) for pair in left]
        fresh = [fixing for _, fixings in found for fixing in fixings]
        left = [pair for pair, _ in found if pair is not None]
        if not fresh:
            return left
        for fixing in fresh:
            fixed.fix(fixing)


def _pair_without(
    pair: Mirror | Pairs, fixed: FixedEntries, tolerance: Tolerance
) -> tuple[Mirror | Pairs | None, list[Fixing]]:
    """The pair without the places that are fixed on one side at least, and what that fixes on the other."""
    first, second, ratio = pair.first, pair.second, pair.ratio
    one, other = _fixed_places(first, fixed), _fixed_places(second, fixed)
    if one is None and other is None:
        return pair, []
    sizes = tuple(size for size, _ in first.dims)
    one, other = (np.zeros(sizes, bool) if found is None else found for found in (one, other))
    gone = (one | pair.reflected(other)).reshape(-1)
    gone[pair.without] = False
    places = np.flatnonzero(gone)
    if not len(places):
        return pair, []
    positions = position_at(first, places), position_at(second, pair.images(places))
    (here, x, size_x), (there, y, size_y) = (
        fixed.known(view.parameter, at) for view, at in zip((first, second), positions, strict=True)
    )
    shift = np.broadcast_to(pair.shift, sizes).reshape(-1)[places] if np.ndim(pair.shift) else float(pair.shift)
    size = np.maximum(size_x, abs(ratio) * size_y) + np.abs(shift)
    for view in (first, second):
        fixed.read_by(view.parameter, pair.rules)
    both = here & there
    if (np.abs(x - ratio * y - shift) > tolerance.consistency(8) * size)[both].any():
        raise Contradiction(pair.rules)
    only_here, only_there = here & ~there, there & ~here
    fresh = [
        *_partner(second.parameter, positions[1][only_here], ((x - shift) / ratio)[only_here], size, pair.rules),
        *_partner(first.parameter, positions[0][only_there], (ratio * y + shift)[only_there], size, pair.rules),
    ]
    without = distinct(np.concatenate([pair.without, places]))
    return (None if len(without) == first.size else replace(pair, without=without)), fresh


def _partner(
    parameter: Parameter, positions: Integers, values: Floats, size: Floats, rules: tuple[int, ...]
) -> list[Fixing]:
    if not len(positions):
        return []
    order = np.argsort(positions)
    block = fixed_at(parameter, positions[order], values[order] + 0.0, rules)
    return [Fixing(block, 1.0, whole=False, size=float(size.max()) if size.any() else None)]


def _fixed_places(view: View, fixed: FixedEntries) -> Mask | None:
    """Which places of a box are fixed; None where none is."""
    mask = fixed.mask(view.parameter)
    low, high = view.span
    if mask is None or not mask[low : high + 1].any():
        return None
    return np.array(box_in(mask, view), bool)


def _batch_without(batch: RowBatch, fixed: FixedEntries, system: System) -> tuple[list[RowBatch], list[Rows]]:
    """Cells in which nothing is fixed, those in which the same places are; the others one equation at a time."""
    pattern = _pattern(batch, fixed)
    if pattern is None:
        return [batch], []
    fixed.read_by(batch.parameter, batch.rules)
    hit = np.flatnonzero(pattern.any(axis=1))
    rest = batch.without(hit) if len(hit) < batch.cells else None
    some = batch.keep(hit) if rest is not None else batch
    pattern = pattern[hit] if rest is not None else pattern
    less = _less_places(some, pattern[0], fixed) if (pattern == pattern[0]).all() else None
    left = [one for one in (rest, less) if one is not None]
    return left, [] if less is not None else [some.rows(system.layout)]


def _pattern(batch: RowBatch, fixed: FixedEntries) -> Mask | None:
    """Which places of which cell are fixed, (cells, n); None where none is."""
    mask = fixed.mask(batch.parameter)
    low, high = batch.span
    if mask is None or not mask[low : high + 1].any():
        return None
    forecast("which entries of sums are fixed", batch.size, item_bytes=1)
    if isinstance(batch.outer, Nest) and isinstance(batch.inner, Nest):
        dims = (*batch.outer.dims, *batch.inner.dims)
        box = as_strided(mask[batch.offset :], tuple(n for n, _ in dims), tuple(step for _, step in dims))
        pattern = box.reshape(batch.cells, batch.inner.size)
    else:
        pattern = mask[batch.positions()]
    return pattern if pattern.any() else None


def _less_places(batch: RowBatch, pattern: Mask, fixed: FixedEntries) -> RowBatch | None:
    """The batch without inner places that are fixed in every cell; None where its equations are then of another kind.

    That is where they are about one or two entries, or where right-hand sides are what is left of larger numbers.
    """
    inner, matrix = batch.inner.table(), batch.matrix[:, ~pattern]
    if pattern.all() or np.count_nonzero(matrix, axis=1).min() < SHORTEST:
        return None
    gone = np.flatnonzero(pattern)
    cells, r = batch.cells, len(matrix)
    positions = batch.offset + batch.outer.table()[:, None] + inner[gone]
    _, values, sizes = (part.reshape(cells, len(gone)) for part in fixed.known(batch.parameter, positions.ravel()))
    rhs = np.broadcast_to(batch.rhs, (cells, r)) - values @ batch.matrix[:, gone].T
    size = np.abs(batch.rhs) + sizes @ np.abs(batch.matrix[:, gone]).T
    if (size > CANCELLED * np.abs(rhs)).any():
        return None
    owner = np.broadcast_to(batch.owner, (len(batch.owner), r))
    return row_batch(batch.parameter, batch.offset, batch.outer, inner[~pattern], matrix, rhs, owner)


def _panel_without(panel: Panel, fixed: FixedEntries) -> Panel | None:
    """The panel over the entries that are not fixed; None where it has none left."""
    pieces: list[Piece] = []
    rhs, size = panel.rhs, panel.size
    for piece in panel.pieces:
        gone, values, sizes = fixed.known(piece.parameter, piece.entries)
        if not gone.any():
            pieces.append(piece)
            continue
        fixed.read_by(piece.parameter, [panel.rule])
        own = piece.matrix[:, gone]
        rhs, size = rhs - own @ values[gone], size + np.abs(own) @ sizes[gone]
        if not gone.all():
            pieces.append(Piece(piece.parameter, piece.entries[~gone], piece.matrix[:, ~gone]))
    return replace(panel, pieces=tuple(pieces), rhs=rhs, size=size) if pieces else None
