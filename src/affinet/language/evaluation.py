"""Evaluate expressions and rules at given weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from affinet.errors import ShapeError, UnknownWeightError
from affinet.language.affine import Affine, Values
from affinet.language.calculus.terms import Floats, Term, lower
from affinet.language.expression import Expression
from affinet.language.node_values import node_value
from affinet.language.nodes import nodes_of
from affinet.language.sense import Norm, Sense, lengths


def evaluate(expression: Expression, values: Mapping[str, ArrayLike]) -> Floats:
    """The expression's value in float64, at weights given by name.

    This is the oracle for all code that reads terms: every term is written out pair by pair.
    Errors: `UnknownWeightError` for a weight without a value, `ShapeError` for a value of another shape.
    """
    known: dict[str, ArrayLike] = dict(values)
    for node in nodes_of(expression.affine):
        known[node.name] = node_value(node, [affine_value(operand, known) for operand in node.operands])
    return affine_value(expression.affine, known)


def affine_value(affine: Affine, values: Mapping[str, ArrayLike]) -> Floats:
    """The value of an expression from those of the weights and nodes that it reads."""
    result = np.array(np.broadcast_to(affine.constant, affine.shape), np.float64)
    for term in affine.terms:
        result += term_value(term, affine.shape, read_weights(term, values))
    return result


@np.errstate(invalid="ignore", over="ignore")  # of weights that are not finite
def violations(value: Floats, sense: Sense, norm: Norm | None = None, radius: Values = 0.0) -> Floats:
    """How far each equation, inequality or ball of a rule is from holding, at least 0; nan where a weight is nan.

    `value` is that of the rule's expression; the result has the shape of the rule. It is |value| for an equation, the
    part of the wrong sign for an inequality, and how much the norm exceeds `radius` for a ball.
    """
    if norm is not None:
        return np.asarray(np.maximum(lengths(value, norm) - radius, 0.0))
    if sense == "==":
        return np.asarray(np.abs(value))
    return np.asarray(np.maximum(value if sense == "<=" else -value, 0.0)) + 0.0  # -0.0 + 0.0 is 0.0


def read_weights(term: Term, values: Mapping[str, ArrayLike]) -> Floats:
    """The numbers of the weight or node that a term reads, in one row. Errors: as `evaluate`."""
    name, shape = term.parameter.name, term.parameter.shape
    if name not in values:
        raise UnknownWeightError(name, values)
    weights = np.asarray(values[name], np.float64)
    if weights.shape != shape:
        raise ShapeError(f"the value for {name} has shape {weights.shape}, and the weight has shape {shape}.")
    return weights.reshape(-1)


def term_value(term: Term, shape: tuple[int, ...], weights: Floats) -> Floats:
    """The term's value, with its broadcast axes at size one."""
    unbroadcast_shape = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
    rows, entries, coefficients = lower(term, unbroadcast_shape)
    size = int(np.prod(unbroadcast_shape, dtype=np.int64))
    value: Floats = np.bincount(rows, coefficients * weights[entries], size).astype(np.float64, copy=False)
    return value.reshape(unbroadcast_shape)
