"""Merge and split the output axes of a term, as a row-major reshape does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from affinet.language.calculus.axes import output_of, relabel, set_start, spell_out, start_at
from affinet.language.calculus.fusing import collapse, fuse
from affinet.language.calculus.maps import add_maps, scale_map
from affinet.language.calculus.terms import Factor, Map, Term, Variable, narrow, row_major_steps, table

Groups = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""Pairs of a run of old axes and the run of new axes that holds the same entries."""


def reshape(term: Term, old: Sequence[int], new: Sequence[int]) -> Term:
    """Read a term of output shape `old` in row-major order as shape `new`; neither has an axis of size 0.

    Law: strided variables stay strided where the new axes begin at multiples of the old ones' steps, and an axis that
    was broadcast and is not merged into others stays broadcast. Otherwise the axes concerned get tables.
    """
    # Axes of size one hold no information: they are dropped first and put back last.
    old_axes, new_axes = [a for a, n in enumerate(old) if n != 1], [a for a, n in enumerate(new) if n != 1]
    places: list[int | None] = [None] * len(old)
    for place, axis in enumerate(old_axes):
        places[axis] = place
    term = relabel(term, places, len(old_axes))
    sizes, target = [old[a] for a in old_axes], [new[a] for a in new_axes]
    groups = _groups(sizes, target)
    for number, (merged, _) in enumerate(groups):
        term = _merge(term, number, [sizes[a] for a in merged])
    for number, (_, split) in reversed(list(enumerate(groups))):
        term = _split(term, number, [target[a] for a in split])
    return relabel(_restore_broadcast(term, target), new_axes, len(new))


def _groups(old: Sequence[int], new: Sequence[int]) -> Groups:
    groups: Groups = []
    i = j = 0
    while i < len(old):
        first_old, first_new = i, j
        old_size, new_size = old[i], new[j]
        i, j = i + 1, j + 1
        while old_size != new_size:
            if old_size < new_size:
                old_size, i = old_size * old[i], i + 1
            else:
                new_size, j = new_size * new[j], j + 1
        groups.append((tuple(range(first_old, i)), tuple(range(first_new, j))))
    return groups


def _merge(term: Term, axis: int, sizes: Sequence[int]) -> Term:
    """Merge the axes `axis`, `axis + 1`, … of these sizes into the one axis `axis`."""
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
    variables = tuple(_merge_outputs(variable, axis, steps) for variable in term.variables)
    term = relabel(replace(term, variables=variables), places, axes)
    return collapse(set_start(term, axis, start), axis)


def _merge_outputs(variable: Variable, axis: int, steps: dict[int, int]) -> Variable:
    other_outputs = [(a, m) for a, m in variable.outputs if a not in steps]
    merged: Map | None = None
    for a, m in variable.outputs:
        if a in steps:
            part = scale_map(m, steps[a])
            merged = part if merged is None else add_maps(merged, part, variable.size)
    return variable if merged is None else replace(variable, outputs=(*other_outputs, (axis, merged)))


def _split(term: Term, axis: int, sizes: Sequence[int]) -> Term:
    """Split axis `axis` into the axes `axis`, `axis + 1`, … of these sizes."""
    if len(sizes) == 1:
        return term
    places_after = [a if a <= axis else a + len(sizes) - 1 for a in range(len(term.start))]
    start, axes = term.start[axis], len(term.start) + len(sizes) - 1
    if start is None:
        return relabel(term, places_after, axes)
    steps = row_major_steps(tuple(sizes))
    refined = _refine(term, axis, steps)
    if refined is None or not _adds_without_carry(refined, axis, sizes):
        term = fuse(term, term.variables_on(axis))
        return _unravel(relabel(term, places_after, axes), axis, sizes)
    term = relabel(refined, places_after, axes)
    for place, digit in enumerate(np.unravel_index(start, sizes)):
        term = set_start(term, axis + place, int(digit))
    variables = tuple(_move_to_digit(variable, axis, steps) for variable in term.variables)
    return replace(term, variables=variables)


def _refine(term: Term, axis: int, steps: Sequence[int]) -> Term | None:
    """Break every variable on the axis into pieces that move along one new axis each; None where that is impossible."""
    for k in term.variables_on(axis):
        variable, step = term.variables[k], output_of(term, k, axis)
        if not isinstance(step, int) or step <= 0 or not isinstance(variable.source, int) or len(variable.outputs) > 1:
            return None
        pieces = _pieces(variable.size, step, steps)
        if pieces is None:
            return None
        if len(pieces) > 1:
            term = _break_variable(term, k, pieces)
    return term


