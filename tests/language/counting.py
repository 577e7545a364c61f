"""How many numbers a rule leaves free of a weight, those that it does not touch included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import affinet
from affinet import Constraint, Expression
from affinet.language.calculus.terms import Floats, lower


def free(rule: Constraint | Sequence[Constraint], *weights: Expression) -> int:
    """The size of the weights less the rank of the plan."""
    rank = affinet.plan(rule).rank
    assert isinstance(rank, int)
    return sum(w.size for w in weights) - rank


def dense(rule: Constraint, size: int) -> Floats:
    """The matrix of a rule about one weight."""
    matrix = np.zeros((rule.rows, size))
    for term in rule.expression.terms:
        rows, entries, values = lower(term, rule.shape)
        np.add.at(matrix, (rows, entries), values)
    return matrix
