"""Terms whose loop variables run over chosen points only: a range (stays strided) or a list (tables)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.maps import added, at_points, at_range, first_position
from affinet.language.calculus.progressions import as_slice
from affinet.language.calculus.terms import Factor, Integers, Map, Term, Variable
from affinet.language.forecast import forecast


def restrict(term: Term, k: int, points: range) -> Term:
    """Variable `k` runs over `points` of its range only, in their order; every map stays the kind it is."""
    variable, window = term.variables[k], as_slice(points)
    source, base = at_range(variable.source, points)
    start, outputs = list(term.start), []
    for axis, positions in variable.outputs:
        moved, step = at_range(positions, points)
        start[axis] = (start[axis] or 0) + step
        outputs.append((axis, moved))
    narrowed = Variable(len(points), source, tuple(outputs))
    factors = tuple(_windowed(factor, k, window) if k in factor.variables else factor for factor in term.factors)
    variables = (*term.variables[:k], narrowed, *term.variables[k + 1 :])
    return replace(term, offset=term.offset + base, variables=variables, factors=factors, start=tuple(start))


def visit(term: Term, points: Mapping[int, Integers]) -> Term:
    """The variables that are keys of `points` become one, the last, that visits their points side by side."""
    count = len(next(iter(points.values())))
    source: Map = 0
    outputs: dict[int, Map] = {}
    for k, indices in points.items():
        variable = term.variables[k]
        source = _sum(source, at_points(variable.source, indices), count)
        for axis, positions in variable.outputs:
            outputs[axis] = _sum(outputs.get(axis, 0), at_points(positions, indices), count)
    rest = [k for k in range(len(term.variables)) if k not in points]
    renamed = {k: new for new, k in enumerate(rest)}
    factors = tuple(_visited(factor, points, renamed, count) for factor in term.factors)
    visiting = Variable(count, source, tuple(outputs.items()))
    return replace(term, variables=(*(term.variables[k] for k in rest), visiting), factors=factors)


def fold(term: Term) -> Term:
    """Normal form: variables of size one go into the offset, the start and the factors."""
    single = [k for k, variable in enumerate(term.variables) if variable.size == 1]
    if not single:
        return term
    offset, start = term.offset, list(term.start)
    for k in single:
        offset += first_position(term.variables[k].source)
        for axis, positions in term.variables[k].outputs:
            start[axis] = (start[axis] or 0) + first_position(positions)
    rest = [k for k in range(len(term.variables)) if k not in single]
    renamed = {k: new for new, k in enumerate(rest)}
    scalar, factors = term.scalar, []
    for factor in term.factors:
        values = factor.values[tuple(slice(None) if k in renamed else 0 for k in factor.variables)]
        if np.ndim(values):
            factors.append(Factor(tuple(renamed[k] for k in factor.variables if k in renamed), values))
        else:
            scalar *= float(values)
    variables = tuple(term.variables[k] for k in rest)
    return Term(term.parameter, offset, variables, scalar, tuple(factors), tuple(start))


def _windowed(factor: Factor, k: int, window: slice) -> Factor:
    return Factor(factor.variables, factor.values[tuple(window if q == k else slice(None) for q in factor.variables)])


def _visited(factor: Factor, points: Mapping[int, Integers], renamed: Mapping[int, int], count: int) -> Factor:
    kept = [k for k in factor.variables if k not in points]
    if len(kept) == len(factor.variables):
        return Factor(tuple(renamed[k] for k in kept), factor.values)
    values = np.moveaxis(factor.values, [factor.variables.index(k) for k in kept], range(len(kept)))
    indices = tuple(points[k] for k in factor.variables if k in points)
    forecast("the coefficients of this selection", prod(values.shape[: len(kept)]) * count)
    chosen = values[(slice(None),) * len(kept) + indices]
    return Factor((*(renamed[k] for k in kept), len(renamed)), chosen)


def _sum(first: Map, second: Map, size: int) -> Map:
    if isinstance(first, int) and first == 0:
        return second
    if isinstance(second, int) and second == 0:
        return first
    return added(first, second, size)
