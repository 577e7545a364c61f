"""Look up the equations that read an entry, by solving the loops of the terms; large rules are not written out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from affinet.language.calculus.marked import Marked
from affinet.language.calculus.terms import Floats, Integers, Source, Term, Variable, lower, row_major_steps, table
from affinet.system.distinct import ranked
from affinet.system.rows import Rows
from affinet.system.system import System

SMALL = 65_536
"""(equation, entry) pairs of a rule up to which it is written out, together with all others that are as small."""
MOST_WRITTEN = 2**21
"""At most this many pairs are written out, summed over all small rules."""
MOST_EQUATIONS = 2**20
"""At most this many equations of one term are found for one entry."""


FEW_PLACES = 8
"""Up to this many places of a mask are looked up one by one; more are read from a table of all places."""


@dataclass(frozen=True, eq=False)
class Equation:
    """`Σ values · w[columns] == rhs`, equation number `index` (row-major in its shape) of a rule; columns rise.

    Of an inequality, the sense is that of its rule.
    """

    rule: int
    index: int
    columns: Integers
    values: Floats
    rhs: float


@dataclass(frozen=True, eq=False)
class Incidence:
    """Looks equations up by the entries that they read, or by their number; `inequalities` looks up those instead.

    Balls are not looked up: they have no rows.
    """

    system: System
    inequalities: bool = False

    @cached_property
    def rules(self) -> tuple[int, ...]:
        """The rules whose rows are looked up."""
        system = self.system
        if not self.inequalities:
            return system.equation_rules
        return tuple(number for number in system.inequality_rules if system.rules[number].norm is None)

    @cached_property
    def written(self) -> tuple[int, ...]:
        """The rules that are written out: small ones, the smallest first while they fit."""
        rules = self.system.rules
        pairs = {number: max(rules[number].pairs, rules[number].equations) for number in self.rules}
        chosen, total = [], 0
        for number in sorted(pairs, key=pairs.__getitem__):
            total += pairs[number]
            if pairs[number] > SMALL or total > MOST_WRITTEN:
                break
            chosen.append(number)
        return tuple(sorted(chosen))

    @cached_property
    def rows(self) -> Rows:
        """The equations of the rules that are written out."""
        return self.system.rows(self.written)

    def of(self, column: int) -> list[tuple[int, int]]:
        """(rule, equation) of every equation in which an entry has a nonzero coefficient, sorted."""
        order, columns = self._by_column
        low, high = np.searchsorted(columns, [column, column + 1])
        rows = self._row_of_each[order[low:high]]
        incident = set(zip(self.rows.rule[rows].tolist(), self.rows.index[rows].tolist(), strict=True))
        number = self.system.layout.number(column)
        parameter = self.system.layout.parameters[number]
        place = column - self.system.layout.starts[number]
        for rule, terms in self._large.get(parameter.name, {}).items():
            shape = self.system.rules[rule].expression.shape
            hits = [equations_at(term, shape, place) for term in terms]
            index, at = ranked(np.concatenate([rows for rows, _ in hits]))
            values = np.concatenate([values for _, values in hits])
            total, size = (np.bincount(at, numbers, len(index)) for numbers in (values, np.abs(values)))
            nonzero = np.abs(total) > self.system.tolerance.cancellation * size
            incident |= {(rule, int(k)) for k in index[nonzero]}
        return sorted(incident)

    def equation(self, rule: int, index: int) -> Equation:
        """One equation of one rule."""
        first = self._first_row.get(rule)
        if first is not None:
            rows = self.rows
            span = slice(rows.bounds[first + index], rows.bounds[first + index + 1])
            return Equation(rule, index, rows.columns[span], rows.values[span], float(rows.rhs[first + index]))
        expression = self.system.rules[rule].expression
        entry = expression[tuple(int(k) for k in np.unravel_index(index, expression.shape))]
        columns: list[Integers] = [np.zeros(0, np.int64)]
        values: list[Floats] = [np.zeros(0)]
        for term in entry.terms:
            _, entries, numbers = lower(term, ())
            columns.append(entries + self.system.layout.start(term.parameter))
            values.append(numbers)
        used, place = ranked(np.concatenate(columns))
        numbers = np.concatenate(values)
        total, size = (np.bincount(place, summands, len(used)) for summands in (numbers, np.abs(numbers)))
        nonzero = np.abs(total) > self.system.tolerance.cancellation * size
        coefficients: Floats = total[nonzero].astype(np.float64, copy=False)
        return Equation(rule, index, used[nonzero], coefficients, -float(np.asarray(entry.constant).reshape(())))

    @cached_property
    def _first_row(self) -> dict[int, int]:
        first, total = {}, 0
        for rule in self.written:
            first[rule] = total
            total += self.system.rules[rule].equations
        return first

    @cached_property
    def _row_of_each(self) -> Integers:
        return self.rows.row_of_each()

    @cached_property
    def _by_column(self) -> tuple[Integers, Integers]:
        order = np.argsort(self.rows.columns, kind="stable")
        return order, self.rows.columns[order]

    @cached_property
    def _large(self) -> dict[str, dict[int, list[Term]]]:
        written, terms_by_name = set(self.written), dict[str, dict[int, list[Term]]]()
        for number in self.rules:
            for term in self.system.rules[number].expression.terms if number not in written else ():
                terms_by_name.setdefault(term.parameter.name, {}).setdefault(number, []).append(term)
        return terms_by_name


def equations_at(term: Term, shape: tuple[int, ...], position: int) -> tuple[Integers, Floats]:
    """The rows of an expression of this shape to which a term adds an entry, and the coefficients there.

    The loops are solved for the position one after the other, the longest reach first: a point of a loop counts where
    the loops that follow can still reach the position. Time grows with the number of rows found and the length of
    tables. Returns at most 2**20 rows.
    """
    moving = [k for k, variable in enumerate(term.variables) if _reach(variable) != (0, 0)]
    moving.sort(key=lambda k: _reach(term.variables[k])[0] - _reach(term.variables[k])[1])
    remainder, index = np.array([position - term.offset], np.int64), dict[int, Integers]()
    for at, k in enumerate(moving):
        low = sum(_reach(term.variables[other])[0] for other in moving[at + 1 :])
        high = sum(_reach(term.variables[other])[1] for other in moving[at + 1 :])
        state, points = _points_between(term.variables[k], remainder - high, remainder - low)
        index = {other: points_of[state] for other, points_of in index.items()}
        index[k] = points
        remainder = remainder[state] - _positions_at(term.variables[k].source, points)
    met = remainder == 0
    index = {k: points[met] for k, points in index.items()}
    return _rows_of_points(term, shape, index, int(met.sum()))


def reach(term: Term) -> tuple[int, int]:
    """The lowest and the highest position that a term reads."""
    ends = [_reach(variable) for variable in term.variables]
    return term.offset + sum(low for low, _ in ends), term.offset + sum(high for _, high in ends)


def _rows_of_points(
    term: Term, shape: tuple[int, ...], index: dict[int, Integers], count: int
) -> tuple[Integers, Floats]:
    """Rows and coefficients for given points of the loops that move; the other loops and broadcast axes run freely."""
    free_loops = [k for k in range(len(term.variables)) if k not in index]
    repeated = [axis for axis, start in enumerate(term.start) if start is None]
    sizes = [term.variables[k].size for k in free_loops] + [shape[axis] for axis in repeated]
    many = prod(sizes)
    count = min(count, max(1, MOST_EQUATIONS // max(many, 1)))
    free = np.unravel_index(np.tile(np.arange(min(many, MOST_EQUATIONS)), count), sizes) if sizes else ()
    index = {k: np.repeat(points[:count], min(many, MOST_EQUATIONS)) for k, points in index.items()}
    index |= dict(zip(free_loops, free, strict=False))
    steps = row_major_steps(shape)
    rows = np.full(count * min(many, MOST_EQUATIONS), sum(s * (a or 0) for s, a in zip(steps, term.start, strict=True)))
    for axis, places in zip(repeated, free[len(free_loops) :], strict=True):
        rows = rows + steps[axis] * places
    for k, variable in enumerate(term.variables):
        for axis, positions in variable.outputs:
            rows = rows + steps[axis] * _positions_at(positions, index[k])
    values = np.full(len(rows), term.scalar)
    for factor in term.factors:
        values = values * factor.values[tuple(index[k] for k in factor.variables)]
    return rows[values != 0], values[values != 0]


def _reach(variable: Variable) -> tuple[int, int]:
    """The lowest and the highest number that a loop adds to the position."""
    if isinstance(variable.source, Marked):
        return variable.source.bounds()
    if isinstance(variable.source, int):
        end = variable.source * (variable.size - 1)
        return min(0, end), max(0, end)
    return int(variable.source.min()), int(variable.source.max())


def _points_between(variable: Variable, low: Integers, high: Integers) -> tuple[Integers, Integers]:
    """(state, point) of every point of a loop whose source lies between the bounds of a state."""
    if len(low) == 1:
        if isinstance(variable.source, Marked):
            marks = variable.source.between(int(low[0]), int(high[0]))
            return np.zeros(len(marks), np.int64), np.asarray(marks, np.int64)
        source = table(variable.source, variable.size)
        points = np.flatnonzero((source >= low[0]) & (source <= high[0]))
        return np.zeros(len(points), np.int64), points
    source = table(variable.source, variable.size)
    order = np.argsort(source, kind="stable")
    first, last = np.searchsorted(source[order], low), np.searchsorted(source[order], high, side="right")
    counts = last - first
    state = np.repeat(np.arange(len(low)), counts)
    within = np.arange(len(state)) - np.repeat(np.cumsum(counts) - counts, counts)
    return state, order[first[state] + within]


def _positions_at(positions: Source, points: Integers) -> Integers:
    if isinstance(positions, Marked):
        few = len(points) <= FEW_PLACES
        return np.array([positions.at(int(k)) for k in points], np.int64) if few else positions.table()[points]
    return points * positions if isinstance(positions, int) else positions[points].astype(np.int64)


def small_rules(system: System, rules: Iterable[int]) -> bool:
    """Whether rules are small enough to be written out one by one."""
    return all(max(system.rules[rule].pairs, system.rules[rule].equations) <= SMALL for rule in rules)
