"""Read rules that fix entries: each of their equations has one entry, read at regular places or by a mask."""

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
    """The entries that a rule, or a section of it, fixes, with their values.

    `scale` times `w − value` is the equation that the user wrote, up to its sign. `in_order` says that the places of
    the block are the equations of the rule, in their order. `size` is the magnitude that the rounding of the values is
    relative to, per place of the block or one number for all (frozen weights may cancel); None if it is their own.
    """

    block: Fixed
    scale: float
    in_order: bool
    size: Values | None = None


def read_fixings(rule: Rule, number: int, cancellation: float) -> list[Fixing] | None:
    """The entries that a rule fixes, by section; None if one of its equations does not have exactly one entry."""
    expression = rule.expression
    if not expression.size or not expression.terms or any(term.scalar == 0.0 for term in expression.terms):
        return None
    parts = sections(expression)
    if rule.size is not None and (len(parts) > 1 or len(expression.terms) > 1):
        return None
    fixings = []
    for part in parts:
        fixing = _read_section(part, number, cancellation)
        if fixing is None:
            return None
        fixings.append(fixing if len(parts) == 1 else replace(fixing, in_order=False))
    if rule.size is None:
        return fixings
    (fixing,) = fixings
    size = rule.size if fixing.scale == 1.0 else rule.size / fixing.scale
    size = size if isinstance(size, float) else np.broadcast_to(size, expression.shape).reshape(-1)
    return [replace(fixing, size=size)] if fixing.in_order else None


def _read_section(expression: Expression, number: int, cancellation: float) -> Fixing | None:
    """Read a section with one term per equation, or with terms that read the same entries with coefficients."""
    terms = expression.terms
    axes = [axis for axis, n in enumerate(expression.shape) if n > 1]
    loops = _find_loops(terms[0], axes, expression.shape)
    if loops is None:
        return None
    if len(terms) > 1 or terms[0].factors:
        return _read_coefficients(expression, axes, loops, number, cancellation)
    term = terms[0]
    stored, negated = _find_values(expression, axes, term.scalar)
    if all(isinstance(loop.source, int) for loop in loops):
        view = _find_view(term, loops)
        if view is None:
            return None
        flipped_axes = tuple(axis for axis, (_, step) in enumerate(view.dims) if step < 0)
        if flipped_axes and not isinstance(stored, float):
            stored = np.flip(stored, flipped_axes)
        block = Fixed(term.parameter, _make_ascending(view), stored, negated, (number,))
        return Fixing(block, abs(term.scalar), in_order=not flipped_axes)
    fixed_by_tables = _read_tables(term, loops, stored, negated, number)
    return (
        None if fixed_by_tables is None else Fixing(fixed_by_tables[0], abs(term.scalar), in_order=fixed_by_tables[1])
    )


def _find_loops(term: Term, axes: list[int], shape: tuple[int, ...]) -> list[Variable] | None:
    """The loops of a term in the order of the output axes; None unless each covers exactly one axis."""
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


def _find_view(term: Term, loops: list[Variable]) -> View | None:
    dims = tuple((loop.size, loop.source) for loop in loops if isinstance(loop.source, int))
    return View(term.parameter, term.offset, dims) if mixed_radix(Nest(dims), Nest(())) else None


def _make_ascending(view: View) -> View:
    """The same entries, by loops with positive steps."""
    low = sum(step * (size - 1) for size, step in view.dims if step < 0)
    return View(view.parameter, view.offset + low, tuple((size, abs(step)) for size, step in view.dims))


def _find_values(expression: Expression, axes: list[int], scalar: float) -> tuple[float | Floats, bool]:
    """One value or an array by axis, where possible the array of the rule, and whether the values are its negative."""
    constant = expression.constant
    if isinstance(constant, float):
        return 0.0 - constant / scalar, False
    values = constant.reshape(tuple(constant.shape[axis] for axis in axes))
    if abs(scalar) == 1.0:
        return values, scalar > 0
    return 0.0 - values.astype(np.float64) / scalar, False


def _read_tables(
    term: Term, loops: list[Variable], stored: float | Floats, negated: bool, number: int
) -> tuple[Fixed, bool] | None:
    """Read loops of which at least one visits a mask or a table of places; True if the places ascend."""
    entries = term.parameter.size
    if (places := _read_mask_rows(term, loops)) is not None:
        sizes = [loop.size for loop in loops]
        flat = stored if isinstance(stored, float) else np.broadcast_to(stored, sizes).reshape(-1)
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


