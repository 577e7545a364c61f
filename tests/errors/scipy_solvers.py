"""Rules for `scipy.optimize`, and weights as one vector."""

from __future__ import annotations

import numpy as np

import affinet
import affinet.scipy
from affinet import families
from affinet.errors import (
    ConstantError,
    RuleError,
    ShapeError,
    TooLargeError,
    UnknownWeightError,
    UnsupportedWeightError,
)
from tests.errors.case import case


def plan_of_sums() -> affinet.Plan:
    return affinet.plan([affinet.weights({"w": (2, 3)}).w.sum(dim=1) == 1])


@case(RuleError, "A bound on a sum of magnitudes has no derivatives at 0.", "Train with `affinet.project`.")
def a_sum_of_magnitudes_for_a_solver() -> None:
    w = affinet.weights({"w": (2, 3)}).w
    affinet.scipy.linear_constraints(affinet.plan(families.l1_ball(w, 1.0)))


@case(RuleError, "Bounded singular values have no derivatives where two are equal.", "Train with `affinet.project`.")
def a_spectrum_for_a_solver() -> None:
    w = affinet.weights({"w": (2, 3)}).w
    affinet.scipy.linear_constraints(affinet.plan(families.spectral_norm(w, 1.0)))


@case(RuleError, "A linear program with a nonlinear equation.", "Use `minimize`.")
def a_linear_program_with_a_nonlinear_equation() -> None:
    w = affinet.weights({"w": (3,)}).w
    affinet.scipy.linear_constraints(affinet.plan([w @ w == 1])).linprog()


@case(TooLargeError, "The basis of one sum over very many weights is dense.", "Use `affinet.project`.")
def a_basis_of_solutions_beyond_memory() -> None:
    w = affinet.weights({"w": (50_000,)}).w
    affinet.scipy.linear_constraints(affinet.plan([w.sum() == 1])).null_space()


@case(UnknownWeightError, "A weight of the plan is missing.", "Give all weights that the rules are about.")
def a_vector_without_a_weight() -> None:
    affinet.scipy.to_vector(plan_of_sums(), {"v": np.ones((2, 3))})


@case(ShapeError, "A weight of another shape.", "Give the weights that the rules were made for.")
def a_vector_of_a_transposed_weight() -> None:
    affinet.scipy.to_vector(plan_of_sums(), {"w": np.ones((3, 2))})


@case(ShapeError, "Further weights with another shape of a known one.", "Give the weights of the rules as they are.")
def further_weights_of_another_shape() -> None:
    affinet.scipy.linear_constraints(plan_of_sums(), {"w": (3, 2), "v": (4,)})


@case(UnsupportedWeightError, "Complex numbers.", "Give real numbers.")
def a_vector_of_complex_weights() -> None:
    affinet.scipy.to_vector(plan_of_sums(), {"w": np.ones((2, 3), complex)})


@case(ShapeError, "A vector of other weights.", "Give a vector in the order of `to_vector`.")
def a_vector_of_another_length() -> None:
    affinet.scipy.from_vector(plan_of_sums(), np.ones(5))


@case(UnsupportedWeightError, "Hidden entries would become numbers.", "Fill them.")
def a_vector_of_masked_arrays() -> None:
    affinet.scipy.to_vector(plan_of_sums(), {"w": np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3))})


@case(RuleError, "A layer instead of its weights by name.", "Give a mapping.")
def a_vector_of_what_is_not_a_mapping() -> None:
    affinet.scipy.to_vector(plan_of_sums(), [np.ones((2, 3))])  # type: ignore[arg-type]


@case(RuleError, "Rules that are not planned.", "Plan them first.")
def rules_for_a_solver() -> None:
    affinet.scipy.linear_constraints([affinet.weights({"w": (2,)}).w >= 0])  # type: ignore[arg-type]


@case(ConstantError, "A solver for complex numbers.", "Give real numbers.")
def a_complex_vector() -> None:
    affinet.scipy.from_vector(plan_of_sums(), np.ones(6) * 1j)


@case(ShapeError, "Free numbers of another null space.", "Give a vector of the length that is named.")
def free_numbers_of_another_length() -> None:
    affinet.scipy.linear_constraints(plan_of_sums()).null_space().from_free(np.ones(3))
