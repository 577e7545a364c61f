"""From a system of rules to blocks that share no entry: read, merge, split off what is irregular, solve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affinet.language.terms import Integers
from affinet.structure.blocks import Block, Mirror, Pairs, Product
from affinet.structure.irregular import blocks_of
from affinet.structure.lifting import lift
from affinet.structure.merging import product, stacked
from affinet.structure.panels import Panel, panel_blocks, read_panel, single_cell
from affinet.structure.parting import part, spans
from affinet.structure.reading import read
from affinet.structure.regular import RowBatch
from affinet.structure.slices import slices_of
from affinet.system.distinct import distinct
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System

Products = dict[tuple[RowBatch, ...], Product]
ONE_BY_ONE = 65_536
"""Rules of at most this many (equation, entry) pairs are read one equation at a time: it costs a few milliseconds, and
makes the plan of a small rule the same however it was said. Larger ones are read from their terms."""


def compile_blocks(system: System, *, one_by_one: int = ONE_BY_ONE) -> tuple[Block, ...]:
    """Blocks that together hold every equation of the system. Raises Contradiction."""
    batches, pairs, panels, rows = _read(system, one_by_one)
    held = [(batch.parameter, *batch.span) for batch in batches] + [span for pair in pairs for span in spans(pair)]
    dense, crossed = panel_blocks(panels, held, rows, system)
    parted = part(pairs, batches, concatenate([rows, *crossed]), system)
    groups, products, clashing = _grouped(parted.batches, system)
    groups, rows = _split_off(groups, concatenate([parted.rows, *clashing]), system)
    # A group of several is split off whole or not at all, so that it is one of those that were found.
    regular = [
        products[tuple(group)] if len(group) > 1 else single_cell(slices_of(group[0], system.tolerance))
        for group in groups
    ]
    names = [rule.name for rule in system.rules]
    return (*regular, *dense, *parted.blocks, *blocks_of(rows, system.layout, system.tolerance, names))


def _read(system: System, one_by_one: int) -> tuple[list[RowBatch], list[Mirror | Pairs], list[Panel], Rows]:
    """Every rule in its regular form, and the equations that have none."""
    batches: list[RowBatch] = []
    pairs: list[Mirror | Pairs] = []
    panels: list[Panel] = []
    irregular = []
    for number, rule in enumerate(system.rules):
        large = rule.nonzeros > one_by_one
        found = (read(rule.expression, number) or read_panel(system, number)) if large else None
        match found:
            case RowBatch():
                batches.append(found)
            case Mirror() | Pairs():
                pairs.append(found)
            case Panel():
                panels.append(found)
            case None:
                irregular.append(number)
    lifted, rows = lift(system.rows(irregular), system.layout)
    return batches + lifted, pairs, panels, rows


def _grouped(batches: list[RowBatch], system: System) -> tuple[list[list[RowBatch]], Products, list[Rows]]:
    """Batches that share no entry, or that commute as one product; what does neither, one equation at a time."""
    groups: list[list[RowBatch]] = []
    products: Products = {}
    clashing: list[Rows] = []
    for cluster in _clusters(batches):
        placed: list[list[RowBatch]] = []
        for batch in sorted(_stack_all(cluster), key=lambda b: -b.size):
            meeting = [group for group in placed if any(_share(batch, other) for other in group)]
            if not meeting:
                placed.append([batch])
                continue
            found = product([*meeting[0], batch], system.tolerance) if len(meeting) == 1 else None
            if found is None:
                clashing.append(batch.rows(system.layout))
            else:
                meeting[0].append(batch)
                products[tuple(meeting[0])] = found
        groups += placed
    return groups, products, clashing


def _clusters(batches: list[RowBatch]) -> list[list[RowBatch]]:
    """Batches whose ranges of positions overlap, directly or through others."""
    ordered = sorted(batches, key=lambda batch: (batch.parameter.name, batch.span))
    clusters: list[list[RowBatch]] = []
    reach: tuple[str, int] = ("", -1)
    for batch in ordered:
        if not clusters or reach[0] != batch.parameter.name or batch.span[0] > reach[1]:
            clusters.append([])
            reach = (batch.parameter.name, batch.span[1])
        clusters[-1].append(batch)
        reach = (reach[0], max(reach[1], batch.span[1]))
    return clusters


def _stack_all(cluster: list[RowBatch]) -> list[RowBatch]:
    """Batches over the same loops become one, in the order they came."""
    done: list[RowBatch] = []
    for batch in cluster:
        for k, other in enumerate(done):
            both = stacked(other, batch) if _share(other, batch) else None
            if both is not None:
                done[k] = both
                break
        else:
            done.append(batch)
    return done


def _share(one: RowBatch, other: RowBatch) -> bool:
    """Whether two batches have an entry in common."""
    small, large = sorted((one, other), key=lambda batch: batch.size)
    (a, b), (c, d) = one.span, other.span
    if b < c or d < a:
        return False
    if large.span == small.span and large.size == small.size == b - a + 1:
        return True
    return len(large.cells_of(small.positions().ravel())) > 0


@dataclass(frozen=True, eq=False)
class _Split:
    kept: list[RowBatch]
    lowered: list[Rows]


def _split_off(groups: list[list[RowBatch]], rows: Rows, system: System) -> tuple[list[list[RowBatch]], Rows]:
    """Cells that irregular equations touch join these; the other cells stay regular."""
    changed = True
    while changed and rows.count:
        changed = False
        touched = distinct(rows.columns)
        parts = [_split(group, touched, system) for group in groups]
        groups = [part.kept for part in parts if part.kept]
        lowered = [piece for part in parts for piece in part.lowered]
        if lowered:
            rows, changed = concatenate([rows, *lowered]), True
    return groups, rows


def _split(group: list[RowBatch], touched: Integers, system: System) -> _Split:
    hits = [_cells_hit(batch, touched, system) for batch in group]
    if not any(len(cells) for cells in hits):
        return _Split(group, [])
    if len(group) > 1 or 2 * len(hits[0]) > group[0].cells:
        return _Split([], [batch.rows(system.layout) for batch in group])
    left = group[0].without(hits[0])
    return _Split([] if left is None else [left], [group[0].keep(hits[0]).rows(system.layout)])


def _cells_hit(batch: RowBatch, touched: Integers, system: System) -> Integers:
    start = system.layout.start(batch.parameter)
    low, high = batch.span
    inside = touched[np.searchsorted(touched, start + low) : np.searchsorted(touched, start + high, side="right")]
    return batch.cells_of(inside - start)


__all__ = ["ONE_BY_ONE", "Product", "compile_blocks"]
