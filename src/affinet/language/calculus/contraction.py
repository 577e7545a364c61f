"""Sum out loop variables that only join coefficients, as long as the result takes no more memory than they do."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.terms import Factor, Floats, Term, spanned_bytes


def contract(term: Term) -> Term:
    """Sum out the variables that read nothing and move along no axis, where that is cheap.

    `A @ (B @ w)` becomes `(A B) @ w` for square matrices. A product of two thin factors is not multiplied out, nor
    are two running sums (of n + n numbers each).
    """
    for k in reversed(range(len(term.variables))):
        variable = term.variables[k]
        if not variable.outputs and isinstance(variable.source, int) and variable.source == 0:
            term = _sum_out(term, k)
    return term


def _sum_out(term: Term, k: int) -> Term:
    factors_with_k = [factor for factor in term.factors if k in factor.variables]
    if not factors_with_k:
        return _remove_variable(replace(term, scalar=term.scalar * term.variables[k].size), k)
    remaining = sorted({q for factor in factors_with_k for q in factor.variables if q != k})
    size = prod(term.variables[q].size for q in remaining)
    if len(factors_with_k) > 1 and (
        len(factors_with_k) > 2 or 8 * size > sum(spanned_bytes(factor.values) for factor in factors_with_k)
    ):
        return term
    values = _multiply_and_sum(factors_with_k, remaining, k)
    other_factors = [factor for factor in term.factors if k not in factor.variables]
    if not remaining:
        return _remove_variable(replace(term, scalar=term.scalar * float(values), factors=tuple(other_factors)), k)
    return _remove_variable(replace(term, factors=(*other_factors, Factor(tuple(remaining), values))), k)


def _multiply_and_sum(factors: list[Factor], remaining: list[int], k: int) -> Floats:
    labels = {q: label for label, q in enumerate((*remaining, k))}
    operands: list[object] = []
    for factor in factors:
        operands += [factor.values, [labels[q] for q in factor.variables]]
    product: Floats = np.einsum(*operands, [labels[q] for q in remaining], optimize=True)  # type: ignore[call-overload]
    return product


def _remove_variable(term: Term, k: int) -> Term:
    factors = tuple(Factor(tuple(q - (q > k) for q in f.variables), f.values) for f in term.factors)
    return replace(term, variables=(*term.variables[:k], *term.variables[k + 1 :]), factors=factors)
