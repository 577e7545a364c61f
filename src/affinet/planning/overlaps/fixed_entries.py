"""Substitute entries that large rules fix into the rules that read them: pairs, batches, panels, single equations."""

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
from affinet.planning.elimination.fixed_blocks import FixedBlocks, collect_fixed
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
    """The fixed entries of each parameter, and the other rules that read some of them."""

    def __init__(self, fixings: Sequence[Fixing], system: System) -> None:
        self._fixings, self._system = list(fixings), system
        self._masks: dict[str, Mask] = {}
        self._readers: dict[str, set[int]] = {}
        self._blocks = collect_fixed(self._fixings, system.tolerance)

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def blocks(self) -> Iterable[FixedBlocks]:
        """The fixed entries of each parameter; the rules that read them own the blocks too."""
        return [blocks.with_rules(self._readers.get(name, ())) for name, blocks in self._blocks.items()]

    @property
    def rules_involved(self) -> set[int]:
        """Rules that fix entries which others read, and these others: any may be part of a later contradiction."""
        blocks_read = [fixing.block for fixing in self._fixings if fixing.block.parameter.name in self._readers]
        fixing_rules = {rule for block in blocks_read for rule in block.rules}
        return fixing_rules.union(*self._readers.values())

    def mask(self, parameter: Parameter) -> Mask | None:
        """Which entries of a parameter are fixed; None if all are free."""
        if parameter.name not in self._blocks:
            return None
        if parameter.name not in self._masks:
            self._masks[parameter.name] = self._blocks[parameter.name].mask()
        return self._masks[parameter.name]

    def known(self, parameter: Parameter, positions: Integers) -> tuple[Mask, Floats, Floats]:
        """As `FixedBlocks.known`, for any parameter."""
        if parameter.name in self._blocks:
            return self._blocks[parameter.name].known(positions)
        return np.zeros(len(positions), bool), np.zeros(len(positions)), np.zeros(len(positions))

    def fix(self, fixing: Fixing) -> None:
        """Fix further entries. Raises Contradiction."""
        self._fixings.append(fixing)
        self._masks.clear()
        self._blocks = collect_fixed(self._fixings, self._system.tolerance)

    def read_by(self, parameter: Parameter, rules: Iterable[int]) -> None:
        """Note that rules read fixed entries of a parameter."""
        self._readers.setdefault(parameter.name, set()).update(int(rule) for rule in rules)


@dataclass(frozen=True, eq=False)
class OtherRules:
    """The rules that do not fix entries outright: regular ones, and equations one by one."""

    batches: list[RowBatch]
    pairs: list[Mirror | Pairs]
    panels: list[Panel]
    rows: Rows


def substitute(fixed: FixedEntries, other_rules: OtherRules, system: System) -> OtherRules:
    """The other rules over the free entries. Entries that these rules fix in turn are added to `fixed`.

    Raises Contradiction and TooLargeError.
    """
    if not fixed:
        return other_rules
    pairs = _exclude_from_pairs(other_rules.pairs, fixed, system.tolerance)
    batches: list[RowBatch] = []
    equations: list[Rows] = [other_rules.rows]
    for batch in other_rules.batches:
        regular, irregular = _exclude_from_batch(batch, fixed, system)
        batches += regular
        equations += irregular
    panels: list[Panel] = []
    for panel in other_rules.panels:
        remaining = _exclude_from_panel(panel, fixed)
        panels += [] if remaining is None else [remaining]
        equations += [system.rows([panel.rule])] if remaining is None else []
    return OtherRules(batches, pairs, panels, rows_without(concatenate(equations), fixed, system.layout))


