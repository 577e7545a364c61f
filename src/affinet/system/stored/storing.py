"""Store expressions as tables of numbers, names and lists; arrays are stored separately and referred to by number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from affinet.language.affine import Values
from affinet.language.calculus.marked import Marked
from affinet.language.calculus.terms import Factor, Map, Source, Term, Variable
from affinet.language.expression import Expression
from affinet.system.stored.packing import Arrays

Table = dict[str, Any]
UNBOUNDED = "unbounded"


def stored_expression(expression: Expression, numbers: Mapping[str, int], arrays: Arrays) -> Table:
    """The table that `restored_expression` reads; `numbers` maps the name of each parameter and node to its number."""
    return {
        "shape": [*expression.shape],
        "says": str(expression),
        "terms": [_term(term, numbers, arrays) for term in expression.terms],
        "constant": stored_values(expression.constant, arrays),
        "epsilon": float(expression.epsilon),
    }


def stored_values(values: Values, arrays: Arrays) -> float | str | Table:
    """A number, or an array by its number; JSON has no word for the infinite constant of a rule without a bound."""
    if isinstance(values, float):
        return UNBOUNDED if math.isinf(values) else float(values)
    return {"view": arrays.put(values)}


def _term(term: Term, numbers: Mapping[str, int], arrays: Arrays) -> Table:
    """The table of a term without keys that have their default value: a rule about single entries is short."""
    table: Table = {"parameter": numbers[term.parameter.name], "scalar": float(term.scalar)}
    if term.offset:
        table["offset"] = int(term.offset)
    if term.start:
        table["start"] = [None if start is None else int(start) for start in term.start]
    if term.variables:
        table["variables"] = [_variable(variable, arrays) for variable in term.variables]
    if term.factors:
        table["factors"] = [_factor(factor, arrays) for factor in term.factors]
    return table


def _variable(variable: Variable, arrays: Arrays) -> Table:
    outputs = [[axis, _map(positions, arrays)] for axis, positions in variable.outputs]
    return {"size": int(variable.size), "source": _source(variable.source, arrays), "outputs": outputs}


def _source(source: Source, arrays: Arrays) -> int | Table:
    if isinstance(source, Marked):
        return {"mask": arrays.put(source.bits), "places": int(source.places), "step": int(source.step)}
    return _map(source, arrays)


def _map(positions: Map, arrays: Arrays) -> int | Table:
    return positions if isinstance(positions, int) else {"view": arrays.put(np.ascontiguousarray(positions))}


def _factor(factor: Factor, arrays: Arrays) -> Table:
    return {"variables": [*factor.variables], "view": arrays.put(factor.values)}
