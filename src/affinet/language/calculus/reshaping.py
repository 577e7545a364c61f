"""Terms with output axes merged and split, as a row-major reshape does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from affinet.language.calculus.axes import output_of, relabel, set_start, spell_out, start_at
from affinet.language.calculus.fusing import collapse, fuse
from affinet.language.calculus.maps import added, scaled
from affinet.language.calculus.terms import Factor, Map, Term, Variable, narrow, row_major_steps, table

Groups = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""Runs of old axes and the runs of new axes that hold the same entries."""


def reshape(term: Term, old: Sequence[int], new: Sequence[int]) -> Term:
    """The term of an output of shape `old`, read in row-major order as shape `new`; neither has an axis of size 0.

    Law: strided variables stay strided where the new axes begin at multiples of the old ones' steps, and an axis that
    was broadcast and is not merged into others stays broadcast. Otherwise the axes in question get tables.
    """
    kept, wanted = [a for a, n in enumerate(old) if n != 1], [a for a, n in enumerate(new) if n != 1]
    places: list[int | None] = [None] * len(old)
    for place, axis in enumerate(kept):
        places[axis] = place
    term = relabel(term, places, len(kept))
    sizes, target = [old[a] for a in kept], [new[a] for a in wanted]
    groups = _groups(sizes, target)
    for number, (merged, _) in enumerate(groups):
        term = _merge(term, number, [sizes[a] for a in merged])
    for number, (_, split) in reversed(list(enumerate(groups))):
        term = _split(term, number, [target[a] for a in split])
    return relabel(_broadcast_again(term, target), wanted, len(new))


def _groups(old: Sequence[int], new: Sequence[int]) -> Groups:
    groups: Groups = []
    i = j = 0
    while i < len(old):
        first, second = i, j
        left, right = old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        groups.append((tuple(range(first, i)), tuple(range(second, j))))
    return groups


def _merge(term: Term, axis: int, sizes: Sequence[int]) -> Term:
    """Axes `axis`, `axis + 1`, … of these sizes become the one axis `axis`."""
    run = range(axis, axis + len(sizes))
    places = [a if a < axis else axis if a in run else a - len(sizes) + 1 for a in range(len(term.start))]
    axes = len(term.start) - len(sizes) + 1
    if len(sizes) == 1:
        return term
    if all(term.start[a] is None for a in run):
        return relabel(term, places, axes)
    for a, size in zip(run, sizes, strict=True):
        term = spell_out(term, a, size)
    steps = dict(zip(run, row_major_steps(tuple(sizes)), strict=True))
    start = sum(start_at(term, a) * step for a, step in steps.items())
    variables = tuple(_merged_outputs(variable, axis, steps) for variable in term.variables)
    term = relabel(replace(term, variables=variables), places, axes)
    return collapse(set_start(term, axis, start), axis)


def _merged_outputs(variable: Variable, axis: int, steps: dict[int, int]) -> Variable:
    rest = [(a, m) for a, m in variable.outputs if a not in steps]
    merged: Map | None = None
    for a, m in variable.outputs:
        if a in steps:
            part = scaled(m, steps[a])
            merged = part if merged is None else added(merged, part, variable.size)
    return variable if merged is None else replace(variable, outputs=(*rest, (axis, merged)))


def _split(term: Term, axis: int, sizes: Sequence[int]) -> Term:
    """Axis `axis` becomes the axes `axis`, `axis + 1`, … of these sizes."""
    if len(sizes) == 1:
        return term
    wider = [a if a <= axis else a + len(sizes) - 1 for a in range(len(term.start))]
    start, axes = term.start[axis], len(term.start) + len(sizes) - 1
    if start is None:
        return relabel(term, wider, axes)
    steps = row_major_steps(tuple(sizes))
    refined = _refined(term, axis, steps)
    if refined is None or not _without_carry(refined, axis, sizes):
        term = fuse(term, term.variables_on(axis))
        return _unravelled(relabel(term, wider, axes), axis, sizes)
    term = relabel(refined, wider, axes)
    for place, digit in enumerate(np.unravel_index(start, sizes)):
        term = set_start(term, axis + place, int(digit))
    variables = tuple(_on_its_digit(variable, axis, steps) for variable in term.variables)
    return replace(term, variables=variables)


def _refined(term: Term, axis: int, steps: Sequence[int]) -> Term | None:
    """Every variable on the axis broken so that each piece moves along one of the new axes only; None if impossible."""
    for k in term.variables_on(axis):
        variable, step = term.variables[k], output_of(term, k, axis)
        if not isinstance(step, int) or step <= 0 or not isinstance(variable.source, int) or len(variable.outputs) > 1:
            return None
        pieces = _pieces(variable.size, step, steps)
        if pieces is None:
            return None
        if len(pieces) > 1:
            term = _broken(term, k, pieces)
    return term