def rows_without(rows: Rows, fixed: FixedEntries, layout: Layout) -> Rows:
    """Single equations over the free entries. An equation without free entries keeps its right-hand side."""
    if not fixed or not rows.count:
        return rows
    is_fixed, values, sizes = (
        np.zeros(len(rows.columns), bool),
        np.zeros(len(rows.columns)),
        np.zeros(len(rows.columns)),
    )
    row = rows.row_of_each()
    for blocks in fixed.blocks():
        start = layout.start(blocks.parameter)
        in_parameter = np.flatnonzero((rows.columns >= start) & (rows.columns < start + blocks.parameter.size))
        is_fixed[in_parameter], values[in_parameter], sizes[in_parameter] = blocks.known(
            rows.columns[in_parameter] - start
        )
        if is_fixed[in_parameter].any():
            fixed.read_by(blocks.parameter, distinct(rows.rule[row[in_parameter[is_fixed[in_parameter]]]]))
    if not is_fixed.any():
        return rows
    fixed_rows, coefficients = row[is_fixed], rows.values[is_fixed]
    rhs = rows.rhs - np.bincount(fixed_rows, coefficients * values[is_fixed], rows.count)
    size = rows.magnitude + np.bincount(fixed_rows, np.abs(coefficients) * sizes[is_fixed], rows.count)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row[~is_fixed], minlength=rows.count))])
    return Rows(bounds, rows.columns[~is_fixed], rows.values[~is_fixed], rhs, rows.rule, rows.index, size)


def _exclude_from_pairs(
    pairs: Sequence[Mirror | Pairs], fixed: FixedEntries, tolerance: Tolerance
) -> list[Mirror | Pairs]:
    """The pairs of free entries. Partners of fixed entries are fixed, until no further entry becomes fixed."""
    remaining = list(pairs)
    while True:
        results = [_exclude_from_pair(pair, fixed, tolerance) for pair in remaining]
        new_fixings = [fixing for _, fixings in results for fixing in fixings]
        remaining = [pair for pair, _ in results if pair is not None]
        if not new_fixings:
            return remaining
        for fixing in new_fixings:
            fixed.fix(fixing)


def _exclude_from_pair(
    pair: Mirror | Pairs, fixed: FixedEntries, tolerance: Tolerance
) -> tuple[Mirror | Pairs | None, list[Fixing]]:
    """The pair without the places that are fixed on at least one side, and the fixings of their partners."""
    first, second, ratio = pair.first, pair.second, pair.ratio
    fixed_first, fixed_second = _find_fixed_places(first, fixed), _find_fixed_places(second, fixed)
    if fixed_first is None and fixed_second is None:
        return pair, []
    sizes = tuple(size for size, _ in first.dims)
    fixed_first, fixed_second = (
        np.zeros(sizes, bool) if mask is None else mask for mask in (fixed_first, fixed_second)
    )
    excluded = (fixed_first | pair.reflected(fixed_second)).reshape(-1)
    excluded[pair.without] = False
    places = np.flatnonzero(excluded)
    if not len(places):
        return pair, []
    positions = position_at(first, places), position_at(second, pair.images(places))
    (first_known, first_values, first_sizes), (second_known, second_values, second_sizes) = (
        fixed.known(view.parameter, at) for view, at in zip((first, second), positions, strict=True)
    )
    shift = np.broadcast_to(pair.shift, sizes).reshape(-1)[places] if np.ndim(pair.shift) else float(pair.shift)
    size = np.maximum(first_sizes, abs(ratio) * second_sizes) + np.abs(shift)
    for view in (first, second):
        fixed.read_by(view.parameter, pair.rules)
    both_known = first_known & second_known
    if (np.abs(first_values - ratio * second_values - shift) > tolerance.consistency(8) * size)[both_known].any():
        raise Contradiction(pair.rules)
    only_first, only_second = first_known & ~second_known, second_known & ~first_known
    second_partners, first_partners = (first_values - shift) / ratio, ratio * second_values + shift
    new_fixings = [
        *_fix_partners(second.parameter, positions[1][only_first], second_partners[only_first], size, pair.rules),
        *_fix_partners(first.parameter, positions[0][only_second], first_partners[only_second], size, pair.rules),
    ]
    without = distinct(np.concatenate([pair.without, places]))
    return (None if len(without) == first.size else replace(pair, without=without)), new_fixings