def _read_mask_rows(term: Term, loops: list[Variable]) -> Intervals | Masked | None:
    """The set of entries if a mask selects neighbouring entries or rows of them; None for other masks."""
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
        row_set = set_of_mask(mask)
        if isinstance(row_set, Intervals):
            return Intervals(term.offset + row_set.first * marked.step, term.offset + row_set.last * marked.step)
    forecast("the mask of fixed entries", term.parameter.size, item_bytes=1)
    entry_mask = mask if marked.step == 1 else np.repeat(mask, marked.step)
    if term.offset or len(entry_mask) < term.parameter.size:
        full_mask = np.zeros(term.parameter.size, bool)
        length = min(len(entry_mask), term.parameter.size - term.offset)
        full_mask[term.offset : term.offset + length] = entry_mask[:length]
        entry_mask = full_mask
    return set_of_mask(entry_mask)


def _read_coefficients(
    expression: Expression, axes: list[int], loops: list[Variable], number: int, cancellation: float
) -> Fixing | None:
    """Read terms over the same box, such as `mask * w` and bands: entries with a nonzero coefficient are fixed."""
    first = expression.terms[0]
    view = _find_view(first, loops) if all(isinstance(loop.source, int) for loop in loops) else None
    if view is None or not all(_reads_view(term, view, axes, expression.shape) for term in expression.terms[1:]):
        return None
    shape = tuple(expression.shape[axis] for axis in axes)
    forecast(f"the coefficients of ({expression}), one for each equation,", prod(shape), item_bytes=24)
    total, size = np.zeros(shape), np.zeros(shape) if len(expression.terms) > 1 else None
    for term in expression.terms:
        numbers = _expand_coefficients(term, axes, shape)
        total += numbers
        if size is not None:
            size += np.abs(numbers)
    fixed_entries = total != 0.0 if size is None else np.abs(total) > cancellation * size
    constant = np.asarray(expression.constant, np.float64)
    constants = constant.reshape(tuple(constant.shape[axis] for axis in axes)) if constant.ndim else constant
    used = np.abs(total[fixed_entries])
    if not fixed_entries.any() or np.any(np.where(fixed_entries, 0.0, constants)) or (used != used[0]).any():
        return None
    forecast("the mask of fixed entries", first.parameter.size, item_bytes=1)
    mask = np.zeros(first.parameter.size, bool)
    box_in(mask, view)[...] = fixed_entries
    stored: float | Floats = 0.0
    if constants.any():
        values_by_entry = np.zeros(first.parameter.size)
        box_in(values_by_entry, view)[...] = np.where(
            fixed_entries, 0.0 - constants / np.where(fixed_entries, total, 1.0), 0.0
        )
        stored = values_by_entry[mask]
    return Fixing(Fixed(first.parameter, set_of_mask(mask), stored, False, (number,)), float(used[0]), in_order=False)


def _reads_view(term: Term, view: View, axes: list[int], shape: tuple[int, ...]) -> bool:
    """Whether a term reads the same box, entry by entry."""
    loops = _find_loops(term, axes, shape) if term.parameter == view.parameter else None
    return loops is not None and all(isinstance(loop.source, int) for loop in loops) and _find_view(term, loops) == view


def _expand_coefficients(term: Term, axes: list[int], shape: tuple[int, ...]) -> Floats:
    """The coefficient of every equation, as a view that repeats along axes on which the factors do not depend."""
    axis_of = {k: axes.index(variable.outputs[0][0]) for k, variable in enumerate(term.variables)}
    numbers: Floats = np.full((1,) * len(shape), term.scalar)
    for factor in term.factors:
        order = sorted(range(len(factor.variables)), key=lambda at: axis_of[factor.variables[at]])
        shape_of_factor = [
            shape[axis] if axis in {axis_of[k] for k in factor.variables} else 1 for axis in range(len(shape))
        ]
        numbers = numbers * factor.values.transpose(order).reshape(shape_of_factor)
    return np.broadcast_to(numbers, shape)


__all__ = ["Fixing", "read_fixings"]