def _pieces(size: int, step: int, steps: Sequence[int]) -> list[int] | None:
    """The sizes, outer first, of the pieces of a progression between the multiples `steps`; None if it does not fit."""
    if step % max(unit for unit in steps if unit <= step):
        return None
    inner_first = []
    for unit in sorted(unit for unit in steps if step < unit < step * size):
        if unit % step or size % (unit // step):
            return None
        inner_first.append(unit // step)
        size, step = size // (unit // step), unit
    return [*([size] if size > 1 else []), *reversed(inner_first)]


def _broken(term: Term, k: int, sizes: Sequence[int]) -> Term:
    """Variable `k`, a strided one, as several: the first keeps its number, the others come last."""
    variable, extra = term.variables[k], len(term.variables)
    ((axis, step),), source = variable.outputs, variable.source
    assert isinstance(source, int), "a plain strided variable"
    assert isinstance(step, int), "a plain strided variable"
    units = row_major_steps(tuple(sizes))
    parts = [Variable(n, source * unit, ((axis, step * unit),)) for n, unit in zip(sizes, units, strict=True)]
    numbers = (k, *range(extra, extra + len(sizes) - 1))
    factors = tuple(_broken_factor(f, k, numbers, sizes) if k in f.variables else f for f in term.factors)
    variables = (*term.variables[:k], parts[0], *term.variables[k + 1 :], *parts[1:])
    return replace(term, variables=variables, factors=factors)


def _broken_factor(factor: Factor, k: int, numbers: tuple[int, ...], sizes: Sequence[int]) -> Factor:
    at = factor.variables.index(k)
    shape = (*factor.values.shape[:at], *sizes, *factor.values.shape[at + 1 :])
    return Factor((*factor.variables[:at], *numbers, *factor.variables[at + 1 :]), factor.values.reshape(shape))


def _without_carry(term: Term, axis: int, sizes: Sequence[int]) -> bool:
    """Whether the digits of all positions along the axis add up without reaching the size of their new axis."""
    reach = [int(digit) for digit in np.unravel_index(start_at(term, axis), sizes)]
    steps = row_major_steps(tuple(sizes))
    for k in term.variables_on(axis):
        step = output_of(term, k, axis)
        assert isinstance(step, int), "a strided variable"
        digit = _digit(step, steps)
        reach[digit] += step // steps[digit] * (term.variables[k].size - 1)
    return all(top < size for top, size in zip(reach, sizes, strict=True))


def _digit(step: int, steps: Sequence[int]) -> int:
    return next(digit for digit, unit in enumerate(steps) if unit <= step)


def _on_its_digit(variable: Variable, axis: int, steps: Sequence[int]) -> Variable:
    outputs: list[tuple[int, Map]] = []
    for a, step in variable.outputs:
        if a == axis:
            assert isinstance(step, int), "a strided variable"
            digit = _digit(step, steps)
            outputs.append((axis + digit, step // steps[digit]))
        else:
            outputs.append((a, step))
    return replace(variable, outputs=tuple(outputs))


def _unravelled(term: Term, axis: int, sizes: Sequence[int]) -> Term:
    """The last variable, alone on `axis`, moves along all the new axes by tables."""
    variable = term.variables[-1]
    reached = table(output_of(term, len(term.variables) - 1, axis), variable.size) + np.int64(start_at(term, axis))
    outputs = [(a, m) for a, m in variable.outputs if a != axis]
    for place, digits in enumerate(np.unravel_index(reached, sizes)):
        term = set_start(term, axis + place, 0)
        outputs.append((axis + place, narrow(digits)))
    return replace(term, variables=(*term.variables[:-1], replace(variable, outputs=tuple(outputs))))


def _broadcast_again(term: Term, shape: Sequence[int]) -> Term:
    """Variables that read nothing and only fill an axis are taken out; the axis is broadcast."""
    weighed = {k for factor in term.factors for k in factor.variables}
    for k in reversed(range(len(term.variables))):
        variable = term.variables[k]
        if k in weighed or not isinstance(variable.source, int) or variable.source or len(variable.outputs) != 1:
            continue
        axis, step = variable.outputs[0]
        if isinstance(step, int) and variable.size == shape[axis] and term.variables_on(axis) == [k]:
            factors = tuple(Factor(tuple(q - (q > k) for q in f.variables), f.values) for f in term.factors)
            term = replace(term, variables=(*term.variables[:k], *term.variables[k + 1 :]), factors=factors)
            term = set_start(term, axis, None)
    return term
