"""Add, subtract and negate expressions; multiply and divide them by constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from affinet.errors import ConstantError
from affinet.language.affine import Affine, Values, assemble, broadcast, combine_constants, common_shape
from affinet.language.calculus.coefficients import scale
from affinet.language.calculus.terms import Term
from affinet.language.constants import compact
from affinet.language.wording import Negative, Operation, Wording, say


def negative(affine: Affine) -> Affine:
    """`-affine`."""
    terms = tuple(_scale_term(term, -1.0) for term in affine.terms)
    return Affine(affine.shape, terms, -affine.constant, affine.epsilon, Negative(affine.wording))


def add(left: Affine, right: Affine) -> Affine:
    """`left + right`, broadcast as NumPy does."""
    return _add_or_subtract(left, right, "+")


def subtract(left: Affine, right: Affine) -> Affine:
    """`left - right`, broadcast as NumPy does."""
    return _add_or_subtract(left, right, "-")


def subtract_bound(left: Affine, bound: Affine) -> Affine:
    """`left - bound`, where a bound without weights may have infinite entries, and so has the difference.

    Errors: `ConstantError` for infinite constants of any other origin: sums of constants may leave float64 unreported.
    """
    _checked_finite(left.constant, left.wording)
    infinite = np.isinf(bound.constant)
    if bound.terms or not infinite.any():
        return subtract(left, bound)
    numbers, infinities = np.where(infinite, 0.0, bound.constant), np.where(infinite, bound.constant, 0.0)
    difference = subtract(left, replace(bound, constant=compact(numbers)))
    removed = broadcast(replace(bound, constant=compact(infinities)), difference.shape)
    constant = combine_constants(difference.constant, removed.constant, lambda x, y: x - y)
    return replace(difference, constant=constant)


def multiply(left: Affine, right: Affine) -> Affine:
    """`left * right`, one of which is a constant."""
    assert not (left.terms and right.terms), "nonlinear.multiply makes products of weights"
    wording = Operation(left.wording, "*", right.wording)
    return _scale(right, left, wording) if right.terms else _scale(left, right, wording)


def divide(left: Affine, right: Affine) -> Affine:
    """`left / right`, which is a constant without zeros.

    Errors: `ConstantError` where it has a zero.
    """
    assert not right.terms, "nonlinear.divide divides by weights"
    wording = Operation(left.wording, "/", right.wording)
    divisor = np.broadcast_to(right.constant, right.shape)
    zeros = np.argwhere(divisor == 0)
    if len(zeros):
        place = tuple(map(int, zeros[0]))
        first = f": {len(zeros)} of its {divisor.size} entries, the first at {place}" if place else ""
        raise ConstantError(f"({say(wording)}) divides by zero{first}.")
    with np.errstate(all="ignore"):
        inverse = np.divide(1.0, right.constant) if divisor.size else 0.0
    return _scale(left, replace(right, constant=_checked_finite(inverse, wording)), wording)


def _add_or_subtract(left: Affine, right: Affine, operator: Literal["+", "-"]) -> Affine:
    wording = Operation(left.wording, operator, right.wording)
    if left.shape != right.shape:
        shape = common_shape(left, right, wording)
        left, right = broadcast(left, shape), broadcast(right, shape)
    with np.errstate(all="ignore"):
        if operator == "+":
            terms, constant = right.terms, combine_constants(left.constant, right.constant, lambda x, y: x + y)
        else:
            terms = tuple([_scale_term(term, -1.0) for term in right.terms])
            constant = combine_constants(left.constant, right.constant, lambda x, y: x - y)
    epsilon = max(left.epsilon, right.epsilon)
    return Affine(left.shape, left.terms + terms, _checked_finite(constant, wording), epsilon, wording)


def _scale(affine: Affine, factor: Affine, wording: Wording) -> Affine:
    shape = common_shape(affine, factor, wording)
    affine, factor = broadcast(affine, shape), broadcast(factor, shape)
    with np.errstate(all="ignore"):
        constant = _checked_finite(combine_constants(affine.constant, factor.constant, lambda x, y: x * y), wording)
    epsilon = max(affine.epsilon, factor.epsilon)
    if isinstance(factor.constant, float):
        number = factor.constant
        terms = tuple(_scale_term(term, number) for term in affine.terms)
        for term in terms:
            _checked_finite(term.scalar, wording)
    else:
        axes = [axis for axis, n in enumerate(factor.constant.shape) if n > 1]
        values = factor.constant.squeeze()
        terms = tuple(scale(term, values, axes) for term in affine.terms)
    return assemble(shape, terms, constant, epsilon, wording)


def _scale_term(term: Term, number: float) -> Term:
    return Term(term.parameter, term.offset, term.variables, term.scalar * number, term.factors, term.start)


def _checked_finite(values: Values, wording: Wording) -> Values:
    """`values`, checked to be finite.

    Errors: `ConstantError` where an operation on finite constants left the range of float64.
    """
    if isinstance(values, float):
        if math.isfinite(values):
            return values
    else:
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()) or np.isfinite(values).all():
                return values
    raise ConstantError(f"the constants of ({say(wording)}) are beyond the range of float64. Scale the rule down.")
