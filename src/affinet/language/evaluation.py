"""Evaluate expressions and rules at given weights, or replace some weights in them by constants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from affinet.errors import ShapeError, UnknownWeightError
from affinet.language.affine import Values, assemble, combine_constants
from affinet.language.calculus.terms import Floats, Term, lower
from affinet.language.constants import compact, read_constant
from affinet.language.expression import Expression
from affinet.language.sense import Norm, Sense


def evaluate(expression: Expression, values: Mapping[str, ArrayLike]) -> Floats:
    """The expression's value in float64, at weights given by name.

    This is the oracle for all code that reads terms: every term is written out pair by pair.
    Errors: `UnknownWeightError` for a weight without a value, `ShapeError` for a value of another shape.
    """
    result = np.array(np.broadcast_to(expression.constant, expression.shape), np.float64)
    for term in expression.terms:
        result += _term_value(term, expression.shape, _weights(term, values))
    return result


@np.errstate(invalid="ignore", over="ignore")  # of weights that are not finite
def violations(value: Floats, sense: Sense, norm: Norm | None = None, radius: Values = 0.0) -> Floats:
    """How far each equation, inequality or ball of a rule is from holding, at least 0; nan where a weight is nan.

    `value` is that of the rule's expression; the result has the shape of the rule. It is |value| for an equation, the
    part of the wrong sign for an inequality, and how much the norm exceeds `radius` for a ball.
    """
    if norm is not None:
        lengths = np.abs(value).sum(axis=-1) if norm == 1 else np.linalg.norm(value, axis=-1)
        return np.asarray(np.maximum(lengths - radius, 0.0))
    if sense == "==":
        return np.asarray(np.abs(value))
    return np.asarray(np.maximum(value if sense == "<=" else -value, 0.0)) + 0.0  # -0.0 + 0.0 is 0.0


def substitute(expression: Expression, values: Mapping[str, object]) -> Expression:
    """Replace the weights named in `values` by these constants.

    `epsilon` includes the spacing of the values' dtype: a rule on frozen float32 weights holds to float32.
    """
    known_terms = [term for term in expression.terms if term.parameter.name in values]
    if not known_terms:
        return expression
    constant, epsilon = expression.constant, expression.epsilon
    known_values = {name: read_constant(values[name]) for name in {term.parameter.name for term in known_terms}}
    for term in known_terms:
        known_value = known_values[term.parameter.name]
        epsilon = max(epsilon, known_value.epsilon)
        weights = _weights(term, {term.parameter.name: np.broadcast_to(known_value.values, known_value.shape)})
        value = compact(_term_value(term, expression.shape, weights))
        constant = combine_constants(constant, value, lambda x, y: x + y)
    remaining_terms = [term for term in expression.terms if term.parameter.name not in values]
    return Expression(assemble(expression.shape, remaining_terms, constant, epsilon, expression.affine.wording))


def _weights(term: Term, values: Mapping[str, ArrayLike]) -> Floats:
    name, shape = term.parameter.name, term.parameter.shape
    if name not in values:
        raise UnknownWeightError(name, values)
    weights = np.asarray(values[name], np.float64)
    if weights.shape != shape:
        raise ShapeError(f"the value for {name} has shape {weights.shape}, and the weight has shape {shape}.")
    return weights.reshape(-1)


def _term_value(term: Term, shape: tuple[int, ...], weights: Floats) -> Floats:
    """The term's value, with its broadcast axes at size one."""
    unbroadcast_shape = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
    rows, entries, coefficients = lower(term, unbroadcast_shape)
    size = int(np.prod(unbroadcast_shape, dtype=np.int64))
    value: Floats = np.bincount(rows, coefficients * weights[entries], size).astype(np.float64, copy=False)
    return value.reshape(unbroadcast_shape)
