"""Turn rules about named coefficients into the region of a program, for designs whose columns are centred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from affinet.adapters.coefficient_programs import Region
from affinet.adapters.scipy_constraints import linear_constraints
from affinet.analysis.standard_form import other_rules
from affinet.errors import EstimatorError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.constraint import Constraint
from affinet.language.expression import weight
from affinet.language.labels import labelled
from affinet.language.weights import Weights
from affinet.plans.plan import Plan, plan

VIOLATED_BY = 1e-12
"""Violation of a rule, as a share of the largest coefficient, from which on it is more than rounding of the solver."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The weights `coef` and `intercept` of a linear model, as rules see them.

    Without `rows`, coef is a vector with one number per feature and the intercept one number; with them, a matrix with
    a row for each target or class. Rows have names where `row_names` has them.
    """

    features: Sequence[str]
    rows: int | None
    row_names: Sequence[str] | None
    intercept: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix of all coefficients; the intercept is the last column."""
        return self.rows or 1, len(self.features) + self.intercept

    @cached_property
    def weights(self) -> Weights:
        """The symbols that rules are written with."""
        outer = () if self.rows is None else (self.rows,)
        names = () if self.rows is None else (self.row_names,)
        parameters = [labelled("coef", (*outer, len(self.features)), *names, self.features)]
        if self.intercept:
            parameters.append(labelled("intercept", outer, *names))
        return Weights({each.name: weight(each) for each in parameters}, {}, {})

    def monotone_rules(self, directions: Mapping[int, int]) -> list[Constraint]:
        """A sign of the coefficients of each of these features."""
        coef = self.weights["coef"]
        return [
            (coef[..., k] >= 0 if direction > 0 else coef[..., k] <= 0).named(f"monotone in {self.features[k]}")
            for k, direction in directions.items()
        ]


@dataclass(frozen=True, eq=False)
class CoefficientRegion:
    """The coefficients that rules allow, over matrices (rows, features and intercept) flattened row-major.

    In `region` the intercept is that of centred features, `intercept + means · coef`. `lower` and `upper` bound the
    entries as users see them.
    """

    plan: Plan | None
    region: Region
    lower: Floats
    upper: Floats
    shape: tuple[int, int]

    def parts(self) -> Iterator[tuple[Integers, Region]]:
        """Rows of the matrix that rules couple, and the region of their coefficients: these are fitted apart."""
        count, width = self.shape
        region = self.region
        touched = np.abs(region.rows).reshape(len(region.rhs), count, width).max(axis=2, initial=0.0) > 0.0
        graph = sparse.csr_array(touched.T.astype(np.int64) @ touched)
        number, labels = connected_components(graph, directed=False)
        for part in range(number):
            rows = np.flatnonzero(labels == part)
            columns = (rows[:, None] * width + np.arange(width)).ravel()
            about = touched[:, rows].any(axis=1)
            of_A, of_G = about[: len(region.b)], about[len(region.b) :]
            yield (
                rows,
                Region(region.A[of_A][:, columns], region.b[of_A], region.G[of_G][:, columns], region.h[of_G]),
            )

    def uncentred(self, Z: Floats, means: Floats) -> Floats:
        """The matrix with the intercept of the features as they are, within the bounds to the bit."""
        Z = Z.copy()
        if Z.shape[1] > len(means):
            Z[:, -1] -= Z[:, :-1] @ means
        Z = np.clip(Z, self.lower.reshape(self.shape), self.upper.reshape(self.shape))
        return Z if self.plan is None else _onto_rules(self.plan, Z, len(means))

    def uncentred_slopes(self, slopes: Floats, means: Floats) -> Floats:
        """Slopes of a loss along the matrix of `uncentred`, from those along the matrix of centred features."""
        slopes = slopes.copy()
        if slopes.shape[1] > len(means):
            slopes[:, :-1] += slopes[:, -1:] * means
        return slopes


def coefficient_region(coefficients: Coefficients, rules: Sequence[Constraint], means: Floats) -> CoefficientRegion:
    """The region of the coefficients of centred features. Raises InfeasibleError, EstimatorError for other rules."""
    n = coefficients.shape[0] * coefficients.shape[1]
    if not rules:
        nothing = np.zeros((0, n))
        region = Region(nothing, np.zeros(0), nothing, np.zeros(0))
        return CoefficientRegion(None, region, np.full(n, -np.inf), np.full(n, np.inf), coefficients.shape)
    planned = plan(rules)
    for rule in other_rules(planned.system):
        raise EstimatorError(
            f'rule "{rule.name}" is not linear, and the optimum of linear models is found under linear equations and '
            f"inequalities. Leave it out, or train a torch.nn.Linear with affinet.project."
        )
    shapes = {name: symbol.shape for name, symbol in coefficients.weights.items()}
    problem = linear_constraints(planned, shapes)
    order = _order(problem.from_vector(np.arange(problem.size)), coefficients)
    lower, upper = problem.bounds.lb[order], problem.bounds.ub[order]
    unit = np.eye(n)
    below, above = np.isfinite(lower), np.isfinite(upper)
    G = np.concatenate([problem.G.toarray()[:, order], unit[above], -unit[below]])
    h = np.concatenate([problem.h, upper[above], -lower[below]])
    A = problem.A.toarray()[:, order]
    if coefficients.intercept:
        A, G = (_centred(matrix, means, coefficients.shape) for matrix in (A, G))
    return CoefficientRegion(planned, Region(A, problem.b, G, h), lower, upper, coefficients.shape)


def _onto_rules(planned: Plan, Z: Floats, features: int) -> Floats:
    """The matrix, moved to the nearest point of the rules where it misses them by more than rounding."""
    shapes = {parameter.name: parameter.shape for parameter in planned.parameters}
    columns = {"coef": slice(0, features), "intercept": slice(features, None)}
    weights = {name: np.ascontiguousarray(Z[:, columns[name]]).reshape(shape) for name, shape in shapes.items()}
    projector = planned.projector(weights)
    if max(projector.violation(weights).values(), default=0.0) <= VIOLATED_BY * max(1.0, np.abs(Z).max(initial=0.0)):
        return Z
    Z = Z.copy()
    for name, array in projector.project(weights).items():
        Z[:, columns[name]] = array.reshape(len(Z), -1)
    return Z


def _order(positions: Mapping[str, Floats], coefficients: Coefficients) -> Integers:
    """The place in SciPy's vector of each entry of the matrix of all coefficients."""
    matrix = positions["coef"].reshape(coefficients.shape[0], -1)
    if coefficients.intercept:
        matrix = np.concatenate([matrix, positions["intercept"].reshape(-1, 1)], axis=1)
    return np.asarray(matrix.ravel().astype(np.int64))


def _centred(rows: Floats, means: Floats, shape: tuple[int, int]) -> Floats:
    """The rows over coefficients whose intercept is that of centred features."""
    matrices = rows.reshape(len(rows), *shape).copy()
    matrices[:, :, :-1] -= means * matrices[:, :, -1:]
    return matrices.reshape(rows.shape)
