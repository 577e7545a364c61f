"""Read a term where two of its output axes have the same position, which gives its diagonal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from affinet.language.calculus.axes import output_of, place, relabel, set_start, start_at
from affinet.language.calculus.maps import add_maps
from affinet.language.calculus.progressions import common_indices
from affinet.language.calculus.restricting import fold, restrict
from affinet.language.calculus.selecting import cut, gather
from affinet.language.calculus.terms import Factor, Term, Variable


def meet(term: Term, first: int, second: int, size: int) -> Term | None:
    """`out[…, i, …] = term[…, i, …, i, …]`: the diagonal is on axis `first`; axis `second` is broadcast, to be dropped.

    Both axes have size `size`. Law: two strided variables, one on each axis, become one strided variable.
    """
    if term.start[second] is None:
        return term
    if term.start[first] is None:
        return _swap_axes(term, first, second)
    for fixed_axis, other_axis in ((first, second), (second, first)):
        if not term.variables_on(fixed_axis):
            position = start_at(term, fixed_axis)
            line = cut(term, other_axis, range(position, position + 1))
            return None if line is None else set_start(set_start(line, first, position), second, None)
    row_and_column = _strided_pair(term, first, second)
    if row_and_column is None:
        return gather(term, (first, second), (np.arange(size), np.arange(size)))
    return _unite_variables(term, *row_and_column, first, second)


def _swap_axes(term: Term, first: int, second: int) -> Term:
    axes = list(range(len(term.start)))
    axes[first], axes[second] = second, first
    return relabel(term, axes, len(axes))


def _strided_pair(term: Term, first: int, second: int) -> tuple[int, int] | None:
    rows, columns = term.variables_on(first), term.variables_on(second)
    if len(rows) > 1 or len(columns) > 1 or rows == columns:
        return None
    steps = output_of(term, rows[0], first), output_of(term, columns[0], second)
    return (rows[0], columns[0]) if all(isinstance(step, int) for step in steps) else None


def _unite_variables(term: Term, row: int, column: int, first: int, second: int) -> Term | None:
    positions = [_positions(term, column, second), _positions(term, row, first)]
    common = common_indices(*positions)
    if common is None:
        return None
    term = restrict(restrict(term, column, common[0]), row, common[1])
    term = place(term, column, second, None, None)
    row_variable, column_variable = term.variables[row], term.variables[column]
    united = Variable(
        row_variable.size,
        add_maps(row_variable.source, column_variable.source, row_variable.size),
        (*row_variable.outputs, *column_variable.outputs),
    )
    variables = [united if k == row else v for k, v in enumerate(term.variables) if k != column]
    factors = tuple(_merge_factor(factor, row, column) for factor in term.factors)
    return fold(replace(term, variables=tuple(variables), factors=factors))


def _positions(term: Term, k: int, axis: int) -> range:
    step, start = output_of(term, k, axis), start_at(term, axis)
    assert isinstance(step, int), "a strided variable"
    return range(start, start + step * term.variables[k].size, step)


def _merge_factor(factor: Factor, row: int, column: int) -> Factor:
    """Read the factor where variables `row` and `column` are equal, and renumber its variables without `column`."""
    variables, values = factor.variables, factor.values
    if row in variables and column in variables:
        values = np.diagonal(values, 0, variables.index(row), variables.index(column))
        variables = (*(k for k in variables if k not in (row, column)), row)
    else:
        variables = tuple(row if k == column else k for k in variables)
    return Factor(tuple(k - (k > column) for k in variables), values)
