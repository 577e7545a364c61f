"""Write the linear rules of a system as `A w = b`, `G w <= h` and bounds of single entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.combinations import independent
from affinet.planning.elimination.components import Giant, split
from affinet.planning.elimination.peeling import independent_rows
from affinet.planning.inequalities.halfspaces import halfspaces
from affinet.system import lapack
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows
from affinet.system.system import Rule, System


@dataclass(frozen=True, eq=False)
class StandardForm:
    """`A w = b`, `G w <= h`, `lower <= w <= upper`; w are the entries of the layout, `width` numbers.

    `equations` holds A and b, `inequalities` holds G and h. No row is without an entry, and no row of `inequalities`
    has a single entry: these are the bounds, infinite for entries without a bound.
    """

    equations: Rows
    inequalities: Rows
    lower: Floats
    upper: Floats

    @property
    def width(self) -> int:
        return len(self.lower)


def standard_form(system: System) -> StandardForm:
    """The standard form of the rules that are linear, without the others.

    Raises TooLargeError where a rule has too many coefficients to be written out.
    """
    equations = _without_zeros(system.rows(system.equation_rules))
    linear = [number for number in system.inequality_rules if system.rules[number].norm is None]
    rows = _without_zeros(halfspaces(system, linear))
    lower, upper = np.full(system.layout.size, -np.inf), np.full(system.layout.size, np.inf)
    single = np.flatnonzero(rows.lengths == 1)
    entry, coefficient = rows.columns[rows.bounds[:-1][single]], rows.values[rows.bounds[:-1][single]]
    value = rows.rhs[single] / coefficient + 0.0  # a bound of -0 is written as 0
    above = coefficient > 0.0
    np.minimum.at(upper, entry[above], value[above])
    np.maximum.at(lower, entry[~above], value[~above])
    # The plan has found the rules consistent, so that bounds in the wrong order differ by rounding.
    lower = np.minimum(lower, upper)
    return StandardForm(equations, rows.select(np.flatnonzero(rows.lengths > 1)), lower, upper)


def other_rules(system: System) -> list[Rule]:
    """The rules that a standard form leaves out: those that are not linear."""
    return [rule for rule in system.every if rule.norm is not None or rule.curved]


def independent_equations(rows: Rows, system: System) -> Rows:
    """Rows that span the others, by components; all rows of a component whose rank is not known."""
    chosen: list[Integers] = [np.zeros(0, np.int64)]
    for component in split(rows, rows.magnitude, system.limits, [rule.name for rule in system.every]):
        if isinstance(component, Giant):
            matrix = _equilibrated(component.matrix)
            basis = independent_rows(matrix, component.rhs, component.terms, system.tolerance, system.limits)
            chosen.append(component.rows[basis.rows])
            continue
        full = _full_rank(component.matrix, system.tolerance.rank)
        chosen.append(component.rows[full].ravel())
        for matrix, numbers in zip(component.matrix[~full], component.rows[~full], strict=True):
            chosen.append(numbers[independent(matrix, system.tolerance)])
    return rows.select(np.sort(np.concatenate(chosen)))


def _full_rank(matrix: Floats, smallest: Callable[[int, int], float]) -> np.ndarray:
    """Which systems of a batch (k, r, n) have independent rows."""
    _, r, n = matrix.shape
    if r > n:
        return np.zeros(len(matrix), bool)
    if r == 1:
        return np.ones(len(matrix), bool)
    values = lapack.singular_values(matrix / np.linalg.norm(matrix, axis=2, keepdims=True))
    return np.asarray(values[:, -1] > smallest(r, n) * values[:, 0])


def _equilibrated(matrix: sparse.csr_array) -> sparse.csr_array:
    norms = norms_of_runs(matrix.data, matrix.indptr)
    return sparse.csr_array(sparse.diags_array(1.0 / norms) @ matrix)


def _without_zeros(rows: Rows) -> Rows:
    """The rows without coefficients that are zero, and without rows of no entry."""
    nonzero = rows.values != 0.0
    if not nonzero.all():
        bounds = np.concatenate([[0], np.cumsum(nonzero)])[rows.bounds]
        rows = replace(rows, bounds=bounds, columns=rows.columns[nonzero], values=rows.values[nonzero])
    return rows.select(np.flatnonzero(rows.lengths > 0))
