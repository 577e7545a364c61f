"""Write nonlinear rules and Euclidean balls as functions with derivatives, for scipy.optimize."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.optimize import NonlinearConstraint

from affinet.adapters.weight_vector import WeightVector
from affinet.errors import RuleError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.evaluation import evaluate
from affinet.language.sense import Sense, Spectrum
from affinet.planning.curved.linearizing import derivatives_at
from affinet.system.norms import norms_of_runs
from affinet.system.system import Rule, System, coefficients

Constraints: TypeAlias = Sequence[NonlinearConstraint]

SIDES: Mapping[Sense, tuple[float, float]] = {"==": (0.0, 0.0), "<=": (-np.inf, 0.0), ">=": (0.0, np.inf)}
"""What the left side minus the right side of a rule may be."""
EQUAL = 1e-10
"""Two equations, scaled to derivatives of norm one, that differ by less at a random point are one equation."""


def smooth_constraints(system: System, order: WeightVector) -> Constraints:
    """The rules that are not linear, over the vector of `order`.

    Raises RuleError for sums of magnitudes, which have no derivatives where a weight is zero.
    """
    balls = [rule for rule in system.rules if rule.norm is not None]
    for rule in balls:
        if isinstance(rule.norm, Spectrum):
            raise RuleError(
                f'rule "{rule.name}" bounds a spectrum, which has no derivatives where two values are equal, and the '
                f"solvers of scipy.optimize need them. Train with affinet.project."
            )
        if rule.norm == 1:
            raise RuleError(
                f'rule "{rule.name}" bounds a sum of magnitudes, which has no derivatives where a weight is zero, and '
                f"the solvers of scipy.optimize need them. Train with affinet.project, or write each weight as a "
                f"difference p - q of two weights that are not negative and bound (p + q).sum()."
            )
    by_sense = {sense: [k for k in system.curved_rules if system.rule(k).sense == sense] for sense in SIDES}
    curved = [_curved_constraint(system, numbers, order, sense) for sense, numbers in by_sense.items() if numbers]
    return [*curved, *(_ball_constraint(system, rule, order) for rule in balls)]


def _curved_constraint(
    system: System, numbers: Sequence[int], order: WeightVector, sense: Sense
) -> NonlinearConstraint:
    """The numbered rules, all of one sense; inequalities whose bound is infinite are left out."""
    rules = [system.rule(number) for number in numbers]

    def every_value(x: Floats) -> Floats:
        weights = order.from_vector(x)
        return np.concatenate([evaluate(rule.expression, weights).reshape(-1) for rule in rules])

    def every_derivative(x: Floats) -> sparse.csr_array:
        rows = derivatives_at(system, numbers, order.from_vector(x))
        moved = (rows.data, order.columns[rows.indices], rows.indptr)
        return sparse.csr_array(moved, shape=(rows.shape[0], order.size))

    if sense == "==":
        chosen = _distinct_equations(every_value, every_derivative, order.size)
    else:
        bounds = [np.broadcast_to(rule.expression.constant, rule.shape).reshape(-1) for rule in rules]
        chosen = np.flatnonzero(np.isfinite(np.concatenate(bounds)))

    def values(x: Floats) -> Floats:
        return np.asarray(every_value(x)[chosen])

    def derivatives(x: Floats) -> sparse.csr_array:
        return sparse.csr_array(every_derivative(x)[chosen])

    return NonlinearConstraint(values, *SIDES[sense], derivatives)


def _distinct_equations(
    values: Callable[[Floats], Floats], derivatives: Callable[[Floats], sparse.csr_array], size: int
) -> Integers:
    """The numbers of equations none of which is another or its opposite: `W.T @ W == I` has most equations twice.

    Solvers fail on equal equations. Each is compared by its value and by two products of its derivatives with random
    vectors, at a random point, so that two different equations agree with probability 0.
    """
    draw = np.random.default_rng(0)
    point = draw.uniform(0.5, 1.5, size)
    with np.errstate(all="ignore"):
        rows, value = derivatives(point), values(point)
        norms = norms_of_runs(rows.data, rows.indptr)
        marks = np.stack([*(rows @ draw.standard_normal((size, 2))).T, value], axis=1) / norms[:, None]
    finite = np.asarray(np.isfinite(marks).all(axis=1))
    marks *= np.where(marks[:, :1] < 0.0, -1.0, 1.0)
    ordered = np.lexsort((np.arange(len(marks)), np.where(finite, marks[:, 0], np.inf)))
    gaps = np.abs(np.diff(marks[ordered], axis=0)).max(axis=1)
    repeats = finite[ordered[1:]] & (gaps <= EQUAL * (1.0 + np.abs(marks[ordered[1:], 2])))
    return np.sort(ordered[np.concatenate([[True], ~repeats])])


def _ball_constraint(system: System, rule: Rule, order: WeightVector) -> NonlinearConstraint:
    """The squared length of each vector of a ball, at most the square of its radius."""
    shape = rule.expression.shape
    rows = coefficients(system.layout, (0,), (shape,), (rule.expression.terms,), system.tolerance.cancellation)
    matrix = sparse.csr_array((rows.values, order.columns[rows.columns], rows.bounds), shape=(rows.count, order.size))
    cells = np.repeat(np.arange(rule.equations), shape[-1])
    added = np.ones(len(cells))
    sums = sparse.csr_array((added, (cells, np.arange(len(cells)))), shape=(rule.equations, len(cells)))
    constant = np.broadcast_to(rule.expression.constant, shape).reshape(-1).astype(np.float64)
    squares = np.square(np.broadcast_to(rule.radius, rule.shape).reshape(-1).astype(np.float64))

    def values(x: Floats) -> Floats:
        return np.asarray(sums @ np.square(matrix @ x + constant))

    def derivatives(x: Floats) -> sparse.csr_array:
        return sparse.csr_array(sums @ (sparse.diags_array(2.0 * (matrix @ x + constant)) @ matrix))

    return NonlinearConstraint(values, -np.inf, squares, derivatives)
