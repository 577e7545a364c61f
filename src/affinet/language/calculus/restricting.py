"""Restrict loop variables of a term to chosen points: a range (which stays strided) or a list (with tables)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.maps import add_maps, at_points, at_range, first_position
from affinet.language.calculus.progressions import as_slice
from affinet.language.calculus.terms import Factor, Integers, Map, Term, Variable
from affinet.language.forecast import forecast


def restrict(term: Term, k: int, points: range) -> Term:
    """Let variable `k` run over `points` of its range only, in their order; steps stay steps and tables stay tables."""
    variable, window = term.variables[k], as_slice(points)
    source, source_offset = at_range(variable.source, points)
    start, outputs = list(term.start), []
    for axis, positions in variable.outputs:
        restricted, axis_offset = at_range(positions, points)
        start[axis] = (start[axis] or 0) + axis_offset
        outputs.append((axis, restricted))
    narrowed = Variable(len(points), source, tuple(outputs))
    factors = tuple(_cut_factor(factor, k, window) if k in factor.variables else factor for factor in term.factors)
    variables = (*term.variables[:k], narrowed, *term.variables[k + 1 :])
    return replace(term, offset=term.offset + source_offset, variables=variables, factors=factors, start=tuple(start))


def visit(term: Term, points: Mapping[int, Integers]) -> Term:
    """Replace the variables that are keys of `points` by one, the last, that visits their points side by side."""
    count = len(next(iter(points.values())))
    source: Map = 0
    outputs: dict[int, Map] = {}
    for k, indices in points.items():
        variable = term.variables[k]
        source = _add(source, at_points(variable.source, indices), count)
        for axis, positions in variable.outputs:
            outputs[axis] = _add(outputs.get(axis, 0), at_points(positions, indices), count)
    other_variables = [k for k in range(len(term.variables)) if k not in points]
    new_numbers = {k: new for new, k in enumerate(other_variables)}
    factors = tuple(_visit_factor(factor, points, new_numbers, count) for factor in term.factors)
    visitor = Variable(count, source, tuple(outputs.items()))
    return replace(term, variables=(*(term.variables[k] for k in other_variables), visitor), factors=factors)


def fold(term: Term) -> Term:
    """Bring a term to normal form: fold variables of size one into the offset, the start and the factors."""
    single = [k for k, variable in enumerate(term.variables) if variable.size == 1]
    if not single:
        return term
    offset, start = term.offset, list(term.start)
    for k in single:
        offset += first_position(term.variables[k].source)
        for axis, positions in term.variables[k].outputs:
            start[axis] = (start[axis] or 0) + first_position(positions)
    other_variables = [k for k in range(len(term.variables)) if k not in single]
    new_numbers = {k: new for new, k in enumerate(other_variables)}
    scalar, factors = term.scalar, []
    for factor in term.factors:
        values = factor.values[tuple(slice(None) if k in new_numbers else 0 for k in factor.variables)]
        if np.ndim(values):
            factors.append(Factor(tuple(new_numbers[k] for k in factor.variables if k in new_numbers), values))
        else:
            scalar *= float(values)
    variables = tuple(term.variables[k] for k in other_variables)
    return Term(term.parameter, offset, variables, scalar, tuple(factors), tuple(start))


def _cut_factor(factor: Factor, k: int, window: slice) -> Factor:
    return Factor(factor.variables, factor.values[tuple(window if q == k else slice(None) for q in factor.variables)])


def _visit_factor(factor: Factor, points: Mapping[int, Integers], new_numbers: Mapping[int, int], count: int) -> Factor:
    other_variables = [k for k in factor.variables if k not in points]
    if len(other_variables) == len(factor.variables):
        return Factor(tuple(new_numbers[k] for k in other_variables), factor.values)
    values = np.moveaxis(
        factor.values, [factor.variables.index(k) for k in other_variables], range(len(other_variables))
    )
    indices = tuple(points[k] for k in factor.variables if k in points)
    forecast("the coefficients of this selection", prod(values.shape[: len(other_variables)]) * count)
    visited_values = values[(slice(None),) * len(other_variables) + indices]
    return Factor((*(new_numbers[k] for k in other_variables), len(new_numbers)), visited_values)


def _add(first: Map, second: Map, size: int) -> Map:
    if isinstance(first, int) and first == 0:
        return second
    if isinstance(second, int) and second == 0:
        return first
    return add_maps(first, second, size)
