"""Apply a checked index to an expression and order the axes of the result by NumPy's rule for index arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import TypeAlias

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, assemble
from affinet.language.calculus.axes import relabel
from affinet.language.calculus.reshaping import reshape
from affinet.language.calculus.selecting import cut, gather
from affinet.language.calculus.terms import Integers, Term
from affinet.language.forecast import forecast
from affinet.language.wording import Wording, say

Item: TypeAlias = int | slice | Integers | None
"""One axis of a checked index: a position, a slice, a new axis, or an array of positions; no position is negative."""

Part: TypeAlias = int | EllipsisType | None
"""The origin of axes of the result: a sliced axis of the source, a new axis (None), or (`...`) the index arrays."""


@dataclass(frozen=True, slots=True)
class Group:
    """Index arrays on `axes` that vary along common axes, the axes `spans` of the broadcast shape of all arrays.

    Arrays of different groups vary independently, as those of `numpy.ix_` do, so the tables of a group have only the
    length of that group.
    """

    axes: tuple[int, ...]
    indices: tuple[Integers, ...]
    spans: tuple[int, ...]


def select(affine: Affine, items: Sequence[Item], wording: Wording) -> Affine:
    """`affine[items]` for one item per axis and any number of new axes."""
    by_axis = dict(enumerate(item for item in items if item is not None))
    arrays = {axis: item for axis, item in by_axis.items() if isinstance(item, np.ndarray)}
    broadcast_shape = _broadcast_shape(arrays, wording)
    groups = _groups(arrays, broadcast_shape)
    ranges = {a: range(affine.shape[a])[item] for a, item in by_axis.items() if isinstance(item, slice)}
    single_positions = {a: int(item.reshape(())) for a, item in arrays.items() if item.size == 1}
    picks = {a: item for a, item in by_axis.items() if isinstance(item, int)} | single_positions
    cuts = ranges | {a: range(position, position + 1) for a, position in picks.items()}
    parts = _result_parts(items, bool(arrays))
    shape = [n for part in parts for n in (_sizes(part, ranges, broadcast_shape))]
    if 0 in shape:
        return assemble(shape, (), 0.0, affine.epsilon, wording)
    terms = [
        _place_axes(_take_positions(term, affine.shape, cuts, groups), ranges, groups, broadcast_shape, parts)
        for term in affine.terms
    ]
    constant = affine.constant
    if not isinstance(constant, float):
        if arrays:
            forecast("the constants of this selection", prod(shape))
        constant = np.broadcast_to(constant, affine.shape)[tuple(items)]
    return assemble(shape, terms, constant, affine.epsilon, wording)


def _broadcast_shape(arrays: Mapping[int, Integers], wording: Wording) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in arrays.values())
        raise ShapeError(
            f"the index arrays in ({say(wording)}) have shapes {shapes}, which do not broadcast."
        ) from None


def _groups(arrays: Mapping[int, Integers], broadcast_shape: tuple[int, ...]) -> list[Group]:
    spans = {axis: _spanned_axes(array, broadcast_shape) for axis, array in arrays.items() if array.size != 1}
    groups: list[tuple[set[int], set[int]]] = []
    for axis, spanned in spans.items():
        overlapping = [group for group in groups if group[1] & spanned]
        groups = [group for group in groups if group not in overlapping]
        groups.append(
            ({axis}.union(*(group[0] for group in overlapping)), spanned.union(*(group[1] for group in overlapping)))
        )
    return [_group(sorted(axes), sorted(spanned), arrays, broadcast_shape) for axes, spanned in groups]


def _spanned_axes(array: Integers, broadcast_shape: tuple[int, ...]) -> set[int]:
    leading = len(broadcast_shape) - array.ndim
    return {axis + leading for axis, n in enumerate(array.shape) if n != 1}


def _group(
    axes: list[int], spans: list[int], arrays: Mapping[int, Integers], broadcast_shape: tuple[int, ...]
) -> Group:
    sizes = tuple(broadcast_shape[span] for span in spans)
    flat = []
    for axis in axes:
        array = arrays[axis]
        aligned_shape = (1,) * (len(broadcast_shape) - array.ndim) + array.shape
        forecast("the tables of this selection", prod(sizes))
        flat.append(np.broadcast_to(array.reshape([aligned_shape[span] for span in spans]), sizes).reshape(-1))
    return Group(tuple(axes), tuple(flat), tuple(spans))


def _result_parts(items: Sequence[Item], has_arrays: bool) -> list[Part]:
    """The origins of the axes of the result, in order.

    NumPy's rule: the axes of the index arrays (next to arrays, integers count as arrays) take the place of the first
    array if all arrays are neighbours, else they come first.
    """
    array_places = [k for k, item in enumerate(items) if has_arrays and isinstance(item, int | np.ndarray)]
    parts: list[Part] = []
    axis = 0
    for k, item in enumerate(items):
        if array_places and k == array_places[0]:
            parts.append(...)
        if item is None:
            parts.append(None)
        elif isinstance(item, slice):
            parts.append(axis)
        axis += item is not None
    if array_places and array_places[-1] - array_places[0] + 1 > len(array_places):
        parts = [..., *(part for part in parts if part is not ...)]
    return parts


def _sizes(part: Part, ranges: Mapping[int, range], broadcast_shape: tuple[int, ...]) -> tuple[int, ...]:
    if part is ...:
        return broadcast_shape
    return (1,) if part is None else (len(ranges[part]),)


def _take_positions(
    term: Term, shape: tuple[int, ...], cuts: Mapping[int, range], groups: Sequence[Group]
) -> Term | None:
    """Read a term at the chosen positions; the result of each group of index arrays lies on its first axis."""
    selected: Term | None = term
    for axis, positions in cuts.items():
        if selected is not None and (len(positions) < shape[axis] or positions.step != 1):
            selected = cut(selected, axis, positions)
    for group in groups:
        if selected is not None:
            selected = gather(selected, group.axes, group.indices)
    return selected


def _place_axes(
    term: Term | None,
    ranges: Mapping[int, range],
    groups: Sequence[Group],
    broadcast_shape: tuple[int, ...],
    parts: Sequence[Part],
) -> Term | None:
    """Move the axes of a term to their places in the result."""
    if term is None:
        return None
    first_axes = _first_axes(parts, len(broadcast_shape))
    first_array_axis = first_axes.get(..., 0)
    if all(len(group.spans) == 1 for group in groups):
        places = [first_axes.get(axis) for axis in range(len(term.start))]
        for group in groups:
            places[group.axes[0]] = first_array_axis + group.spans[0]
        return relabel(term, places, _axis_count(parts, len(broadcast_shape)))
    sliced = list(ranges)
    places = [sliced.index(axis) if axis in ranges else None for axis in range(len(term.start))]
    for number, group in enumerate(groups):
        places[group.axes[0]] = len(sliced) + number
    sizes = [[broadcast_shape[span] for span in group.spans] for group in groups]
    flat = [*(len(ranges[axis]) for axis in sliced), *(prod(size) for size in sizes)]
    unflattened = [*(len(ranges[axis]) for axis in sliced), *(n for size in sizes for n in size)]
    unflat_term = reshape(relabel(term, places, len(flat)), flat, unflattened)
    spans = [first_array_axis + span for group in groups for span in group.spans]
    return relabel(
        unflat_term, [*(first_axes[axis] for axis in sliced), *spans], _axis_count(parts, len(broadcast_shape))
    )


def _first_axes(parts: Sequence[Part], block: int) -> dict[Part, int]:
    """The first axis of the result for each part."""
    places: dict[Part, int] = {}
    place = 0
    for part in parts:
        if part is not None:
            places[part] = place
        place += block if part is ... else 1
    return places


def _axis_count(parts: Sequence[Part], block: int) -> int:
    return sum(block if part is ... else 1 for part in parts)
