"""Rename, drop, spell out or sum the output axes of a term; every function takes a term and returns one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from affinet.language.calculus.contraction import contract
from affinet.language.calculus.terms import Map, Term, Variable


def relabel(term: Term, places: Sequence[int | None], axes: int) -> Term:
    """Turn axis `a` into axis `places[a]` of `axes` new ones; new axes without an old one are broadcast.

    An axis with place `None` is dropped, and variables that moved along it are summed over. The sum over a *broadcast*
    axis also multiplies by its size, which `sum_over` does.
    """
    start: list[int | None] = [None] * axes
    for axis, place in enumerate(places):
        if place is not None:
            start[place] = term.start[axis]
    variables = tuple(
        Variable(v.size, v.source, tuple((place, m) for a, m in v.outputs if (place := places[a]) is not None))
        for v in term.variables
    )
    return replace(term, variables=variables, start=tuple(start))


def sum_over(
    term: Term, axes: Sequence[int], shape: Sequence[int], places: Sequence[int | None], axes_after: int
) -> Term:
    """Sum over `axes` of an output of shape `shape`; any other axis `a` becomes `places[a]` of `axes_after`."""
    scalar = term.scalar
    for axis in axes:
        if term.start[axis] is None:
            scalar *= shape[axis]
    return contract(relabel(replace(term, scalar=scalar), places, axes_after))


def spell_out(term: Term, axis: int, size: int) -> Term:
    """Replace broadcasting along `axis` by a variable of size `size` that reads the same entry at every position."""
    if term.start[axis] is not None:
        return term
    if size == 1:
        return set_start(term, axis, 0)
    variables = (*term.variables, Variable(size, 0, ((axis, 1),)))
    return set_start(replace(term, variables=variables), axis, 0)


def set_start(term: Term, axis: int, start: int | None) -> Term:
    """Move the term along `axis` so that it starts at `start`."""
    return replace(term, start=(*term.start[:axis], start, *term.start[axis + 1 :]))


def place(term: Term, k: int, axis: int, positions: Map | None, start: int | None) -> Term:
    """Let variable `k` move along `axis` by `positions` (None: not at all), counted from `start`."""
    variable = term.variables[k]
    outputs = tuple((a, m) for a, m in variable.outputs if a != axis)
    if positions is not None:
        outputs = (*outputs, (axis, positions))
    variables = (*term.variables[:k], Variable(variable.size, variable.source, outputs), *term.variables[k + 1 :])
    return set_start(replace(term, variables=variables), axis, start)


def start_at(term: Term, axis: int) -> int:
    """The start of the term along an axis that is not broadcast."""
    start = term.start[axis]
    assert start is not None, "a broadcast axis has no start"
    return start


def output_of(term: Term, k: int, axis: int) -> Map:
    """The map by which variable `k` moves along `axis`."""
    return next(m for a, m in term.variables[k].outputs if a == axis)
