"""Make of a plan what the solvers of scipy.optimize take: matrices, bounds, functions, and a basis of the solutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint

from affinet.adapters.smooth_constraints import Constraints, smooth_constraints
from affinet.adapters.weight_vector import WeightVector
from affinet.analysis.null_space import NullSpace, null_space
from affinet.analysis.standard_form import StandardForm, independent_equations, other_rules, standard_form
from affinet.errors import RuleError
from affinet.language.calculus.terms import Floats
from affinet.plans.plan import Plan

MOST_DENSE = 2**20
"""Numbers of a matrix that is given to solvers as an array of NumPy: 8 MiB."""


@dataclass(frozen=True, eq=False)
class PlanConstraints:
    """The rules of a plan over one vector x: `A x = b`, `G x <= h`, `bounds`, and nonlinear constraints.

    Rows of A are independent where planning knows their rank: equations that follow from others are left out, since
    solvers fail on them. Inequalities of single entries are `bounds`, equations of single entries are rows of A.
    `A` and `G` are scipy.sparse arrays with one column per number of x.
    """

    A: sparse.csr_array
    b: Floats
    G: sparse.csr_array
    h: Floats
    bounds: Bounds
    nonlinear: Constraints
    order: WeightVector = field(repr=False)
    form: StandardForm = field(repr=False)

    @cached_property
    def constraints(self) -> list[LinearConstraint | NonlinearConstraint]:
        """For `minimize(…, constraints=…)` and `milp`: equations, then inequalities, then nonlinear constraints.

        Their matrices are arrays of NumPy up to 2²⁰ numbers, and sparse beyond: COBYLA and COBYQA take no sparse ones.
        """
        linear = []
        if len(self.b):
            linear.append(LinearConstraint(self.A, self.b, self.b))
        if len(self.h):
            linear.append(LinearConstraint(self.G, np.full(len(self.h), -np.inf), self.h))
        return _dense_if_small([*linear, *self.nonlinear], self.size)

    @property
    def size(self) -> int:
        """The length of x."""
        return self.order.size

    def to_vector(self, weights: Mapping[str, Any]) -> Floats:
        """The x of weights by name; gradients have the same order."""
        return self.order.to_vector(weights)

    def from_vector(self, x: Any) -> dict[str, Floats]:
        """Name → a new float64 array, for an x."""
        return self.order.from_vector(x)

    def linprog(self) -> dict[str, Any]:
        """The keyword arguments of `scipy.optimize.linprog`. Raises RuleError for rules that are not linear."""
        if self.nonlinear:
            rule = other_rules(self.order.plan.system)[0]
            raise RuleError(
                f'rule "{rule.name}" is not linear, and linprog takes linear rules. Solve with minimize(f, x0, '
                f"constraints=problem.constraints, bounds=problem.bounds), or leave the rule out."
            )
        return {
            "A_eq": self.A,
            "b_eq": self.b,
            "A_ub": self.G,
            "b_ub": self.h,
            "bounds": np.stack([self.bounds.lb, self.bounds.ub], axis=1),
        }

    def null_space(self) -> NullSpace:
        """The solutions of A x = b as `point + basis @ v`, for a `minimize` over v without equations.

        Inequalities and bounds become those of `reduced_constraints`. Raises TooLargeError where the basis takes too
        much memory.
        """
        rows = replace(self.form.equations, columns=self.order.columns[self.form.equations.columns])
        return null_space(rows, self.size, self.order.plan.system)

    def reduced_constraints(self, space: NullSpace) -> list[LinearConstraint | NonlinearConstraint]:
        """The inequalities, bounds and nonlinear constraints of x = point + basis @ v, as constraints of v."""
        bounded = np.flatnonzero(np.isfinite(self.bounds.lb) | np.isfinite(self.bounds.ub))
        parts = [
            (self.G, np.full(len(self.h), -np.inf), self.h),
            (sparse.eye_array(self.size, format="csr")[bounded], self.bounds.lb[bounded], self.bounds.ub[bounded]),
        ]
        linear = [
            LinearConstraint(sparse.csr_array(matrix @ space.basis), lower - shift, upper - shift)
            for matrix, lower, upper in parts
            for shift in [matrix @ space.point]
            if len(lower)
        ]
        reduced = [*linear, *(_reduced(constraint, space) for constraint in self.nonlinear)]
        return _dense_if_small(reduced, space.free)


def linear_constraints(plan: Plan, weights: Mapping[str, Any] | None = None) -> PlanConstraints:
    """The rules of a plan for scipy.optimize, over the vector of `to_vector`.

    x holds the weights that the rules read, by name, each flattened row-major. With `weights`, a mapping of names to
    shapes or arrays, it also holds the others in the mapping, about which there are no rules. Nonlinear equations and
    Euclidean balls become a NonlinearConstraint with derivatives.
    Raises RuleError for a bound on a sum of magnitudes, which has no derivatives, ShapeError for weights of other
    shapes than the plan's, TooLargeError where a rule has too many coefficients to be written out.
    """
    order = WeightVector.of(plan, weights)
    form = standard_form(plan.system)
    equations = independent_equations(form.equations, plan.system)
    A, G = (_spread(rows.matrix(form.width), order) for rows in (equations, form.inequalities))
    lower, upper = np.full(order.size, -np.inf), np.full(order.size, np.inf)
    lower[order.columns], upper[order.columns] = form.lower, form.upper
    nonlinear = smooth_constraints(plan.system, order)
    return PlanConstraints(
        A, equations.rhs + 0.0, G, form.inequalities.rhs + 0.0, Bounds(lower, upper), nonlinear, order, form
    )


def _dense_if_small(
    constraints: list[LinearConstraint | NonlinearConstraint], width: int
) -> list[LinearConstraint | NonlinearConstraint]:
    """Constraints over vectors of `width` numbers; trust-constr takes matrices that are all sparse or all dense."""
    if sum(np.size(constraint.ub) for constraint in constraints) * width > MOST_DENSE:
        return constraints
    return list(map(_dense, constraints))


def _dense(constraint: LinearConstraint | NonlinearConstraint) -> LinearConstraint | NonlinearConstraint:
    if isinstance(constraint, LinearConstraint):
        return LinearConstraint(constraint.A.toarray(), constraint.lb, constraint.ub)
    derivatives = constraint.jac
    return NonlinearConstraint(
        constraint.fun, constraint.lb, constraint.ub, lambda v: sparse.csr_array(derivatives(v)).toarray()
    )


def _spread(matrix: sparse.csr_array, order: WeightVector) -> sparse.csr_array:
    """A matrix over the plan's entries as one over all numbers of x."""
    moved = (matrix.data, order.columns[matrix.indices], matrix.indptr)
    return sparse.csr_array(moved, shape=(matrix.shape[0], order.size))


def _reduced(constraint: NonlinearConstraint, space: NullSpace) -> NonlinearConstraint:
    def values(v: Floats) -> Floats:
        return np.asarray(constraint.fun(space.from_free(v)))

    def derivatives(v: Floats) -> sparse.csr_array:
        return sparse.csr_array(constraint.jac(space.from_free(v)) @ space.basis)

    return NonlinearConstraint(values, constraint.lb, constraint.ub, derivatives)