def _pieces(size: int, step: int, steps: Sequence[int]) -> list[int] | None:
    """The sizes, outer first, of the pieces into which multiples of `steps` cut a progression; None if they do not."""
    if step % max(unit for unit in steps if unit <= step):
        return None
    inner_first = []
    for unit in sorted(unit for unit in steps if step < unit < step * size):
        if unit % step or size % (unit // step):
            return None
        inner_first.append(unit // step)
        size, step = size // (unit // step), unit
    return [*([size] if size > 1 else []), *reversed(inner_first)]


def _break_variable(term: Term, k: int, sizes: Sequence[int]) -> Term:
    """Replace the strided variable `k` by several: the first keeps its number, the others come last."""
    variable, next_number = term.variables[k], len(term.variables)
    ((axis, step),), source = variable.outputs, variable.source
    assert isinstance(source, int), "a plain strided variable"
    assert isinstance(step, int), "a plain strided variable"
    units = row_major_steps(tuple(sizes))
    parts = [Variable(n, source * unit, ((axis, step * unit),)) for n, unit in zip(sizes, units, strict=True)]
    numbers = (k, *range(next_number, next_number + len(sizes) - 1))
    factors = tuple(_break_factor(f, k, numbers, sizes) if k in f.variables else f for f in term.factors)
    variables = (*term.variables[:k], parts[0], *term.variables[k + 1 :], *parts[1:])
    return replace(term, variables=variables, factors=factors)


def _break_factor(factor: Factor, k: int, numbers: tuple[int, ...], sizes: Sequence[int]) -> Factor:
    place = factor.variables.index(k)
    shape = (*factor.values.shape[:place], *sizes, *factor.values.shape[place + 1 :])
    return Factor((*factor.variables[:place], *numbers, *factor.variables[place + 1 :]), factor.values.reshape(shape))


def _adds_without_carry(term: Term, axis: int, sizes: Sequence[int]) -> bool:
    """Whether no position along the axis carries: its digits add up to less than the sizes of the new axes."""
    highest = [int(digit) for digit in np.unravel_index(start_at(term, axis), sizes)]
    steps = row_major_steps(tuple(sizes))
    for k in term.variables_on(axis):
        step = output_of(term, k, axis)
        assert isinstance(step, int), "a strided variable"
        digit = _digit_of(step, steps)
        highest[digit] += step // steps[digit] * (term.variables[k].size - 1)
    return all(digit_value < size for digit_value, size in zip(highest, sizes, strict=True))


def _digit_of(step: int, steps: Sequence[int]) -> int:
    return next(digit for digit, unit in enumerate(steps) if unit <= step)


def _move_to_digit(variable: Variable, axis: int, steps: Sequence[int]) -> Variable:
    outputs: list[tuple[int, Map]] = []
    for a, step in variable.outputs:
        if a == axis:
            assert isinstance(step, int), "a strided variable"
            digit = _digit_of(step, steps)
            outputs.append((axis + digit, step // steps[digit]))
        else:
            outputs.append((a, step))
    return replace(variable, outputs=tuple(outputs))


def _unravel(term: Term, axis: int, sizes: Sequence[int]) -> Term:
    """Let the last variable, the only one on `axis`, move along all the new axes by tables."""
    variable = term.variables[-1]
    reached = table(output_of(term, len(term.variables) - 1, axis), variable.size) + np.int64(start_at(term, axis))
    outputs = [(a, m) for a, m in variable.outputs if a != axis]
    for place, digits in enumerate(np.unravel_index(reached, sizes)):
        term = set_start(term, axis + place, 0)
        outputs.append((axis + place, narrow(digits)))
    return replace(term, variables=(*term.variables[:-1], replace(variable, outputs=tuple(outputs))))


def _restore_broadcast(term: Term, shape: Sequence[int]) -> Term:
    """Remove the variables that read nothing and only fill an axis, and broadcast that axis."""
    weighted = {k for factor in term.factors for k in factor.variables}
    for k in reversed(range(len(term.variables))):
        variable = term.variables[k]
        if k in weighted or not isinstance(variable.source, int) or variable.source or len(variable.outputs) != 1:
            continue
        axis, step = variable.outputs[0]
        if isinstance(step, int) and variable.size == shape[axis] and term.variables_on(axis) == [k]:
            factors = tuple(Factor(tuple(q - (q > k) for q in f.variables), f.values) for f in term.factors)
            term = replace(term, variables=(*term.variables[:k], *term.variables[k + 1 :]), factors=factors)
            term = set_start(term, axis, None)
    return term
