"""Multiply terms by constants: entry by entry, or by a matrix that mixes one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.axes import output_of, place, spell_out, start_at
from affinet.language.calculus.contraction import contract
from affinet.language.calculus.maps import as_step
from affinet.language.calculus.progressions import as_slice
from affinet.language.calculus.restricting import fold
from affinet.language.calculus.selecting import gather_pairs
from affinet.language.calculus.terms import Factor, Floats, Integers, Term, Variable, narrow, table
from affinet.language.forecast import forecast


def scale(term: Term, values: Floats, axes: Sequence[int]) -> Term:
    """`values[i_a for a in axes] · term`; `values` has the full size of each of these output axes.

    A broadcast axis among them gets a variable. The coefficients become one factor: a view of `values` where all maps
    are steps, else a copy.
    """
    for axis, size in zip(axes, values.shape, strict=True):
        term = spell_out(term, axis, size)
    return _attach_factor(term, *_look_up(term, values, axes))


def mix(term: Term, matrix: Floats, axis: int) -> Term:
    """`matrix @ term` along `axis`: variables on it are summed over, and a new variable runs over the matrix's rows."""
    rows = matrix.shape[0]
    if term.start[axis] is None:
        variables: tuple[int, ...] = ()
        values = matrix.sum(axis=1)
    else:
        variables, values = _look_up(term, matrix.T, (axis,))
        values = np.moveaxis(values, -1, 0)
        for k in term.variables_on(axis):
            term = place(term, k, axis, None, 0)
    new_variable = len(term.variables)
    term = replace(term, variables=(*term.variables, Variable(rows, 0)))
    return contract(fold(_attach_factor(place(term, new_variable, axis, 1, 0), (new_variable, *variables), values)))


def mix_sparse(
    term: Term, rows: Integers, columns: Integers, values: Floats, shape: tuple[int, int], axis: int
) -> Term | None:
    """`matrix @ term` along `axis` for the matrix with `values` at (`rows`, `columns`): one variable with tables."""
    if term.start[axis] is None:
        sums: Floats = np.bincount(rows, values, shape[0]).astype(np.float64, copy=False)
        return mix(term, sums[:, None], axis)
    gathered = gather_pairs(term, (axis,), (columns,))
    if gathered is None:
        return None
    k = len(gathered.variables) - 1
    hits = table(output_of(gathered, k, axis), gathered.variables[k].size)
    positions, start = as_step(narrow(rows[hits]))
    return fold(_attach_factor(place(gathered, k, axis, positions, start), (k,), values[hits]))


def _attach_factor(term: Term, variables: tuple[int, ...], values: Floats) -> Term:
    if not variables:
        return replace(term, scalar=term.scalar * float(values))
    return replace(term, factors=(*term.factors, Factor(variables, values)))


def _look_up(term: Term, values: Floats, axes: Sequence[int]) -> tuple[tuple[int, ...], Floats]:
    """The variables that move along `axes`, and `values` at their positions as an array over them (and more axes)."""
    variables_by_axis = [term.variables_on(axis) for axis in axes]
    all_variables = [k for variables in variables_by_axis for k in variables]
    if len(set(all_variables)) < len(all_variables) or any(len(variables) > 1 for variables in variables_by_axis):
        return _look_up_by_tables(term, values, axes)
    if any(
        not isinstance(output_of(term, variables[0], axis), int)
        for variables, axis in zip(variables_by_axis, axes, strict=True)
        if variables
    ):
        return _look_up_by_tables(term, values, axes)
    window = tuple(_window(term, axis, size) for axis, size in zip(axes, values.shape, strict=False))
    return tuple(all_variables), values[window]


def _window(term: Term, axis: int, size: int) -> int | slice:
    start, on_axis = start_at(term, axis), term.variables_on(axis)
    if not on_axis:
        return start
    step = output_of(term, on_axis[0], axis)
    assert isinstance(step, int), "a strided variable"
    count = term.variables[on_axis[0]].size
    if (start, step, count) == (0, 1, size):
        return slice(None)
    return as_slice(range(start, start + step * count, step))


def _look_up_by_tables(term: Term, values: Floats, axes: Sequence[int]) -> tuple[tuple[int, ...], Floats]:
    variables = sorted({k for axis in axes for k in term.variables_on(axis)})
    sizes = [term.variables[k].size for k in variables]
    forecast("the coefficients of this expression", prod(sizes) * prod(values.shape[len(axes) :]))
    indices = []
    for axis in axes:
        position = np.full((1,) * len(variables), start_at(term, axis), np.int64)
        for k in term.variables_on(axis):
            shape = [-1 if q == k else 1 for q in variables]
            position = position + table(output_of(term, k, axis), term.variables[k].size).reshape(shape)
        indices.append(position)
    coefficients = values[tuple(indices)]
    return tuple(variables), np.broadcast_to(coefficients, (*sizes, *values.shape[len(axes) :]))
