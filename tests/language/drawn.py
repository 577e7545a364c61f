"""Symbols, their values, and constants that tests of the language share."""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Parameter, held_bytes
from affinet.language.expression import Expression, weight

RANDOM = np.random.default_rng(0)
SHAPES = {"W": (6, 8), "S": (7, 7), "K": (4, 3, 3, 3), "X": (8, 5), "b": (6,)}
VALUES = {name: RANDOM.standard_normal(shape) for name, shape in SHAPES.items()}
SYMBOLS = {name: weight(Parameter(name, shape)) for name, shape in SHAPES.items()}
W, S, K, X, b = SYMBOLS.values()
M, N, P, C = (RANDOM.standard_normal(shape) for shape in ((3, 6), (8, 2), (5, 11), (6, 8)))
MASK, COLUMNS = RANDOM.random((6, 8)) < 0.4, RANDOM.random(8) < 0.5
ROWS, PLACES = RANDOM.integers(0, 6, 9), RANDOM.integers(0, 8, 9)


def parameter(name: str, *shape: int) -> Expression:
    return weight(Parameter(name, shape))


def tables(expression: Expression) -> int:
    """How many tables the terms hold."""
    maps = [m for t in expression.terms for v in t.variables for m in (v.source, *(o for _, o in v.outputs))]
    return sum(not isinstance(m, int) for m in maps)


def bytes_in(expression: Expression) -> int:
    return sum(held_bytes(term) for term in expression.terms)
