"""Rules that fix entries: each equation is about one entry, which the rule reads at regular places or by a mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from affinet.blocks.entry_sets import Intervals, Masked, View, box_in, set_of_mask, set_of_positions
from affinet.blocks.fixed import Fixed
from affinet.blocks.offsets import Nest, mixed_radix
from affinet.language.affine import Values
from affinet.language.calculus.marked import Marked
from affinet.language.calculus.terms import Floats, Integers, Term, Variable, table
from affinet.language.expression import Expression
from affinet.language.forecast import forecast
from affinet.planning.reading.sections import sections
from affinet.system.system import Rule


@dataclass(frozen=True, eq=False)
class Fixing:
    """What a rule, or a section of it, fixes.

    `scale` leads from `w − value` back to what the user wrote, one number for all. `whole` says that the places of
    the block are the equations of the rule, in their order. `size` is what the rounding of the values is relative to,
    one number for each place of the block or one for all; None where that is their own size (frozen weights cancel).
    """

    block: Fixed
    scale: float
    whole: bool
    size: Values | None = None


def read_fixings(rule: Rule, number: int, cancellation: float) -> list[Fixing] | None:
    """What a rule fixes, by section; None where one of its equations is about more or less than one entry."""
    expression = rule.expression
    if not expression.size or not expression.terms or any(term.scalar == 0.0 for term in expression.terms):
        return None
    parts = sections(expression)
    if rule.size is not None and (len(parts) > 1 or len(expression.terms) > 1):
        return None
    found = []
    for part in parts:
        one = _read(part, number, cancellation)
        if one is None:
            return None
        found.append(one if len(parts) == 1 else replace(one, whole=False))
    if rule.size is None:
        return found
    (one,) = found
    size = rule.size if one.scale == 1.0 else rule.size / one.scale
    size = size if isinstance(size, float) else np.broadcast_to(size, expression.shape).reshape(-1)
    return [replace(one, size=size)] if one.whole else None


def _read(expression: Expression, number: int, cancellation: float) -> Fixing | None:
    """A section of one term per equation, or of terms that read the same entries with coefficients."""
    terms = expression.terms
    axes = [axis for axis, n in enumerate(expression.shape) if n > 1]
    loops = _loops(terms[0], axes, expression.shape)
    if loops is None:
        return None
    if len(terms) > 1 or terms[0].factors:
        return _with_coefficients(expression, axes, loops, number, cancellation)
    term = terms[0]
    stored, negated = _stored(expression, axes, term.scalar)
    if all(isinstance(loop.source, int) for loop in loops):
        view = _view(term, loops)
        if view is None:
            return None
        turned = tuple(axis for axis, (_, step) in enumerate(view.dims) if step < 0)
        if turned and not isinstance(stored, float):
            stored = np.flip(stored, turned)
        block = Fixed(term.parameter, _rising(view), stored, negated, (number,))
        return Fixing(block, abs(term.scalar), whole=not turned)
    found = _of_tables(term, loops, stored, negated, number)
    return None if found is None else Fixing(found[0], abs(term.scalar), whole=found[1])


def _loops(term: Term, axes: list[int], shape: tuple[int, ...]) -> list[Variable] | None:
    """The loops of a term in the order of the output axes; None unless each runs over one whole axis."""
    by_axis: dict[int, Variable] = {}
    for variable in term.variables:
        if len(variable.outputs) != 1 or (isinstance(variable.source, int) and variable.source == 0):
            return None
        axis, step = variable.outputs[0]
        if not isinstance(step, int) or step != 1 or axis in by_axis or variable.size != shape[axis]:
            return None
        by_axis[axis] = variable
    if sorted(by_axis) != axes or any(term.start[axis] != 0 for axis in axes):
        return None
    return [by_axis[axis] for axis in axes]


def _view(term: Term, loops: list[Variable]) -> View | None:
    dims = tuple((loop.size, loop.source) for loop in loops if isinstance(loop.source, int))
    return View(term.parameter, term.offset, dims) if mixed_radix(Nest(dims), Nest(())) else None


def _rising(view: View) -> View:
    """The same entries by loops of positive steps."""
    low = sum(step * (size - 1) for size, step in view.dims if step < 0)
    return View(view.parameter, view.offset + low, tuple((size, abs(step)) for size, step in view.dims))


def _stored(expression: Expression, axes: list[int], scalar: float) -> tuple[float | Floats, bool]:
    """The value of all, or the values by axis, and whether they are minus those: the rule's own array where it can."""
    constant = expression.constant
    if isinstance(constant, float):
        return 0.0 - constant / scalar, False
    held = constant.reshape(tuple(constant.shape[axis] for axis in axes))
    if abs(scalar) == 1.0:
        return held, scalar > 0
    return 0.0 - held.astype(np.float64) / scalar, False


