"""Terms read where two output axes have the same position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from affinet.language.calculus.axes import output_of, place, relabel, set_start, start_at
from affinet.language.calculus.maps import added
from affinet.language.calculus.progressions import meeting
from affinet.language.calculus.restricting import fold, restrict
from affinet.language.calculus.selecting import cut, gather
from affinet.language.calculus.terms import Factor, Term, Variable


def meet(term: Term, first: int, second: int, size: int) -> Term | None:
    """`out[…, i, …] = term[…, i, …, i, …]`: axis `first` stays, axis `second` is left broadcast, to be dropped.

    Both axes have size `size`. Law: two strided variables, one on each axis, become one strided variable.
    """
    if term.start[second] is None:
        return term
    if term.start[first] is None:
        return _swapped(term, first, second)
    for one, other in ((first, second), (second, first)):
        if not term.variables_on(one):
            fixed = start_at(term, one)
            found = cut(term, other, range(fixed, fixed + 1))
            return None if found is None else set_start(set_start(found, first, fixed), second, None)
    pair = _strided_pair(term, first, second)
    if pair is None:
        return gather(term, (first, second), (np.arange(size), np.arange(size)))
    return _united(term, *pair, first, second)


def _swapped(term: Term, first: int, second: int) -> Term:
    axes = list(range(len(term.start)))
    axes[first], axes[second] = second, first
    return relabel(term, axes, len(axes))


def _strided_pair(term: Term, first: int, second: int) -> tuple[int, int] | None:
    rows, columns = term.variables_on(first), term.variables_on(second)
    if len(rows) > 1 or len(columns) > 1 or rows == columns:
        return None
    steps = output_of(term, rows[0], first), output_of(term, columns[0], second)
    return (rows[0], columns[0]) if all(isinstance(step, int) for step in steps) else None


def _united(term: Term, row: int, column: int, first: int, second: int) -> Term | None:
    positions = [_positions(term, column, second), _positions(term, row, first)]
    met = meeting(*positions)
    if met is None:
        return None
    term = restrict(restrict(term, column, met[0]), row, met[1])
    term = place(term, column, second, None, None)
    mine, theirs = term.variables[row], term.variables[column]
    both = Variable(mine.size, added(mine.source, theirs.source, mine.size), (*mine.outputs, *theirs.outputs))
    variables = [both if k == row else v for k, v in enumerate(term.variables) if k != column]
    factors = tuple(_merged(factor, row, column) for factor in term.factors)
    return fold(replace(term, variables=tuple(variables), factors=factors))


def _positions(term: Term, k: int, axis: int) -> range:
    step, start = output_of(term, k, axis), start_at(term, axis)
    assert isinstance(step, int), "a strided variable"
    return range(start, start + step * term.variables[k].size, step)


def _merged(factor: Factor, row: int, column: int) -> Factor:
    """The factor with variable `column` running along with variable `row`, and numbered without it."""
    variables, values = factor.variables, factor.values
    if row in variables and column in variables:
        values = np.diagonal(values, 0, variables.index(row), variables.index(column))
        variables = (*(k for k in variables if k not in (row, column)), row)
    else:
        variables = tuple(row if k == column else k for k in variables)
    return Factor(tuple(k - (k > column) for k in variables), values)
