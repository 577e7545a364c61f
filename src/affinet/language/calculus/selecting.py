"""Read a term at chosen positions of its output axes: a range, or positions side by side on several axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from affinet.language.calculus.axes import output_of, place, relabel, set_start, start_at
from affinet.language.calculus.fusing import fuse
from affinet.language.calculus.maps import as_step
from affinet.language.calculus.progressions import common_indices
from affinet.language.calculus.restricting import fold, restrict, visit
from affinet.language.calculus.terms import Integers, Term, Variable, narrow, table


def cut(term: Term, axis: int, positions: range) -> Term | None:
    """`term[…, positions, …]` along `axis`; None where the term is zero at all of them.

    Law: a term with one strided variable on the axis stays strided, whatever the two steps are.
    """
    if term.start[axis] is None:
        return term
    on_axis = term.variables_on(axis)
    if not on_axis:
        start = start_at(term, axis)
        return set_start(term, axis, positions.index(start)) if start in positions else None
    if len(on_axis) > 1:
        return gather(term, (axis,), (np.asarray(positions),))
    k, step = on_axis[0], output_of(term, on_axis[0], axis)
    if not isinstance(step, int):
        return _cut_table(term, k, axis, positions)
    start = start_at(term, axis)
    common = common_indices(range(start, start + step * term.variables[k].size, step), positions)
    if common is None:
        return None
    points, places = common
    if len(points) < term.variables[k].size or points.step < 0:
        term = restrict(term, k, points)
    return fold(place(term, k, axis, places.step, places.start))


def entry(term: Term, position: Sequence[int]) -> Term | None:
    """`term[position]`, with one place for every axis, as a term without axes; None where the term is zero there."""
    if term.factors:
        return _entry_by_cuts(term, position)
    offset, unread = term.offset, list(position)
    for variable in term.variables:
        if len(variable.outputs) != 1:
            return _entry_by_cuts(term, position)
        axis, step = variable.outputs[0]
        start, source = term.start[axis], variable.source
        if type(step) is not int or type(source) is not int or start is None or unread[axis] < 0:
            return _entry_by_cuts(term, position)
        point, remainder = divmod(position[axis] - start, step)
        if remainder or not 0 <= point < variable.size:
            return _entry_by_cuts(term, position)
        offset += source * point
        unread[axis] = -1
    for target, start in zip(unread, term.start, strict=True):
        if target >= 0 and start is not None and start != target:
            return None
    return Term(term.parameter, offset, (), term.scalar, (), ())


def _entry_by_cuts(term: Term, position: Sequence[int]) -> Term | None:
    number: Term | None = term
    for axis, target in enumerate(position):
        number = None if number is None else cut(number, axis, range(target, target + 1))
    return None if number is None else relabel(number, [None] * len(position), 0)


def gather(term: Term, axes: Sequence[int], indices: Sequence[Integers]) -> Term | None:
    """`term[…, indices[0], …, indices[1], …]`, the index arrays side by side as in NumPy.

    The result moves along `axes[0]`, which has the length of the index arrays; the other axes are broadcast, to be
    dropped. None where no index hits the term.
    """
    gathered = gather_pairs(term, axes, indices)
    if gathered is None or gathered.start[axes[0]] is None:
        return gathered
    k = len(gathered.variables) - 1
    positions, start = as_step(output_of(gathered, k, axes[0]))
    gathered = place(gathered, k, axes[0], positions, start)
    source, base = as_step(gathered.variables[k].source)
    visiting = replace(gathered.variables[k], source=source)
    return fold(replace(gathered, offset=gathered.offset + base, variables=(*gathered.variables[:k], visiting)))


def gather_pairs(term: Term, axes: Sequence[int], indices: Sequence[Integers]) -> Term | None:
    """As `gather`, where the last variable always visits the indices: a variable of size one is not folded away."""
    count = len(indices[0])
    indexed = [(axis, index) for axis, index in zip(axes, indices, strict=True) if term.start[axis] is not None]
    if not indexed:
        return term
    digits = _digits(term, indexed)
    if digits is None:
        term = _fuse_axes(term, [axis for axis, _ in indexed])
        digits = _join(term, indexed)
    points, hits = digits
    size = count if hits is None else len(hits)
    if size == 0:
        return None
    if points:
        term = visit(term, points)
    else:
        term = replace(term, variables=(*term.variables, Variable(size, 0)))
    for axis, _ in indexed:
        term = place(term, len(term.variables) - 1, axis, None, None)
    return place(term, len(term.variables) - 1, axes[0], 1 if hits is None else narrow(hits), 0)


def _cut_table(term: Term, k: int, axis: int, positions: range) -> Term | None:
    reached = table(output_of(term, k, axis), term.variables[k].size).astype(np.int64) + start_at(term, axis)
    offsets = reached - positions.start
    places = offsets // positions.step
    hits = np.flatnonzero((offsets % positions.step == 0) & (places >= 0) & (places < len(positions)))
    if len(hits) == 0:
        return None
    if len(hits) < len(reached):
        term, places = visit(term, {k: hits}), places[hits]
        k = len(term.variables) - 1
    return fold(place(term, k, axis, narrow(places), 0))


def _digits(
    term: Term, indexed: Sequence[tuple[int, Integers]]
) -> tuple[dict[int, Integers], NDArray[np.intp] | None] | None:
    """The point of every variable that lands on each index, and the indices that are hit (None: all of them).

    None where the variables do not number the positions of an axis uniquely, as the digits of a number do.
    """
    points: dict[int, Integers] = {}
    hit: NDArray[np.bool_] | None = None
    for axis, index in indexed:
        steps_on_axis = _digit_steps(term, axis)
        if steps_on_axis is None:
            return None
        start, may_miss = start_at(term, axis), not steps_on_axis or steps_on_axis[-1][0] != 1
        remainder: Integers = index if start == 0 else index.astype(np.int64) - start
        for step, k in steps_on_axis:
            digit, remainder = (
                (remainder, np.zeros(1, np.int64)) if step == 1 else (remainder // step, remainder % step)
            )
            size = term.variables[k].size
            if k in points:
                hit = _and(hit, points[k] == digit)
            elif start or (digit.size and int(digit.max()) >= size):
                hit = _and(hit, (digit >= 0) & (digit < size))
            points[k] = digit
        if may_miss:
            hit = _and(hit, remainder == 0)
    if hit is None or bool(hit.all()):
        return points, None
    hits = np.flatnonzero(hit)
    return {k: digit[hits] for k, digit in points.items()}, hits


def _digit_steps(term: Term, axis: int) -> list[tuple[int, int]] | None:
    """The steps along `axis` with their variables, widest first; None unless each step exceeds all narrower loops."""
    steps: list[tuple[int, int]] = []
    for k in term.variables_on(axis):
        step = output_of(term, k, axis)
        if not isinstance(step, int) or step <= 0:
            return None
        steps.append((step, k))
    highest = 0
    for step, k in sorted(steps):
        if step <= highest:
            return None
        highest += step * (term.variables[k].size - 1)
    return sorted(steps, reverse=True)


def _and(first: NDArray[np.bool_] | None, second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return second if first is None else first & second


def _fuse_axes(term: Term, axes: Sequence[int]) -> Term:
    return fuse(term, sorted({k for axis in axes for k in term.variables_on(axis)}))


def _join(term: Term, indexed: Sequence[tuple[int, Integers]]) -> tuple[dict[int, Integers], NDArray[np.intp] | None]:
    """Every pair (point of the last variable, index) that lands on one position: a sorted join."""
    k = len(term.variables) - 1
    variable, count = term.variables[k], len(indexed[0][1])
    reached_keys, wanted_keys = np.zeros(variable.size, np.int64), np.zeros(count, np.int64)
    for axis, index in indexed:
        moves_on_axis = k in term.variables_on(axis)
        reached = table(output_of(term, k, axis) if moves_on_axis else 0, variable.size) + np.int64(
            start_at(term, axis)
        )
        extent = max(int(reached.max()), int(index.max(initial=0))) + 1
        reached_keys, wanted_keys = reached_keys * extent + reached, wanted_keys * extent + index
    order = np.argsort(reached_keys, kind="stable")
    first_match = np.searchsorted(reached_keys[order], wanted_keys, "left")
    matches = np.searchsorted(reached_keys[order], wanted_keys, "right") - first_match
    first_pair = np.cumsum(matches) - matches
    points = order[np.repeat(first_match - first_pair, matches) + np.arange(int(matches.sum()))]
    return {k: points}, np.repeat(np.arange(count), matches)
