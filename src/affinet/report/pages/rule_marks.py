"""Find what rules ask of each entry that is drawn: which are tied, fixed, bounded, or in an equation or a sum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.analysis.lookup.incidence import Equation, Incidence, equations_at
from affinet.language.calculus.terms import Parameter
from affinet.language.nodes import weights_of
from affinet.report.pages.contents import KINDS, Panel, Picture, Total
from affinet.report.pages.sampling import Sample
from affinet.system.rows import Rows
from affinet.system.system import System

MOST_RULES = 6
"""Rules of a weight that are named under its picture."""
MOST_LOOKED_UP = 2**15
"""Equations of large rules that are looked up for one picture, one by one."""
FREE, BOUNDED, EQUATION, TIED, FIXED = range(len(KINDS))


@dataclass
class _Marks:
    """What was found of the entries of a sample, in its shape; totals by the number of the row or column."""

    kinds: np.ndarray
    groups: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    row_totals: dict[int, Total] = field(default_factory=dict)
    column_totals: dict[int, Total] = field(default_factory=dict)


class RuleReader:
    """Looks up the rules of entries. Classes of ties through small rules are found once, for all weights."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._incidences = Incidence(system), Incidence(system, inequalities=True)
        self._cache: dict[tuple[int, int], Equation] = {}
        self._classes = _TieClasses.of(self._incidences[0].rows)
        self._readers: dict[str, list[int]] = {}
        for number, rule in enumerate(system.every):
            for name in {weight.name for weight in weights_of([rule.expression.affine])}:
                self._readers.setdefault(name, []).append(number)

    def picture(self, parameter: Parameter, sample: Sample, panels: tuple[Panel, ...], spacing: float) -> Picture:
        """The picture of a weight. `spacing` is that of its dtype at 1: an entry is at a bound to one rounding."""
        marks = self._marks(parameter, sample, panels[0].values, spacing)
        names = [self.system.rule(number).name for number in self._readers.get(parameter.name, ())]
        return Picture(
            parameter.name,
            parameter.shape,
            sample.size,
            sample.rows,
            sample.columns,
            panels,
            marks.kinds,
            _numbered(marks.groups),
            marks.upper,
            marks.lower,
            tuple(marks.row_totals.get(int(row)) for row in sample.rows),
            tuple(marks.column_totals.get(int(column)) for column in sample.columns),
            tuple(names[:MOST_RULES]),
            len(names),
        )

    def _marks(self, parameter: Parameter, sample: Sample, values: np.ndarray, spacing: float) -> _Marks:
        shape, start = sample.positions.shape, self.system.layout.start(parameter)
        marks = _Marks(np.zeros(shape, np.int8), np.full(shape, -1), np.zeros(shape, bool), np.zeros(shape, bool))
        looked_up = 0
        for place, position in np.ndenumerate(sample.positions):
            column = start + int(position)
            for incidence in self._incidences:
                if not incidence.rules or looked_up > MOST_LOOKED_UP:
                    continue
                for rule, index in incidence.of(column):
                    looked_up += rule not in incidence.written
                    equation = self._equation(incidence, rule, index)
                    self._mark(marks, place, equation, (parameter, sample), float(values[place]), spacing)
        self._mark_norms(marks, parameter, sample)
        return marks

    def _equation(self, incidence: Incidence, rule: int, index: int) -> Equation:
        if (rule, index) not in self._cache:
            self._cache[rule, index] = incidence.equation(rule, index)
        return self._cache[rule, index]

    def _mark(
        self,
        marks: _Marks,
        place: tuple[int, ...],
        equation: Equation,
        weight: tuple[Parameter, Sample],
        value: float,
        spacing: float,
    ) -> None:
        sense, count = self.system.rules[equation.rule].sense, len(equation.columns)
        if sense != "==" and count == 1:
            _raise_kind(marks, place, BOUNDED)
            bound = equation.rhs / float(equation.values[0])
            if np.isfinite(bound) and abs(value - bound) <= spacing * max(abs(bound), abs(value)):
                side = marks.upper if (sense == "<=") == (equation.values[0] > 0) else marks.lower
                side[place] = True
        elif count == 1:
            _raise_kind(marks, place, FIXED)
        elif count == 2 and sense == "==":
            _raise_kind(marks, place, TIED)
            marks.groups[place] = self._classes.number(int(equation.columns[0]))
            self._mark_total(marks, equation, weight, sense)
        else:
            _raise_kind(marks, place, EQUATION)
            self._mark_total(marks, equation, weight, sense)

    def _mark_total(self, marks: _Marks, equation: Equation, weight: tuple[Parameter, Sample], sense: str) -> None:
        """Mark a row or column whose whole sum is in an equation or inequality."""
        (parameter, sample), coefficient = weight, float(equation.values[0])
        if not np.isfinite(equation.rhs) or not (equation.values == coefficient).all():
            return
        positions = equation.columns - self.system.layout.start(parameter)
        height, width = sample.size
        if positions[0] < 0 or positions[-1] >= height * width:
            return
        total = Total(sense, equation.rhs / coefficient)
        if len(positions) == width and positions[-1] - positions[0] == width - 1 and positions[0] % width == 0:
            marks.row_totals[int(positions[0]) // width] = total
        elif len(positions) == height and (positions == positions[0] + width * np.arange(height)).all():
            marks.column_totals[int(positions[0])] = total

    def _mark_norms(self, marks: _Marks, parameter: Parameter, sample: Sample) -> None:
        """Mark entries of bounded vectors and matrices, and all entries of weights in other nonlinear rules."""
        for rule in self.system.every:
            if rule.norm is not None:
                terms = [term for term in rule.expression.terms if term.parameter == parameter]
                for place, position in np.ndenumerate(sample.positions) if terms else ():
                    if any(len(equations_at(term, rule.expression.shape, int(position))[0]) for term in terms):
                        _raise_kind(marks, place, EQUATION)
            elif rule.curved and parameter in weights_of([rule.expression.affine]):
                np.maximum(marks.kinds, EQUATION, out=marks.kinds)


def _raise_kind(marks: _Marks, place: tuple[int, ...], kind: int) -> None:
    marks.kinds[place] = max(int(marks.kinds[place]), kind)


@dataclass(frozen=True, eq=False)
class _TieClasses:
    """Classes of columns that equations of two entries tie to each other, such as `a == 2 * b`; `columns` rise."""

    columns: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> _TieClasses:
        """The classes that the ties among some rows make."""
        first = rows.bounds[np.flatnonzero(rows.lengths == 2)]
        ends = np.concatenate([rows.columns[first], rows.columns[first + 1]])
        columns, places = np.unique(ends, return_inverse=True)
        links = places[: len(first)], places[len(first) :]
        graph = sparse.coo_array((np.ones(len(first), np.int8), links), shape=(len(columns), len(columns)))
        return cls(columns, csgraph.connected_components(graph.tocsr(), directed=False)[1])

    def number(self, column: int) -> int:
        """The class of a column, or a number of its own where a large rule ties it."""
        place = int(np.searchsorted(self.columns, column))
        if place < len(self.columns) and self.columns[place] == column:
            return int(self.classes[place])
        return len(self.columns) + column


def _numbered(groups: np.ndarray) -> np.ndarray:
    """Classes numbered in the order in which they are first met, -1 where an entry has no class."""
    numbers: dict[int, int] = {}
    flat = [numbers.setdefault(int(g), len(numbers)) if g >= 0 else -1 for g in groups.ravel()]
    return np.array(flat, np.int64).reshape(groups.shape)
