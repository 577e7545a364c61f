"""Terms read at chosen positions of their output axes: a range, or positions side by side on several axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from affinet.language.calculus.axes import output_of, place, relabel, set_start, start_at
from affinet.language.calculus.fusing import fuse
from affinet.language.calculus.maps import as_step
from affinet.language.calculus.progressions import meeting
from affinet.language.calculus.restricting import fold, restrict, visit
from affinet.language.calculus.terms import Integers, Term, Variable, narrow, table


def cut(term: Term, axis: int, positions: range) -> Term | None:
    """`term[…, positions, …]` along `axis`, None where nothing of the term is left.

    Law: a term with one strided variable on the axis stays strided, whatever the two steps are.
    """
    if term.start[axis] is None:
        return term
    moving = term.variables_on(axis)
    if not moving:
        start = start_at(term, axis)
        return set_start(term, axis, positions.index(start)) if start in positions else None
    if len(moving) > 1:
        return gather(term, (axis,), (np.asarray(positions),))
    k, step = moving[0], output_of(term, moving[0], axis)
    if not isinstance(step, int):
        return _cut_table(term, k, axis, positions)
    start = start_at(term, axis)
    met = meeting(range(start, start + step * term.variables[k].size, step), positions)
    if met is None:
        return None
    mine, theirs = met
    if len(mine) < term.variables[k].size or mine.step < 0:
        term = restrict(term, k, mine)
    return fold(place(term, k, axis, theirs.step, theirs.start))


def entry(term: Term, position: Sequence[int]) -> Term | None:
    """`term[position]` with one place for every axis, as a term without axes; None where the term is zero there."""
    if term.factors:
        return _entry_by_cuts(term, position)
    offset, missing = term.offset, list(position)
    for variable in term.variables:
        if len(variable.outputs) != 1:
            return _entry_by_cuts(term, position)
        axis, step = variable.outputs[0]
        start, source = term.start[axis], variable.source
        if type(step) is not int or type(source) is not int or start is None or missing[axis] < 0:
            return _entry_by_cuts(term, position)
        point, rest = divmod(position[axis] - start, step)
        if rest or not 0 <= point < variable.size:
            return _entry_by_cuts(term, position)
        offset += source * point
        missing[axis] = -1
    for wanted, start in zip(missing, term.start, strict=True):
        if wanted >= 0 and start is not None and start != wanted:
            return None
    return Term(term.parameter, offset, (), term.scalar, (), ())


def _entry_by_cuts(term: Term, position: Sequence[int]) -> Term | None:
    found: Term | None = term
    for axis, wanted in enumerate(position):
        found = None if found is None else cut(found, axis, range(wanted, wanted + 1))
    return None if found is None else relabel(found, [None] * len(position), 0)


def gather(term: Term, axes: Sequence[int], indices: Sequence[Integers]) -> Term | None:
    """`term[…, indices[0], …, indices[1], …]`, the index arrays side by side as in NumPy.

    The result moves along `axes[0]`, as long as the index arrays; the other axes are left broadcast, to be dropped.
    None where no index hits the term.
    """
    found = gather_pairs(term, axes, indices)
    if found is None or found.start[axes[0]] is None:
        return found
    k = len(found.variables) - 1
    positions, start = as_step(output_of(found, k, axes[0]))
    found = place(found, k, axes[0], positions, start)
    source, base = as_step(found.variables[k].source)
    visiting = replace(found.variables[k], source=source)
    return fold(replace(found, offset=found.offset + base, variables=(*found.variables[:k], visiting)))


def gather_pairs(term: Term, axes: Sequence[int], indices: Sequence[Integers]) -> Term | None:
    """As `gather`, and the last variable is the one that visits the indices (size one is not folded away)."""
    count = len(indices[0])
    fixed = [(axis, index) for axis, index in zip(axes, indices, strict=True) if term.start[axis] is not None]
    if not fixed:
        return term
    digits = _digits(term, fixed)
    if digits is None:
        term = _fused(term, [axis for axis, _ in fixed])
        digits = _joined(term, fixed)
    points, hits = digits
    size = count if hits is None else len(hits)
    if size == 0:
        return None
    if points:
        term = visit(term, points)
    else:
        term = replace(term, variables=(*term.variables, Variable(size, 0)))
    for axis, _ in fixed:
        term = place(term, len(term.variables) - 1, axis, None, None)
    return place(term, len(term.variables) - 1, axes[0], 1 if hits is None else narrow(hits), 0)


def _cut_table(term: Term, k: int, axis: int, positions: range) -> Term | None:
    reached = table(output_of(term, k, axis), term.variables[k].size).astype(np.int64) + start_at(term, axis)
    ahead = reached - positions.start
    places = ahead // positions.step
    kept = np.flatnonzero((ahead % positions.step == 0) & (places >= 0) & (places < len(positions)))
    if len(kept) == 0:
        return None
    if len(kept) < len(reached):
        term, places = visit(term, {k: kept}), places[kept]
        k = len(term.variables) - 1
    return fold(place(term, k, axis, narrow(places), 0))


def _digits(
    term: Term, fixed: Sequence[tuple[int, Integers]]
) -> tuple[dict[int, Integers], NDArray[np.intp] | None] | None:
    """Which point of every variable lands on each index, and which indices are hit (None: all of them).

    None where the variables do not number the positions of an axis uniquely, as digits do.
    """
    points: dict[int, Integers] = {}
    hit: NDArray[np.bool_] | None = None
    for axis, index in fixed:
        moving = _positional(term, axis)
        if moving is None:
            return None
        start, covered = start_at(term, axis), not moving or moving[-1][0] != 1
        rest: Integers = index if start == 0 else index.astype(np.int64) - start
        for step, k in moving:
            digit, rest = (rest, np.zeros(1, np.int64)) if step == 1 else (rest // step, rest % step)
            size = term.variables[k].size
            if k in points:
                hit = _both(hit, points[k] == digit)
            elif start or (digit.size and int(digit.max()) >= size):
                hit = _both(hit, (digit >= 0) & (digit < size))
            points[k] = digit
        if covered:
            hit = _both(hit, rest == 0)
    if hit is None or bool(hit.all()):
        return points, None
    hits = np.flatnonzero(hit)
    return {k: digit[hits] for k, digit in points.items()}, hits


def _positional(term: Term, axis: int) -> list[tuple[int, int]] | None:
    """The steps along `axis` and their variables, widest first, if each step reaches beyond all narrower ones."""
    moving: list[tuple[int, int]] = []
    for k in term.variables_on(axis):
        step = output_of(term, k, axis)
        if not isinstance(step, int) or step <= 0:
            return None
        moving.append((step, k))
    reach = 0
    for step, k in sorted(moving):
        if step <= reach:
            return None
        reach += step * (term.variables[k].size - 1)
    return sorted(moving, reverse=True)


def _both(first: NDArray[np.bool_] | None, second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return second if first is None else first & second


def _fused(term: Term, axes: Sequence[int]) -> Term:
    return fuse(term, sorted({k for axis in axes for k in term.variables_on(axis)}))


def _joined(term: Term, fixed: Sequence[tuple[int, Integers]]) -> tuple[dict[int, Integers], NDArray[np.intp] | None]:
    """Every pair (point of the last variable, index) that lands on one position: a sorted join."""
    k = len(term.variables) - 1
    variable, count = term.variables[k], len(fixed[0][1])
    mine, theirs = np.zeros(variable.size, np.int64), np.zeros(count, np.int64)
    for axis, index in fixed:
        moving = k in term.variables_on(axis)
        reached = table(output_of(term, k, axis) if moving else 0, variable.size) + np.int64(start_at(term, axis))
        extent = max(int(reached.max()), int(index.max(initial=0))) + 1
        mine, theirs = mine * extent + reached, theirs * extent + index
    order = np.argsort(mine, kind="stable")
    low = np.searchsorted(mine[order], theirs, "left")
    found = np.searchsorted(mine[order], theirs, "right") - low
    before = np.cumsum(found) - found
    points = order[np.repeat(low - before, found) + np.arange(int(found.sum()))]
    return {k: points}, np.repeat(np.arange(count), found)
