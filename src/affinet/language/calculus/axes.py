"""Terms with their output axes renamed, dropped, spelled out or summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from affinet.language.calculus.contraction import contract
from affinet.language.calculus.terms import Map, Term, Variable


def relabel(term: Term, places: Sequence[int | None], axes: int) -> Term:
    """Axis `a` becomes axis `places[a]` of `axes` new ones; new axes without an old one are broadcast.

    An axis with place `None` is dropped: what moved along it is summed over. A *broadcast* axis that is summed must
    be weighed first (see `sum_over`).
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


def sum_over(term: Term, axes: Sequence[int], shape: Sequence[int], places: Sequence[int | None], left: int) -> Term:
    """Sum over `axes` of an output of shape `shape`; the axes left go to `places`."""
    scalar = term.scalar
    for axis in axes:
        if term.start[axis] is None:
            scalar *= shape[axis]
    return contract(relabel(replace(term, scalar=scalar), places, left))


def spell_out(term: Term, axis: int, size: int) -> Term:
    """The same term without broadcasting along `axis`: a variable that reads nothing new runs over it."""
    if term.start[axis] is not None:
        return term
    if size == 1:
        return set_start(term, axis, 0)
    variables = (*term.variables, Variable(size, 0, ((axis, 1),)))
    return set_start(replace(term, variables=variables), axis, 0)


def set_start(term: Term, axis: int, start: int | None) -> Term:
    """The term moved along `axis` so that it starts at `start`."""
    return replace(term, start=(*term.start[:axis], start, *term.start[axis + 1 :]))


def place(term: Term, k: int, axis: int, positions: Map | None, start: int | None) -> Term:
    """The term with variable `k` moving along `axis` by `positions` (None: not at all) from `start` on."""
    variable = term.variables[k]
    outputs = tuple((a, m) for a, m in variable.outputs if a != axis)
    if positions is not None:
        outputs = (*outputs, (axis, positions))
    variables = (*term.variables[:k], Variable(variable.size, variable.source, outputs), *term.variables[k + 1 :])
    return set_start(replace(term, variables=variables), axis, start)


def start_at(term: Term, axis: int) -> int:
    """Where the term starts along an axis that is not broadcast."""
    start = term.start[axis]
    assert start is not None, "a broadcast axis has no start"
    return start


def output_of(term: Term, k: int, axis: int) -> Map:
    """How variable `k` moves along `axis`."""
    return next(m for a, m in term.variables[k].outputs if a == axis)