def _fix_partners(
    parameter: Parameter, positions: Integers, values: Floats, size: Floats, rules: tuple[int, ...]
) -> list[Fixing]:
    if not len(positions):
        return []
    order = np.argsort(positions)
    block = fixed_at(parameter, positions[order], values[order] + 0.0, rules)
    return [Fixing(block, 1.0, in_order=False, size=float(size.max()) if size.any() else None)]


def _find_fixed_places(view: View, fixed: FixedEntries) -> Mask | None:
    """Which places of a box are fixed; None if all are free."""
    mask = fixed.mask(view.parameter)
    low, high = view.span
    if mask is None or not mask[low : high + 1].any():
        return None
    return np.array(box_in(mask, view), bool)


def _exclude_from_batch(batch: RowBatch, fixed: FixedEntries, system: System) -> tuple[list[RowBatch], list[Rows]]:
    """Cells without fixed places, and cells with the same fixed places; the other cells one equation at a time."""
    pattern = _find_fixed_pattern(batch, fixed)
    if pattern is None:
        return [batch], []
    fixed.read_by(batch.parameter, batch.rules)
    touched_cells = np.flatnonzero(pattern.any(axis=1))
    untouched = batch.without(touched_cells) if len(touched_cells) < batch.cells else None
    touched = batch.keep(touched_cells) if untouched is not None else batch
    pattern = pattern[touched_cells] if untouched is not None else pattern
    reduced = _exclude_places(touched, pattern[0], fixed) if (pattern == pattern[0]).all() else None
    regular = [part for part in (untouched, reduced) if part is not None]
    return regular, [] if reduced is not None else [touched.rows(system.layout)]


def _find_fixed_pattern(batch: RowBatch, fixed: FixedEntries) -> Mask | None:
    """Which places of which cell are fixed, (cells, n); None if all are free."""
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


def _exclude_places(batch: RowBatch, pattern: Mask, fixed: FixedEntries) -> RowBatch | None:
    """The batch without the inner places that are fixed in every cell; None if it must be read one equation at a time.

    It must where the remaining equations have one or two entries, or right-hand sides that are small differences of
    larger numbers.
    """
    inner, matrix = batch.inner.table(), batch.matrix[:, ~pattern]
    if pattern.all() or np.count_nonzero(matrix, axis=1).min() < SHORTEST:
        return None
    excluded = np.flatnonzero(pattern)
    cells, r = batch.cells, len(matrix)
    positions = batch.offset + batch.outer.table()[:, None] + inner[excluded]
    _, values, sizes = (part.reshape(cells, len(excluded)) for part in fixed.known(batch.parameter, positions.ravel()))
    rhs = np.broadcast_to(batch.rhs, (cells, r)) - values @ batch.matrix[:, excluded].T
    size = np.abs(batch.rhs) + sizes @ np.abs(batch.matrix[:, excluded]).T
    if (size > CANCELLED * np.abs(rhs)).any():
        return None
    owner = np.broadcast_to(batch.owner, (len(batch.owner), r))
    return row_batch(batch.parameter, batch.offset, batch.outer, inner[~pattern], matrix, rhs, owner)


def _exclude_from_panel(panel: Panel, fixed: FixedEntries) -> Panel | None:
    """The panel over the free entries; None if none remain."""
    pieces: list[Piece] = []
    rhs, size = panel.rhs, panel.size
    for piece in panel.pieces:
        is_fixed, values, sizes = fixed.known(piece.parameter, piece.entries)
        if not is_fixed.any():
            pieces.append(piece)
            continue
        fixed.read_by(piece.parameter, [panel.rule])
        fixed_part = piece.matrix[:, is_fixed]
        rhs, size = rhs - fixed_part @ values[is_fixed], size + np.abs(fixed_part) @ sizes[is_fixed]
        if not is_fixed.all():
            pieces.append(Piece(piece.parameter, piece.entries[~is_fixed], piece.matrix[:, ~is_fixed]))
    return replace(panel, pieces=tuple(pieces), rhs=rhs, size=size) if pieces else None