def _of_tables(
    term: Term, loops: list[Variable], stored: float | Floats, negated: bool, number: int
) -> tuple[Fixed, bool] | None:
    """Loops of which one at least visits a mask or a table of places, and whether these rise."""
    entries = term.parameter.size
    if (places := _rows_of_mask(term, loops)) is not None:
        whole = stored if isinstance(stored, float) else np.broadcast_to(stored, [loop.size for loop in loops])
        flat = whole if isinstance(whole, float) else whole.reshape(-1)
        return Fixed(term.parameter, places, flat, negated, (number,)), True
    size = prod(loop.size for loop in loops)
    forecast("the positions of fixed entries, one by one,", size)
    positions: Integers = np.full(1, term.offset, np.int64)
    for loop in loops:
        positions = (positions[:, None] + table(loop.source, loop.size)).ravel()
    values = None if isinstance(stored, float) else np.broadcast_to(stored, [loop.size for loop in loops]).reshape(-1)
    rising = bool((np.diff(positions) > 0).all())
    if not rising:
        order = np.argsort(positions, kind="stable")
        positions = positions[order]
        values = None if values is None else values[order]
        if (np.diff(positions) == 0).any():
            return None
    places = set_of_positions(positions, entries)
    return Fixed(term.parameter, places, stored if values is None else values, negated, (number,)), rising


def _rows_of_mask(term: Term, loops: list[Variable]) -> Intervals | Masked | None:
    """The set where a mask is over neighbouring entries or over rows of them; None where it is another."""
    marked = loops[0].source
    if not isinstance(marked, Marked) or marked.step < 1:
        return None
    inner = Nest(tuple((loop.size, loop.source) for loop in loops[1:] if isinstance(loop.source, int)))
    dims = inner.dims
    if len(dims) < len(loops) - 1 or inner.size != marked.step or not mixed_radix(inner, Nest(())):
        return None
    if sorted(dims, key=lambda dim: -dim[1]) != list(dims) or inner.bounds() != (0, inner.size - 1):
        return None
    mask = marked.mask()
    if marked.step > 1:
        found = set_of_mask(mask)
        if isinstance(found, Intervals):
            return Intervals(term.offset + found.first * marked.step, term.offset + found.last * marked.step)
    forecast("the mask of fixed entries", term.parameter.size, item_bytes=1)
    spread = mask if marked.step == 1 else np.repeat(mask, marked.step)
    if term.offset or len(spread) < term.parameter.size:
        whole = np.zeros(term.parameter.size, bool)
        reach = min(len(spread), term.parameter.size - term.offset)
        whole[term.offset : term.offset + reach] = spread[:reach]
        spread = whole
    return set_of_mask(spread)


def _with_coefficients(
    expression: Expression, axes: list[int], loops: list[Variable], number: int, cancellation: float
) -> Fixing | None:
    """Terms that all read one box, such as `mask * w` and bands: entries whose coefficient is not zero are fixed."""
    first = expression.terms[0]
    view = _view(first, loops) if all(isinstance(loop.source, int) for loop in loops) else None
    if view is None or not all(_reads(term, view, axes, expression.shape) for term in expression.terms[1:]):
        return None
    shape = tuple(expression.shape[axis] for axis in axes)
    forecast(f"the coefficients of ({expression}), one for each equation,", prod(shape), item_bytes=24)
    total, size = np.zeros(shape), np.zeros(shape) if len(expression.terms) > 1 else None
    for term in expression.terms:
        numbers = _coefficients(term, axes, shape)
        total += numbers
        if size is not None:
            size += np.abs(numbers)
    chosen = total != 0.0 if size is None else np.abs(total) > cancellation * size
    constant = np.asarray(expression.constant, np.float64)
    right = constant.reshape(tuple(constant.shape[axis] for axis in axes)) if constant.ndim else constant
    used = np.abs(total[chosen])
    if not chosen.any() or np.any(np.where(chosen, 0.0, right)) or (used != used[0]).any():
        return None
    forecast("the mask of fixed entries", first.parameter.size, item_bytes=1)
    mask = np.zeros(first.parameter.size, bool)
    box_in(mask, view)[...] = chosen
    stored: float | Floats = 0.0
    if right.any():
        every = np.zeros(first.parameter.size)
        box_in(every, view)[...] = np.where(chosen, 0.0 - right / np.where(chosen, total, 1.0), 0.0)
        stored = every[mask]
    return Fixing(Fixed(first.parameter, set_of_mask(mask), stored, False, (number,)), float(used[0]), whole=False)


def _reads(term: Term, view: View, axes: list[int], shape: tuple[int, ...]) -> bool:
    """Whether a term reads the same box, entry by entry."""
    loops = _loops(term, axes, shape) if term.parameter == view.parameter else None
    return loops is not None and all(isinstance(loop.source, int) for loop in loops) and _view(term, loops) == view


def _coefficients(term: Term, axes: list[int], shape: tuple[int, ...]) -> Floats:
    """The coefficient of every equation; a view that repeats where factors do not depend on an axis."""
    axis_of = {k: axes.index(variable.outputs[0][0]) for k, variable in enumerate(term.variables)}
    numbers: Floats = np.full((1,) * len(shape), term.scalar)
    for factor in term.factors:
        order = sorted(range(len(factor.variables)), key=lambda at: axis_of[factor.variables[at]])
        held = [shape[axis] if axis in {axis_of[k] for k in factor.variables} else 1 for axis in range(len(shape))]
        numbers = numbers * factor.values.transpose(order).reshape(held)
    return np.broadcast_to(numbers, shape)


__all__ = ["Fixing", "read_fixings"]
