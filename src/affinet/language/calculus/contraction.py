"""Loop variables that only tie coefficients together, summed out while that takes no more memory than it frees."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.terms import Factor, Floats, Term, spanned_bytes


def contract(term: Term) -> Term:
    """The same term without the variables that read nothing and move along no axis, where that is cheap.

    `A @ (B @ w)` so becomes `(A B) @ w` for square matrices, while a product of two thin factors, and two running
    sums (of n + n numbers each), stay apart.
    """
    for k in reversed(range(len(term.variables))):
        variable = term.variables[k]
        if not variable.outputs and isinstance(variable.source, int) and variable.source == 0:
            term = _summed_out(term, k)
    return term


def _summed_out(term: Term, k: int) -> Term:
    holding = [factor for factor in term.factors if k in factor.variables]
    if not holding:
        return _without(replace(term, scalar=term.scalar * term.variables[k].size), k)
    left = sorted({q for factor in holding for q in factor.variables if q != k})
    size = prod(term.variables[q].size for q in left)
    if len(holding) > 1 and (len(holding) > 2 or 8 * size > sum(spanned_bytes(factor.values) for factor in holding)):
        return term
    values = _summed(holding, left, k)
    others = [factor for factor in term.factors if k not in factor.variables]
    if not left:
        return _without(replace(term, scalar=term.scalar * float(values), factors=tuple(others)), k)
    return _without(replace(term, factors=(*others, Factor(tuple(left), values))), k)


def _summed(factors: list[Factor], left: list[int], k: int) -> Floats:
    labels = {q: label for label, q in enumerate((*left, k))}
    operands: list[object] = []
    for factor in factors:
        operands += [factor.values, [labels[q] for q in factor.variables]]
    summed: Floats = np.einsum(*operands, [labels[q] for q in left], optimize=True)  # type: ignore[call-overload]
    return summed


def _without(term: Term, k: int) -> Term:
    factors = tuple(Factor(tuple(q - (q > k) for q in f.variables), f.values) for f in term.factors)
    return replace(term, variables=(*term.variables[:k], *term.variables[k + 1 :]), factors=factors)
