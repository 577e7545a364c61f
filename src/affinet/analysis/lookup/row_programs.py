"""Ask linear programs about rows of rules: whether they have a point, leave room, or follow from the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import csgraph

from affinet.analysis.lookup.incidence import Equation, Incidence
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.inequalities.halfspaces import halfspaces
from affinet.system import lapack
from affinet.system.distinct import distinct, ranked
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System
from affinet.system.tolerance import Tolerance

SUPPORT = 1e-9
"""Share of the largest multiplier of a certificate below which a multiplier is zero."""
EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
MOST_PARTS = 200
"""Up to this many connected parts are asked one by one, each in its own scale; more in one linear program."""
NARROW = 1e-6
"""The solver holds rows to less than this share of their size, so that a smaller margin is computed anew."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """Rows of a program whose sum, times `multipliers`, leaves no entry and says `0 <= -gap` (`0 == gap`), gap > 0.

    Rows of inequalities are `<=`, with positive multipliers; the largest multiplier has size 1, for rows as they are
    written.
    """

    rows: Integers
    multipliers: Floats
    gap: float


class Widest(NamedTuple):
    """A point that satisfies all inequalities with the largest `margin`, in units of rows of length one; at most 1.

    `support` are the inequalities that bound the margin, `equations` those that they need for it; `threshold` is the
    size of a margin that may be rounding.
    """

    margin: float
    point: Floats
    support: Integers
    equations: Integers
    threshold: float


@dataclass(frozen=True, eq=False)
class RowProgram:
    """`matrix z == rhs` in the rows marked `is_equation`, `<=` in the others, with rows of length one over `columns`.

    `rows` are the rows as they are written, but for inequalities `>=`, which are negated (`negated`).
    """

    rows: Rows
    is_equation: np.ndarray
    negated: np.ndarray
    columns: Integers
    matrix: sparse.csr_array
    rhs: Floats
    norms: Floats

    @classmethod
    def of(cls, system: System, numbers: Iterable[int]) -> RowProgram:
        """All rows of the numbered rules, balls excepted; inequalities without a bound are left out."""
        rules = [number for number in numbers if system.rules[number].norm is None]
        equations = system.rows([number for number in rules if system.rules[number].sense == "=="])
        sides = halfspaces(system, [number for number in rules if system.rules[number].sense != "=="])
        rows = concatenate([equations, sides])
        senses = np.array([system.rules[rule].sense == ">=" for rule in range(len(system.rules))])
        return cls._over(rows, np.arange(rows.count) < equations.count, senses[rows.rule])

    @classmethod
    def about(cls, system: System, numbers: Iterable[int], parameter: Parameter, positions: Integers) -> RowProgram:
        """The rows of the numbered rules that read one of these entries of a parameter."""
        chosen, columns = set(numbers), (system.layout.start(parameter) + positions).tolist()
        parts = []
        for incidence in (Incidence(system), Incidence(system, inequalities=True)):
            keys = sorted({key for column in columns for key in incidence.of(column) if key[0] in chosen})
            parts.append(_gather([incidence.equation(*key) for key in keys]))
        senses = np.array([rule.sense == ">=" for rule in system.rules])
        equations, sides = parts
        negated = senses[sides.rule]
        turned = np.where(negated, -1.0, 1.0)
        sides = replace(sides, values=sides.values * np.repeat(turned, sides.lengths), rhs=sides.rhs * turned)
        sides = sides.select(np.flatnonzero(sides.rhs < np.inf))
        rows = concatenate([equations, sides])
        return cls._over(rows, np.arange(rows.count) < equations.count, senses[rows.rule])

    @classmethod
    def _over(cls, rows: Rows, is_equation: np.ndarray, negated: np.ndarray) -> RowProgram:
        columns, place = ranked(rows.columns)
        norms = norms_of_runs(rows.values, rows.bounds)
        norms = np.where(norms > 0.0, norms, 1.0)
        values = rows.values / np.repeat(norms, rows.lengths)
        matrix = sparse.csr_array((values, place, rows.bounds), shape=(rows.count, len(columns)))
        return cls(rows, is_equation, negated, columns, matrix, rows.rhs / norms, norms)

    def select(self, numbers: Integers) -> RowProgram:
        """The program of the numbered rows."""
        return self._over(self.rows.select(numbers), self.is_equation[numbers], self.negated[numbers])

    def of_rules(self, rules: Iterable[int]) -> RowProgram:
        """The program of the rows of these rules."""
        return self.select(np.flatnonzero(np.isin(self.rows.rule, list(rules))))

    def as_equations(self, numbers: Integers) -> RowProgram:
        """The program with the numbered inequalities as equations."""
        is_equation = self.is_equation.copy()
        is_equation[numbers] = True
        return replace(self, is_equation=is_equation)

    def components(self) -> list[Integers]:
        """The rows that share entries, directly or through others; those with an inequality and an entry."""
        size = self.rows.count + len(self.columns)
        ends = (self.rows.row_of_each(), self.matrix.indices + self.rows.count)
        graph = sparse.coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(size, size)).tocsr()
        labels = csgraph.connected_components(graph, directed=False)[1].astype(np.int64)[: self.rows.count]
        limited = distinct(labels[~self.is_equation & (self.rows.lengths > 0)])
        chosen = np.flatnonzero(np.isin(labels, limited))
        order = chosen[np.argsort(labels[chosen], kind="stable")]
        return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _gather(equations: list[Equation]) -> Rows:
    lengths = [len(equation.columns) for equation in equations]
    empty = np.zeros(0, np.int64)
    return Rows(
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        np.concatenate([empty, *(equation.columns for equation in equations)]),
        np.concatenate([np.zeros(0), *(equation.values for equation in equations)]),
        np.array([equation.rhs for equation in equations]),
        np.array([equation.rule for equation in equations], np.int64),
        np.array([equation.index for equation in equations], np.int64),
    )


def widest(program: RowProgram, tolerance: Tolerance) -> Widest | None:
    """The largest margin, `max t: A z = b, G z + t <= h, t <= 1`; None where the equations have no point."""
    sides, equations = np.flatnonzero(~program.is_equation), np.flatnonzero(program.is_equation)
    scale = float(np.abs(program.rhs).max(initial=0.0)) or 1.0
    width = len(program.columns)
    result = _solve(program, np.append(np.zeros(width), -1.0), sides, equations, scale, with_margin=True)
    if result.status != 0:
        return None
    multipliers = -np.asarray(result.ineqlin.marginals)
    support = sides[multipliers > SUPPORT * multipliers.max(initial=0.0)]
    margin, size = -float(result.fun) * scale, scale
    used: Integers = equations
    if margin <= NARROW * scale:
        used = _supporting_equations(program, support, equations, np.asarray(result.eqlin.marginals))
        margin, size = _margin(program, np.concatenate([support, used]), len(support))
    threshold = tolerance.consistency(max(width, 1)) * size
    return Widest(margin, np.asarray(result.x[:-1]) * scale, support, used, threshold)


def contradiction(program: RowProgram, tolerance: Tolerance) -> Certificate | None:
    """An irreducible set of rows without a point, given equations that have one; None where all rows have a point.

    The solver's multipliers are those of a vertex of `{y: yᵀ rows = 0, Σ y = 1}`, whose rows are irreducible (Gleeson &
    Ryan, ORSA J. Computing 2, 1990).
    """
    empty = np.flatnonzero(~program.is_equation & (program.rows.lengths == 0))
    below = -tolerance.consistency(8) * program.rows.magnitude[empty]
    if (violated := empty[program.rows.rhs[empty] < below]).size:
        return Certificate(violated[:1], np.ones(1), -float(program.rows.rhs[violated[0]]))
    parts = program.components()
    for rows in parts if len(parts) <= MOST_PARTS else [np.arange(program.rows.count)]:
        part = program.select(rows)
        wide = widest(part, tolerance)
        if wide is not None and wide.margin < -wide.threshold:
            return _certificate(part, wide, rows)
    return None


def hold_as_equations(program: RowProgram, tolerance: Tolerance) -> tuple[Integers, Widest | None]:
    """The inequalities of a connected program that hold with equality wherever it has points, and the room of the rest.

    Rounds: with some of them as equations, others may have no room either.
    """
    as_equations = np.zeros(program.rows.count, bool)
    wide = widest(program, tolerance)
    while wide is not None and wide.margin <= wide.threshold and len(wide.support):
        as_equations[wide.support] = True
        program = program.as_equations(wide.support)
        wide = widest(program, tolerance) if not program.is_equation.all() else None
    return np.flatnonzero(as_equations), wide


def follows(program: RowProgram, number: int, tolerance: Tolerance) -> bool:
    """Whether an inequality holds wherever the other rows do."""
    other_rows = np.arange(program.rows.count) != number
    sides, equations = np.flatnonzero(~program.is_equation & other_rows), np.flatnonzero(program.is_equation)
    scale = float(np.abs(program.rhs).max(initial=0.0)) or 1.0
    result = _solve(program, -program.matrix[[number]].toarray()[0], sides, equations, scale, with_margin=False)
    if result.status != 0:
        return False
    allowed = tolerance.consistency(len(program.columns)) + EXACT["primal_feasibility_tolerance"]
    return bool(-float(result.fun) * scale <= program.rhs[number] + allowed * scale)


def needed(program: RowProgram, point: Floats, rays: int, random: np.random.Generator) -> np.ndarray:
    """Inequalities that do not follow from the others: those that a ray from an inner point meets first, and alone."""
    matrix, equations = program.matrix.toarray(), program.matrix[np.flatnonzero(program.is_equation)].toarray()
    directions = random.standard_normal((rays, matrix.shape[1]))
    if len(equations):
        basis = lapack.svd(equations, full_matrices=False)
        span = basis[2][basis[1] > 1e-9]
        directions -= directions @ span.T @ span
    sides = np.flatnonzero(~program.is_equation)
    slack, slope = program.rhs[sides] - matrix[sides] @ point, directions @ matrix[sides].T
    distance = np.divide(slack, slope, out=np.full(slope.shape, np.inf), where=slope > 1e-12)
    first = distance.argmin(axis=1)
    nearest = distance[np.arange(rays), first]
    distance[np.arange(rays), first] = np.inf
    single_hit = np.isfinite(nearest) & (distance.min(axis=1, initial=np.inf) > nearest * (1.0 + 1e-9))
    hit = np.zeros(program.rows.count, bool)
    hit[sides[first[single_hit]]] = True
    return hit


def _solve(
    program: RowProgram, goal: Floats, sides: Integers, equations: Integers, scale: float, *, with_margin: bool
) -> OptimizeResult:
    """`min goal · (z, t)`, with right-hand sides divided by `scale`."""
    above, exact = program.matrix[sides], program.matrix[equations]
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * len(program.columns)
    if with_margin:
        above = sparse.csr_array(sparse.hstack([above, np.ones((len(sides), 1))]))
        exact = sparse.csr_array(sparse.hstack([exact, np.zeros((len(equations), 1))]))
        bounds.append((None, 1.0))
    return linprog(
        goal, A_ub=above if len(sides) else None, b_ub=program.rhs[sides] / scale if len(sides) else None,
        A_eq=exact if len(equations) else None, b_eq=program.rhs[equations] / scale if len(equations) else None,
        bounds=bounds, method="highs-ds", options=EXACT,
    )  # fmt: skip


def _margin(program: RowProgram, rows: Integers, sides: int) -> tuple[float, float]:
    """`yᵀ rhs` for the multipliers `yᵀ rows = 0`, the first `sides` summing to one, and the magnitude of its terms."""
    multipliers = _multipliers(program, rows, sides)[0]
    terms = multipliers * program.rhs[rows]
    magnitudes = program.rows.magnitude[rows] / program.norms[rows]
    return float(terms.sum()), float(np.abs(multipliers) @ magnitudes)


def _multipliers(program: RowProgram, rows: Integers, sides: int) -> tuple[Floats, float]:
    """The multipliers, and how far they are from leaving no entry."""
    stacked = program.matrix[rows].toarray()
    summed = (np.arange(len(rows)) < sides).astype(np.float64)
    target = np.append(np.zeros(stacked.shape[1]), 1.0)
    system = np.vstack([stacked.T, summed])
    solved: Floats = lapack.lstsq(system, target, rcond=None)[0]
    solved[np.abs(solved) <= SUPPORT * np.abs(solved).max()] = 0.0  # rounding, which would meet large numbers
    return solved, float(np.linalg.norm(system @ solved - target))


def _supporting_equations(program: RowProgram, support: Integers, equations: Integers, marginals: Floats) -> Integers:
    """The equations of a certificate with these inequalities: those of the solver's vertex, all where it gives none."""
    used = equations[np.abs(marginals) > SUPPORT * np.abs(marginals).max(initial=0.0)]
    distance = _multipliers(program, np.concatenate([support, used]), len(support))[1]
    return used if distance <= SUPPORT else equations


def _certificate(program: RowProgram, wide: Widest, numbers: Integers) -> Certificate:
    """The certificate of a program, in the numbers that its rows have in a larger one."""
    rows = np.concatenate([wide.support, wide.equations])
    multipliers = _multipliers(program, rows, len(wide.support))[0]
    used = np.abs(multipliers) > SUPPORT * np.abs(multipliers).max()
    rows, multipliers = rows[used], multipliers[used] / program.norms[rows[used]]
    order = np.argsort(rows)
    rows, multipliers = rows[order], multipliers[order] / np.abs(multipliers).max()
    return Certificate(numbers[rows], multipliers, -float(multipliers @ program.rows.rhs[rows]))
