"""Make sets of large inequality rules from their terms: boxes, boxes with a sum in each cell, chains, and balls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from affinet.blocks.chain import Chain
from affinet.blocks.cone import Cone
from affinet.blocks.entry_sets import View, positions_of
from affinet.blocks.offsets import Nest
from affinet.blocks.places import Chosen, Places, Stepped, box
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Floats, Parameter
from affinet.planning.contradiction import Contradiction
from affinet.planning.inequalities.bounded_weights import Bounds, bounds_of_rows, intersected, read_bounds, without
from affinet.planning.overlaps.fixed_entries import FixedEntries
from affinet.planning.reading.term_patterns import read, read_shifted
from affinet.system.layout import Layout
from affinet.system.rows import Rows
from affinet.system.system import System
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class Ladder:
    """`w[i + 1] − w[i] >= gap[i]` along one loop of a box of entries, for all i and all other loops."""

    view: View
    axis: int
    gap: Floats
    decreasing: bool
    rule: int


@dataclass(eq=False)
class _Readings:
    """The large inequality rules on one parameter, and `rows` of smaller rules that bound single entries of it."""

    bounds: list[Bounds] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    sums: list[RowBatch] = field(default_factory=list)
    ladders: list[Ladder] = field(default_factory=list)

    @property
    def rules(self) -> set[int]:
        """The large rules."""
        owners = [rule for bounds in self.bounds for rule in bounds.rules]
        owners += [rule for batch in self.sums for rule in batch.rules]
        return {*owners, *(ladder.rule for ladder in self.ladders)}


Read = dict[Parameter, _Readings]


def read_large(system: System, numbers: Sequence[int]) -> tuple[Read, list[int]]:
    """The regular forms of inequality rules by parameter, and the rules that have none."""
    readings: Read = {}
    return readings, [number for number in numbers if not _read_rule(system, number, readings)]


def _read_rule(system: System, number: int, readings: Read) -> bool:
    rule, cancellation = system.rules[number], system.tolerance.cancellation
    if rule.nonzeros <= system.limits.one_by_one:
        return False
    bounds = read_bounds(system, number)
    if bounds is not None:
        for each in bounds:
            readings.setdefault(each.parameter, _Readings()).bounds.append(each)
        return True
    constant = np.asarray(rule.expression.constant)
    if not np.isfinite(constant).all():
        return False
    sign = 1.0 if rule.sense == "<=" else -1.0
    shifted = read_shifted(rule.expression)
    if shifted is not None:
        view, axis, ratio = shifted
        # ratio · (w[i + 1] − w[i]) + constant <= 0, or >= 0
        slope = sign * ratio
        gap = np.broadcast_to(constant * (1.0 / abs(ratio)) * sign, rule.expression.shape)
        ladder = Ladder(view, axis, gap, slope > 0, number)
        readings.setdefault(view.parameter, _Readings()).ladders.append(ladder)
        return True
    batch = read(rule.expression, number, cancellation)
    if isinstance(batch, RowBatch) and len(batch.matrix) == 1:
        if sign < 0:
            batch = RowBatch(
                batch.parameter, batch.offset, batch.outer, batch.inner, -batch.matrix, -batch.rhs, batch.owner
            )
        readings.setdefault(batch.parameter, _Readings()).sums.append(batch)
        return True
    return False


def take_bounds(readings: Read, rows: Rows, layout: Layout) -> Rows:
    """The rows that bound no single entry of a parameter with large rules; those that do are added to its readings."""
    single = rows.lengths == 1
    numbers = np.full(rows.count, -1)
    numbers[single] = layout.numbers(rows.columns[rows.bounds[:-1][single]])
    for parameter, reading in readings.items():
        if reading.bounds and (of_parameter := numbers == layout.parameters.index(parameter)).any():
            reading.rows.append(rows.select(np.flatnonzero(of_parameter)))
            numbers[of_parameter] = -2
    return rows.select(np.flatnonzero(numbers != -2))


def make_regular(
    readings: Read,
    equations: Mapping[Parameter, Sequence[RowBatch]],
    read_elsewhere: set[Parameter],
    fixed: FixedEntries,
    system: System,
) -> tuple[list[Cone | Chain], list[RowBatch], list[int], list[Rows]]:
    """The sets of parameters whose rules fit one form, and the batches of equations used; the other rules and rows.

    `equations`: the regular equations of each parameter; `read_elsewhere`: parameters that further rules read. Raises
    Contradiction.
    """
    sets: list[Cone | Chain] = []
    used: list[RowBatch] = []
    remaining: list[int] = []
    rows: list[Rows] = []
    for parameter, reading in readings.items():
        batches = list(equations.get(parameter, ()))
        bounds = [bounds_of_rows(parameter, system.layout.start(parameter), each) for each in reading.rows]
        both = replace(reading, bounds=reading.bounds + bounds)
        made = None if parameter in read_elsewhere else _make(both, batches, fixed, system.tolerance)
        if made is None:
            remaining += sorted(reading.rules)
            rows += reading.rows
        else:
            sets += made
            used += batches
    return sets, used, remaining, rows


def _make(
    reading: _Readings, batches: list[RowBatch], fixed: FixedEntries, tolerance: Tolerance
) -> list[Cone | Chain] | None:
    bounds = intersected(reading.bounds) if reading.bounds else None
    if bounds is not None and fixed.mask(bounds.parameter) is not None:
        bounds = _outside_fixed(bounds, fixed, tolerance)
    sums = [*((batch, True) for batch in batches), *((batch, False) for batch in reading.sums)]
    if bounds is not None and not _is_strict(bounds, tolerance):
        return None
    if not sums and not reading.ladders:
        return [] if bounds is None else [box_of(bounds)]
    if len(sums) == 1 and not reading.ladders and len(sums[0][0].matrix) == 1:
        return _cone(*sums[0], bounds, tolerance)
    if len(reading.ladders) == 1 and not sums and (bounds is None or _is_uniform(bounds)):
        return _chain(reading.ladders[0], bounds, tolerance)
    return None


def _outside_fixed(bounds: Bounds, fixed: FixedEntries, tolerance: Tolerance) -> Bounds | None:
    """The bounds of the entries that no rule fixes; None if all are fixed. Raises Contradiction for a value outside."""
    mask = fixed.mask(bounds.parameter)
    assert mask is not None
    fixed.read_by(bounds.parameter, bounds.rules)
    positions = np.flatnonzero(mask)
    _, values, sizes = fixed.known(bounds.parameter, positions)
    lower, upper = (side[positions] for side in bounds.over_parameter())
    with np.errstate(invalid="ignore"):  # of infinite bounds
        slack = tolerance.consistency(8) * (np.maximum(np.abs(values), sizes) + np.abs(values))
        if ((values < lower - slack) | (values > upper + slack)).any():
            raise Contradiction(bounds.rules)
    return without(bounds, positions)


def box_of(bounds: Bounds) -> Cone:
    """The set of bounds alone."""
    places: Places = Chosen(bounds.parameter, bounds.places)
    if isinstance(bounds.places, View) and all(step > 0 for _, step in bounds.places.dims):
        places = box(bounds.places)
    lower, upper = (np.reshape(np.asarray(side, np.float64), (-1, 1)) for side in (bounds.lower, bounds.upper))
    return Cone(places, bounds.places.size, 1, None, np.zeros((1, 1)), False, lower, upper, bounds.rules)


def _is_uniform(bounds: Bounds) -> bool:
    return isinstance(bounds.lower, float) and isinstance(bounds.upper, float) and bounds.covers_all


def _is_strict(bounds: Bounds, tolerance: Tolerance) -> bool:
    """Whether every lower bound is below the upper. Raises Contradiction where one is above."""
    low, high = np.asarray(bounds.lower), np.asarray(bounds.upper)
    with np.errstate(invalid="ignore"):
        gap = high - low
        size = tolerance.consistency(8) * np.where(np.isfinite(gap), np.abs(high) + np.abs(low), 0.0)
    if (gap < -size).any():
        entry = positions_of(bounds.places)[[int(np.argmax(np.ravel(gap < -size)))]]
        raise Contradiction(bounds.rules, entries=(bounds.parameter, entry))
    return bool((gap > size).all())


def _cone(batch: RowBatch, is_equation: bool, bounds: Bounds | None, tolerance: Tolerance) -> list[Cone | Chain] | None:
    """Cells with a sum, and a box of the bounded entries outside them; None if a sum leaves some entry no freedom."""
    shape = (batch.cells, batch.inner.size)
    places = Stepped(batch.parameter, batch.offset, batch.outer, batch.inner)
    outside: Bounds | None = None
    if bounds is None:
        lower, upper, rules = np.full((1, 1), -np.inf), np.full((1, 1), np.inf), batch.rules
    elif _is_uniform(bounds):
        lower, upper = np.full((1, 1), bounds.lower), np.full((1, 1), bounds.upper)
        rules = tuple(sorted({*batch.rules, *bounds.rules}))
        if batch.size < batch.parameter.size:
            outside = without(bounds, batch.positions().ravel())
    else:
        positions = batch.positions()
        lower, upper = (side[positions] for side in bounds.over_parameter())
        rules = tuple(sorted({*batch.rules, *bounds.rules}))
        outside = without(bounds, positions.ravel())
    if not _leaves_room(batch, is_equation, lower, upper, rules, tolerance):
        return None
    cone = Cone(places, *shape, batch.matrix, batch.rhs, is_equation, lower, upper, rules)
    return [cone] if outside is None else [cone, box_of(outside)]


def _leaves_room(
    batch: RowBatch, is_equation: bool, lower: Floats, upper: Floats, rules: tuple[int, ...], tolerance: Tolerance
) -> bool:
    """Whether `row · w <= rhs` (`==`) can hold with every bound strict. Raises Contradiction where it cannot hold."""
    strict, row, rhs = True, batch.matrix, batch.rhs
    for direction in (1.0, -1.0) if is_equation else (1.0,):
        signed = direction * row
        terms = np.where(signed != 0.0, signed * np.where(signed > 0, lower, upper), 0.0)
        terms = np.broadcast_to(terms, (len(terms), row.shape[1]))
        least, size = terms.sum(axis=1), np.abs(terms).sum(axis=1)
        gap = direction * rhs[:, 0] - least
        with np.errstate(invalid="ignore"):
            slack = np.where(np.isfinite(least), tolerance.consistency(row.shape[1]) * (size + np.abs(rhs[:, 0])), 0.0)
        if (gap < -slack).any():
            cell = batch.offset + batch.outer.table()[int(np.argmax(gap < -slack))] + batch.inner.table()
            raise Contradiction(rules, entries=(batch.parameter, cell))
        strict = strict and bool((gap > slack).all())
    return strict


def _chain(ladder: Ladder, bounds: Bounds | None, tolerance: Tolerance) -> list[Cone | Chain] | None:
    """Chains along one loop of the box; None if bounds leave some chain no room."""
    dims = ladder.view.dims
    size, step = dims[ladder.axis]
    outer = tuple(dim for axis, dim in enumerate(dims) if axis != ladder.axis)
    cells = ladder.view.size // size
    gap = np.moveaxis(ladder.gap, ladder.axis, -1) if ladder.gap.ndim else ladder.gap
    gap = _collapsed(np.broadcast_to(gap, (*(n for n, _ in outer), size - 1)), size - 1)
    if ladder.decreasing:
        gap = gap[:, ::-1]
    offset = ladder.view.offset + ((size - 1) * step if ladder.decreasing else 0)
    places = Stepped(ladder.view.parameter, offset, Nest(outer), Nest(((size, -step if ladder.decreasing else step),)))
    lower, upper = (-np.inf, np.inf) if bounds is None else (bounds.lower, bounds.upper)
    rules = (ladder.rule,) if bounds is None else tuple(sorted({ladder.rule, *bounds.rules}))
    outside = None
    if bounds is not None:
        # Bounds along a chain are exact only where every gap is at least zero: else an inner entry may be the tightest.
        if (gap < 0).any():
            return None
        total = np.broadcast_to(gap, (len(gap), size - 1)).sum(axis=1)
        room = float(upper) - float(lower) - total
        slack = tolerance.consistency(size) * (np.abs(total) + (abs(float(upper)) if np.isfinite(room).all() else 0.0))
        if (room < -slack).any():
            cell = places.offset + places.outer.table()[int(np.argmax(np.ravel(room < -slack)))] + places.inner.table()
            raise Contradiction(rules, entries=(ladder.view.parameter, np.sort(cell)))
        if (room <= slack).any() or (total > 0).any():
            return None
        if ladder.view.size < ladder.view.parameter.size:
            outside = without(bounds, ladder.view.offset + Nest(dims).table())
    chain = Chain(places, cells, size, gap, np.full((1, 1), lower), np.full((1, 1), upper), rules)
    return [chain] if outside is None else [chain, box_of(outside)]


def _collapsed(values: Floats, width: int) -> Floats:
    """(cells, width), or one row where all are equal."""
    if all(stride == 0 for stride, n in zip(values.strides[:-1], values.shape[:-1], strict=True) if n > 1):
        return np.asarray(values[(0,) * (values.ndim - 1)]).reshape(1, width)
    rows = values.reshape(-1, width)
    return np.asarray(rows[:1] if (rows == rows[:1]).all() else rows)


__all__ = ["Read", "make_regular", "read_large", "take_bounds"]
