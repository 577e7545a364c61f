"""A checked index applied: which axes of the result come from where, by NumPy's rule for index arrays."""

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
"""One axis of a checked index: a position, a slice, a new axis, or positions (of any shape), none negative."""

Part: TypeAlias = int | EllipsisType | None
"""Where axes of the result come from: a source axis that was sliced, nowhere, or (`...`) the index arrays."""


@dataclass(frozen=True, slots=True)
class Group:
    """Index arrays that vary together: on `axes`, along the axes `spans` of the broadcast of all arrays.

    Arrays of different groups vary apart, as those of `numpy.ix_` do; each group then costs tables of its own length.
    """

    axes: tuple[int, ...]
    indices: tuple[Integers, ...]
    spans: tuple[int, ...]


def select(affine: Affine, items: Sequence[Item], wording: Wording) -> Affine:
    """`affine[items]` for one item an axis and any number of new axes."""
    by_axis = dict(enumerate(item for item in items if item is not None))
    arrays = {axis: item for axis, item in by_axis.items() if isinstance(item, np.ndarray)}
    together = _together(arrays, wording)
    groups = _groups(arrays, together)
    ranges = {a: range(affine.shape[a])[item] for a, item in by_axis.items() if isinstance(item, slice)}
    single = {a: int(item.reshape(())) for a, item in arrays.items() if item.size == 1}
    picks = {a: item for a, item in by_axis.items() if isinstance(item, int)} | single
    cuts = ranges | {a: range(position, position + 1) for a, position in picks.items()}
    parts = _parts(items, bool(arrays))
    shape = [n for part in parts for n in (_sizes(part, ranges, together))]
    if 0 in shape:
        return assemble(shape, (), 0.0, affine.epsilon, wording)
    terms = [
        _placed(_taken(term, affine.shape, cuts, groups), ranges, groups, together, parts) for term in affine.terms
    ]
    constant = affine.constant
    if not isinstance(constant, float):
        if arrays:
            forecast("the constants of this selection", prod(shape))
        constant = np.broadcast_to(constant, affine.shape)[tuple(items)]
    return assemble(shape, terms, constant, affine.epsilon, wording)


def _together(arrays: Mapping[int, Integers], wording: Wording) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in arrays.values())
        raise ShapeError(
            f"the index arrays in ({say(wording)}) have shapes {shapes}, which do not broadcast."
        ) from None


def _groups(arrays: Mapping[int, Integers], together: tuple[int, ...]) -> list[Group]:
    spans = {axis: _spans(array, together) for axis, array in arrays.items() if array.size != 1}
    groups: list[tuple[set[int], set[int]]] = []
    for axis, spanned in spans.items():
        joined = [group for group in groups if group[1] & spanned]
        groups = [group for group in groups if group not in joined]
        groups.append(({axis}.union(*(g[0] for g in joined)), spanned.union(*(g[1] for g in joined))))
    return [_group(sorted(axes), sorted(spanned), arrays, together) for axes, spanned in groups]


def _spans(array: Integers, together: tuple[int, ...]) -> set[int]:
    ahead = len(together) - array.ndim
    return {axis + ahead for axis, n in enumerate(array.shape) if n != 1}


def _group(axes: list[int], spans: list[int], arrays: Mapping[int, Integers], together: tuple[int, ...]) -> Group:
    sizes = tuple(together[span] for span in spans)
    flat = []
    for axis in axes:
        array = arrays[axis]
        aligned = (1,) * (len(together) - array.ndim) + array.shape
        forecast("the tables of this selection", prod(sizes))
        flat.append(np.broadcast_to(array.reshape([aligned[span] for span in spans]), sizes).reshape(-1))
    return Group(tuple(axes), tuple(flat), tuple(spans))


def _parts(items: Sequence[Item], fancy: bool) -> list[Part]:
    """Where the axes of the result come from.

    NumPy's rule: the axes of the index arrays (integers beside arrays count as such) stand where the first one stood
    if all were neighbours, else in front.
    """
    advanced = [k for k, item in enumerate(items) if fancy and isinstance(item, int | np.ndarray)]
    parts: list[Part] = []
    axis = 0
    for k, item in enumerate(items):
        if advanced and k == advanced[0]:
            parts.append(...)
        if item is None:
            parts.append(None)
        elif isinstance(item, slice):
            parts.append(axis)
        axis += item is not None
    if advanced and advanced[-1] - advanced[0] + 1 > len(advanced):
        parts = [..., *(part for part in parts if part is not ...)]
    return parts


def _sizes(part: Part, ranges: Mapping[int, range], together: tuple[int, ...]) -> tuple[int, ...]:
    if part is ...:
        return together
    return (1,) if part is None else (len(ranges[part]),)


def _taken(term: Term, shape: tuple[int, ...], cuts: Mapping[int, range], groups: Sequence[Group]) -> Term | None:
    """The term at the chosen positions, every group of index arrays along its first axis."""
    taken: Term | None = term
    for axis, positions in cuts.items():
        if taken is not None and (len(positions) < shape[axis] or positions.step != 1):
            taken = cut(taken, axis, positions)
    for group in groups:
        if taken is not None:
            taken = gather(taken, group.axes, group.indices)
    return taken


def _placed(
    term: Term | None,
    ranges: Mapping[int, range],
    groups: Sequence[Group],
    together: tuple[int, ...],
    parts: Sequence[Part],
) -> Term | None:
    """The term with its axes at their places in the result."""
    if term is None:
        return None
    final = _final_axes(parts, len(together))
    block = final.get(..., 0)
    if all(len(group.spans) == 1 for group in groups):
        places = [final.get(axis) for axis in range(len(term.start))]
        for group in groups:
            places[group.axes[0]] = block + group.spans[0]
        return relabel(term, places, _count(parts, len(together)))
    sliced = list(ranges)
    places = [sliced.index(axis) if axis in ranges else None for axis in range(len(term.start))]
    for number, group in enumerate(groups):
        places[group.axes[0]] = len(sliced) + number
    sizes = [[together[span] for span in group.spans] for group in groups]
    flat = [*(len(ranges[axis]) for axis in sliced), *(prod(size) for size in sizes)]
    whole = [*(len(ranges[axis]) for axis in sliced), *(n for size in sizes for n in size)]
    spread = reshape(relabel(term, places, len(flat)), flat, whole)
    spans = [block + span for group in groups for span in group.spans]
    return relabel(spread, [*(final[axis] for axis in sliced), *spans], _count(parts, len(together)))


def _final_axes(parts: Sequence[Part], block: int) -> dict[Part, int]:
    """The axis of the result where each part begins."""
    places: dict[Part, int] = {}
    place = 0
    for part in parts:
        if part is not None:
            places[part] = place
        place += block if part is ... else 1
    return places


def _count(parts: Sequence[Part], block: int) -> int:
    return sum(block if part is ... else 1 for part in parts)
